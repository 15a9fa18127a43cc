package av1

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

// MaxConfig bounds a configuration record; one with HDR metadata has about 100
// bytes.
const MaxConfig = 1 << 16

// configHead is the size of a configuration record without units (§2.3.3 of
// the file format binding).
const configHead = 4

var (
	errConfigShort   = errors.New("av1: the configuration record ends too early")
	errConfigVersion = errors.New("av1: the configuration record is not of version 1")
)

// Track describes a stream with this configuration record. When the record
// holds no sequence header, as some senders leave it to the first key frame,
// the track has no size yet: Update gives it one. ID, TimeScale and Language
// are left to the caller; config is not kept. Errors are fault.BadMedia.
func Track(config []byte) (*media.Track, error) {
	var err error
	switch {
	case len(config) < configHead || len(config) > MaxConfig:
		err = errConfigShort
	case config[0] != 0x81: // marker, version
		err = errConfigVersion
	default:
		s := scan(config[configHead:])
		for s.next() {
		}
		err = s.err
	}
	if err != nil {
		return nil, fault.New(fault.BadMedia, "the AV1 configuration cannot be read; restart the encoder").Because(err)
	}
	t := &media.Track{Kind: media.Video, Codec: media.AV1, Config: bytes.Clone(config)}
	if b := findSequence(config[configHead:]); b != nil {
		s, err := ParseSequence(b)
		if err != nil {
			return nil, err
		}
		copy(t.Config, s.appendHead(nil)) // a head that contradicts its units misleads players
		s.describe(t)
	}
	return t, nil
}

// describe tells the track what the sequence header says.
func (s *Sequence) describe(t *media.Track) {
	t.CodecString = s.CodecString()
	t.Video.Width, t.Video.Height, t.Video.FrameRate = s.Width, s.Height, s.FrameRate
	t.Video.Color = s.Color
}

// appendHead appends the first bytes of a configuration record.
func (s *Sequence) appendHead(dst []byte) []byte {
	flag := func(b bool, shift int) byte {
		if b {
			return 1 << shift
		}
		return 0
	}
	return append(dst, 0x81, s.Profile<<5|s.Level,
		flag(s.HighTier, 7)|flag(s.BitDepth > 8, 6)|flag(s.BitDepth == 12, 5)|flag(s.Monochrome, 4)|
			flag(s.SubX, 3)|flag(s.SubY, 2)|s.ChromaPosition,
		0) // no initial presentation delay
}

// CodecString is the name of a stream with this sequence header, such as
// "av01.0.04M.08", with the colours where they are said (§5 of the file format
// binding).
func (s *Sequence) CodecString() string {
	tier := byte('M')
	if s.HighTier {
		tier = 'H'
	}
	name := fmt.Sprintf("av01.%d.%02d%c.%02d", s.Profile, s.Level, tier, s.BitDepth)
	c := s.Color
	if !s.described || c == media.NewColor(1, 1, 1, false) && s.SubX && s.SubY && !s.Monochrome {
		return name // the optional fields have their defaults
	}
	bit := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	position := uint8(0)
	if s.SubX && s.SubY {
		position = s.ChromaPosition
	}
	return name + fmt.Sprintf(".%d.%d%d%d.%02d.%02d.%02d.%d", bit(s.Monochrome), bit(s.SubX), bit(s.SubY), position,
		orUnspecified(c.Primaries), orUnspecified(c.Transfer), orUnspecified(c.Matrix), bit(c.FullRange))
}

func orUnspecified(v uint8) uint8 {
	if v == 0 {
		return 2
	}
	return v
}

// Update takes the sequence header that stands inside a payload, which
// NormalizePayload reported as Info.Sequence. When it is the one t has, as
// with encoders that repeat it in every key frame, t itself is returned, else
// another track. t may be nil. payload is not kept. Errors are fault.BadMedia.
func Update(t *media.Track, payload []byte) (*media.Track, error) {
	b := findSequence(payload)
	if b == nil || t != nil && t.Video.Width > 0 && bytes.Equal(findSequence(t.Config[configHead:]), b) {
		return t, nil
	}
	s, err := ParseSequence(b)
	if err != nil {
		return nil, err
	}
	n := &media.Track{Kind: media.Video, Codec: media.AV1}
	if t != nil {
		*n = *t
	}
	n.Config = append(s.appendHead(nil), byte(OBUSequenceHeader)<<3|2)
	n.Config = append(appendLEB128(n.Config, len(b)), b...)
	s.describe(n)
	return n, nil
}

// Package flac reads and writes what a server needs of FLAC (RFC 9639): the
// STREAMINFO block, the configuration of the file format ("Encapsulation of
// FLAC in ISO Base Media File Format" §3.3.2) and the header of a frame.
//
// Track is the function to read first: it turns the configuration a sender
// gives into a media.Track.
package flac

import (
	"errors"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/bits"
)

const (
	// CodecString is the RFC 6381 name.
	CodecString = "fLaC"
	// MaxConfig bounds a configuration; metadata behind STREAMINFO, such as
	// pictures, is left out of what is kept.
	MaxConfig = 1 << 20

	marker      = "fLaC"
	blockHead   = 4
	infoSize    = 34 // of STREAMINFO
	lastBlock   = 0x80
	versionSize = 4 // version and flags of the box
)

var (
	errShort = errors.New("flac: the stream information is too short")
	errOrder = errors.New("flac: the first metadata block is not the stream information")
	errRate  = errors.New("flac: the sample rate is 0")
)

// Config is what is read of a STREAMINFO block (RFC 9639 §8.2).
type Config struct {
	// MinBlock and MaxBlock are how many samples a frame holds.
	MinBlock, MaxBlock int
	SampleRate         int // Hz
	Channels           int
	BitsPerSample      int
	// Info is the whole block without its head. That of a parsed configuration
	// is a view of it.
	Info []byte
}

// ParseConfig finds the STREAMINFO block in any of the forms that senders give
// it: alone, behind its block head, behind the marker of a file, or in the
// body of a dfLa box. It keeps a view of b. Errors are fault.BadMedia.
func ParseConfig(b []byte) (Config, error) {
	c, err := parseConfig(b)
	if err != nil {
		return Config{}, fault.New(fault.BadMedia, "the FLAC configuration cannot be read; restart the encoder").Because(err)
	}
	return c, nil
}

func parseConfig(b []byte) (c Config, err error) {
	if len(b) > MaxConfig {
		return c, errShort
	}
	switch {
	case len(b) >= len(marker) && string(b[:len(marker)]) == marker:
		b = b[len(marker):]
	case len(b) >= versionSize+blockHead+infoSize && b[0]|b[1]|b[2]|b[3] == 0:
		b = b[versionSize:]
	}
	if len(b) != infoSize {
		if len(b) < blockHead+infoSize {
			return c, errShort
		}
		if b[0]&^lastBlock != 0 || b[1] != 0 || b[2] != 0 || b[3] != infoSize {
			return c, errOrder
		}
		b = b[blockHead : blockHead+infoSize]
	}
	r := bits.NewReader(b)
	c.MinBlock, c.MaxBlock = int(r.U(16)), int(r.U(16))
	r.Skip(48)
	c.SampleRate, c.Channels, c.BitsPerSample = int(r.U(20)), int(r.U(3))+1, int(r.U(5))+1
	c.Info = b[:infoSize:infoSize]
	if c.SampleRate == 0 {
		return c, errRate
	}
	return c, r.Err()
}

// Append appends the body of a dfLa box.
func (c *Config) Append(dst []byte) []byte {
	return append(append(dst, 0, 0, 0, 0, lastBlock, 0, 0, infoSize), c.Info...)
}

// Samples is how many samples a frame holds for each channel; 0 when its
// header cannot be read (§9.1). It allocates nothing and does not keep frame.
func Samples(frame []byte) int {
	if len(frame) < 5 || frame[0] != 0xff || frame[1]&0xfe != 0xf8 {
		return 0
	}
	switch code := int(frame[2] >> 4); {
	case code == 0:
		return 0
	case code == 1:
		return 192
	case code < 6:
		return 144 << code
	case code >= 8:
		return 1 << code
	default: // 6 and 7: 8 or 16 bits behind the coded number, whose first byte says its length
		at := 4 + codedLength(frame[4])
		if len(frame) < at+code-5 {
			return 0
		}
		if code == 6 {
			return int(frame[at]) + 1
		}
		return (int(frame[at])<<8 | int(frame[at+1])) + 1
	}
}

// codedLength is the size of a coded number by its first byte (§9.1.5).
func codedLength(first byte) int {
	n := 0
	for first&0x80 != 0 {
		n++
		first <<= 1
	}
	return max(1, n)
}

// Track describes a stream with this configuration. ID, TimeScale and Language
// are left to the caller; config is not kept. Errors are fault.BadMedia.
func Track(config []byte) (*media.Track, error) {
	c, err := ParseConfig(config)
	if err != nil {
		return nil, err
	}
	t := &media.Track{
		Kind: media.Audio, Codec: media.FLAC, Config: c.Append(nil), CodecString: CodecString,
		Audio: media.AudioInfo{SampleRate: c.SampleRate, Channels: c.Channels},
	}
	if c.MinBlock == c.MaxBlock {
		t.Audio.FrameSamples = c.MaxBlock
	}
	return t, nil
}

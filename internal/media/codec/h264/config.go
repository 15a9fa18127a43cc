package h264

import (
	"errors"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media/codec/nal"
)

// Limits of a configuration record (14496-15 §5.3.3.1.2): the widths of its
// counts.
const (
	maxSPS    = 31
	maxPPS    = 255
	maxSPSExt = 255
	// MaxConfig bounds a configuration record as a whole.
	MaxConfig = 1 << 20
)

var (
	errConfigShort   = errors.New("h264: the configuration record ends too early")
	errConfigVersion = errors.New("h264: the configuration record is not of version 1")
	errConfigSets    = errors.New("h264: too many parameter sets")
	errConfigSize    = errors.New("h264: a parameter set is empty, too long or of the wrong kind")
)

// Config is an AVCDecoderConfigurationRecord (14496-15 §5.3.3.1). Profile,
// level and formats are not in it: they are those of the parameter sets.
type Config struct {
	// LengthSize is the size of the length before each NAL unit, 1 to 4 bytes.
	LengthSize int
	// SPS, PPS and SPSExt are NAL units, header byte included. Those of a parsed
	// record are views of it.
	SPS, PPS, SPSExt [][]byte
}

// ParseConfig reads a configuration record. It keeps views of b. Bytes behind
// the record are ignored, and so is the extension of the High profiles when it
// is missing: senders leave it out. Errors are fault.BadMedia.
func ParseConfig(b []byte) (Config, error) {
	c, err := parseConfig(b)
	if err != nil {
		return Config{}, fault.New(fault.BadMedia, "the H.264 configuration cannot be read; restart the encoder").Because(err)
	}
	return c, nil
}

func parseConfig(b []byte) (c Config, err error) {
	if len(b) < 6 || len(b) > MaxConfig {
		return c, errConfigShort
	}
	if b[0] != 1 {
		return c, errConfigVersion
	}
	profile := b[1]
	c.LengthSize = int(b[4]&3) + 1
	if c.SPS, b, err = cutSets(b[5:], 0x1f, NALSPS); err != nil {
		return c, err
	}
	if c.PPS, b, err = cutSets(b, 0xff, NALPPS); err != nil {
		return c, err
	}
	if extended(profile) && len(b) >= 4 {
		if c.SPSExt, _, err = cutSets(b[3:], 0xff, NALSPSExt); err != nil {
			return c, err
		}
	}
	return c, nil
}

// extended: the record ends with chroma format, bit depths and extensions.
func extended(profile uint8) bool { return profile != 66 && profile != 77 && profile != 88 }

// cutSets reads a count and as many parameter sets, each behind 16 bits of
// length.
func cutSets(b []byte, mask byte, t NALType) (sets [][]byte, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errConfigShort
	}
	n := int(b[0] & mask)
	b = b[1:]
	for range n {
		if len(b) < 2 {
			return nil, nil, errConfigShort
		}
		size := int(b[0])<<8 | int(b[1])
		if size > len(b)-2 {
			return nil, nil, errConfigShort
		}
		set := b[2 : 2+size : 2+size]
		if size == 0 || typeOf(set) != t {
			return nil, nil, errConfigSize
		}
		sets, b = append(sets, set), b[2+size:]
	}
	return sets, b, nil
}

// Append appends the configuration record to dst. There must be at least one
// SPS; its profile and formats go into the head of the record. Errors are
// fault.BadMedia.
func (c *Config) Append(dst []byte) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, fault.New(fault.BadMedia, "the H.264 configuration cannot be used; restart the encoder").Because(err)
	}
	if len(c.SPS) == 0 {
		return nil, fault.New(fault.BadMedia, "the H.264 configuration holds no sequence parameter set (SPS); restart the encoder")
	}
	s, err := ParseSPS(c.SPS[0])
	if err != nil {
		return nil, err
	}
	dst = append(dst, 1, s.Profile, s.Flags, s.Level, 0xfc|byte(c.LengthSize-1))
	dst = appendSets(dst, 0xe0, c.SPS)
	dst = appendSets(dst, 0, c.PPS)
	if extended(s.Profile) {
		dst = append(dst, 0xfc|byte(s.ChromaFormat), 0xf8|byte(s.BitDepthLuma-8), 0xf8|byte(s.BitDepthChroma-8))
		dst = appendSets(dst, 0, c.SPSExt)
	}
	return dst, nil
}

func (c *Config) check() error {
	if c.LengthSize < 1 || c.LengthSize > 4 {
		return nal.ErrLengthSize
	}
	if len(c.SPS) > maxSPS || len(c.PPS) > maxPPS || len(c.SPSExt) > maxSPSExt {
		return errConfigSets
	}
	for _, group := range [...]struct {
		sets [][]byte
		t    NALType
	}{{c.SPS, NALSPS}, {c.PPS, NALPPS}, {c.SPSExt, NALSPSExt}} {
		for _, set := range group.sets {
			if len(set) == 0 || len(set) > MaxParameterSet || typeOf(set) != group.t {
				return errConfigSize
			}
		}
	}
	return nil
}

func appendSets(dst []byte, reserved byte, sets [][]byte) []byte {
	dst = append(dst, reserved|byte(len(sets)))
	for _, s := range sets {
		dst = append(dst, byte(len(s)>>8), byte(len(s)))
		dst = append(dst, s...)
	}
	return dst
}

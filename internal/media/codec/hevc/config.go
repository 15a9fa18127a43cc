package hevc

import (
	"errors"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media/codec/nal"
)

// Limits of a configuration record.
const (
	// MaxConfig bounds a configuration record as a whole.
	MaxConfig = 1 << 20
	// MaxParameterSet bounds a parameter set; the record counts its length in 16
	// bits.
	MaxParameterSet = 1<<16 - 1

	// maxSets bounds the NAL units of one kind. There can be 16 VPS, 16 SPS and
	// 64 PPS (H.265 §7.4.3); a SEI may come in several units.
	maxSets    = 64
	configHead = 23 // bytes before the arrays
)

var (
	errConfigShort   = errors.New("hevc: the configuration record ends too early")
	errConfigVersion = errors.New("hevc: the configuration record is not of version 1")
	errConfigSets    = errors.New("hevc: too many parameter sets")
	errConfigSize    = errors.New("hevc: a parameter set is empty, too long or of the wrong kind")
)

// Config is an HEVCDecoderConfigurationRecord (14496-15 §8.3.3.1). Profile,
// level and formats are not in it: they are those of the parameter sets.
type Config struct {
	// LengthSize is the size of the length before each NAL unit, 1 to 4 bytes.
	LengthSize int
	// VPS, SPS, PPS and SEI are NAL units, header included; SEI are the prefix
	// SEI that hold for the whole stream. Those of a parsed record are views of
	// it.
	VPS, SPS, PPS, SEI [][]byte
}

// ParseConfig reads a configuration record. It keeps views of b. Arrays of
// other kinds and bytes behind the record are ignored. Version 0, which old
// encoders write, is read like 1. Errors are fault.BadMedia.
func ParseConfig(b []byte) (Config, error) {
	c, err := parseConfig(b)
	if err != nil {
		return Config{}, fault.New(fault.BadMedia, "the HEVC configuration cannot be read; restart the encoder").Because(err)
	}
	return c, nil
}

func parseConfig(b []byte) (c Config, err error) {
	if len(b) < configHead || len(b) > MaxConfig {
		return c, errConfigShort
	}
	if b[0] > 1 {
		return c, errConfigVersion
	}
	c.LengthSize = int(b[21]&3) + 1
	arrays := int(b[22])
	b = b[configHead:]
	for range arrays {
		if len(b) < 3 {
			return c, errConfigShort
		}
		t, n := NALType(b[0]&0x3f), int(b[1])<<8|int(b[2])
		b = b[3:]
		into := c.array(t)
		for range n {
			if len(b) < 2 {
				return c, errConfigShort
			}
			size := int(b[0])<<8 | int(b[1])
			if size > len(b)-2 {
				return c, errConfigShort
			}
			set := b[2 : 2+size : 2+size]
			b = b[2+size:]
			switch {
			case into == nil:
				continue
			case size <= headSize || typeOf(set) != t:
				return c, errConfigSize
			case len(*into) >= maxSets:
				return c, errConfigSets
			}
			*into = append(*into, set)
		}
	}
	return c, nil
}

// array is where NAL units of a kind are kept, nil: nowhere.
func (c *Config) array(t NALType) *[][]byte {
	switch t {
	case NALVPS:
		return &c.VPS
	case NALSPS:
		return &c.SPS
	case NALPPS:
		return &c.PPS
	case NALPrefixSEI:
		return &c.SEI
	}
	return nil
}

// Append appends the configuration record to dst. There must be at least one
// SPS; its profile and formats go into the head of the record. Errors are
// fault.BadMedia.
func (c *Config) Append(dst []byte) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, fault.New(fault.BadMedia, "the HEVC configuration cannot be used; restart the encoder").Because(err)
	}
	if len(c.SPS) == 0 {
		return nil, fault.New(fault.BadMedia, "the HEVC configuration holds no sequence parameter set (SPS); restart the encoder")
	}
	s, err := ParseSPS(c.SPS[0])
	if err != nil {
		return nil, err
	}
	dst = append(dst, 1)
	dst = s.Profile.append(dst)
	nested := byte(0)
	if s.TemporalNesting {
		nested = 1
	}
	dst = append(dst,
		0xf0, 0, // min_spatial_segmentation_idc: not said
		0xfc, // parallelismType: not said
		0xfc|byte(s.ChromaFormat), 0xf8|byte(s.BitDepthLuma-8), 0xf8|byte(s.BitDepthChroma-8),
		0, 0, // avgFrameRate: not said
		byte(s.TemporalLayers)<<3|nested<<2|byte(c.LengthSize-1))
	at := len(dst)
	dst = append(dst, 0)
	for _, a := range c.arrays() {
		if len(a.sets) == 0 {
			continue
		}
		dst[at]++
		complete := byte(0x80) // array_completeness: 'hvc1' has all sets here
		if a.t == NALPrefixSEI {
			complete = 0
		}
		dst = append(dst, complete|byte(a.t), 0, byte(len(a.sets)))
		for _, set := range a.sets {
			dst = append(dst, byte(len(set)>>8), byte(len(set)))
			dst = append(dst, set...)
		}
	}
	return dst, nil
}

// array is the NAL units of one kind.
type array struct {
	t    NALType
	sets [][]byte
}

func (c *Config) arrays() [4]array {
	return [4]array{{NALVPS, c.VPS}, {NALSPS, c.SPS}, {NALPPS, c.PPS}, {NALPrefixSEI, c.SEI}}
}

func (c *Config) check() error {
	if c.LengthSize < 1 || c.LengthSize > 4 {
		return nal.ErrLengthSize
	}
	for _, a := range c.arrays() {
		if len(a.sets) > maxSets {
			return errConfigSets
		}
		for _, set := range a.sets {
			if len(set) <= headSize || len(set) > MaxParameterSet || typeOf(set) != a.t {
				return errConfigSize
			}
		}
	}
	return nil
}

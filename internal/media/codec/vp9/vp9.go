// Package vp9 reads what a server needs of VP9 (VP9 Bitstream & Decoding
// Process Specification) and of its file format (VP Codec ISO Media File
// Format Binding): configuration records and the headers of frames.
//
// Track is the function to read first: it turns the configuration a sender
// gives into a media.Track, which gets its size from the first key frame
// through Update.
package vp9

import (
	"errors"
	"fmt"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/bits"
)

const (
	// MaxConfig bounds a configuration record.
	MaxConfig = 1 << 10

	versionSize = 4 // version and flags of the box
	recordSize  = 8 // without codec initialization data, which VP9 has none of
	syncCode    = 0x498342
)

// The chroma subsampling of a configuration record.
const (
	chroma420 = 1 // collocated with (0,0)
	chroma422 = 2
	chroma444 = 3
)

var (
	errConfigShort = errors.New("vp9: the configuration record ends too early")
	errFrame       = errors.New("vp9: this is not a frame")
	errSync        = errors.New("vp9: a key frame has no sync code")
)

// Config is a VPCodecConfigurationRecord.
type Config struct {
	Profile, Level uint8 // Level is 10 times the level; 0 when not known
	BitDepth       uint8 // 8, 10 or 12
	Chroma         uint8 // chroma subsampling
	Color          media.Color
}

// ParseConfig reads a configuration record, with the version of its box in
// front as the file format has it, or without, as some senders do. Errors are
// fault.BadMedia.
func ParseConfig(b []byte) (Config, error) {
	if len(b) >= versionSize+recordSize && b[0] == 1 && b[1] == 0 && b[2] == 0 && b[3] == 0 {
		b = b[versionSize:]
	}
	if len(b) < recordSize || len(b) > MaxConfig {
		return Config{}, fault.New(fault.BadMedia, "the VP9 configuration cannot be read; restart the encoder").Because(errConfigShort)
	}
	return Config{Profile: b[0], Level: b[1], BitDepth: b[2] >> 4, Chroma: b[2] >> 1 & 7,
		Color: media.NewColor(b[3], b[4], b[5], b[2]&1 == 1)}, nil
}

// Append appends the body of a 'vpcC' box.
func (c *Config) Append(dst []byte) []byte {
	full := byte(0)
	if c.Color.FullRange {
		full = 1
	}
	return append(dst, 1, 0, 0, 0, c.Profile, c.Level, c.BitDepth<<4|c.Chroma<<1|full,
		orUnspecified(c.Color.Primaries), orUnspecified(c.Color.Transfer), orUnspecified(c.Color.Matrix), 0, 0)
}

func orUnspecified(v uint8) uint8 {
	if v == 0 {
		return 2
	}
	return v
}

// CodecString is the name of a stream with this configuration, such as
// "vp09.00.30.08", with the colours where they are said.
func (c *Config) CodecString() string {
	name := fmt.Sprintf("vp09.%02d.%02d.%02d", c.Profile, c.Level, c.BitDepth)
	if k := c.Color; k.Primaries > 0 || k.Transfer > 0 || k.Matrix > 0 {
		full := 0
		if k.FullRange {
			full = 1
		}
		name += fmt.Sprintf(".%02d.%02d.%02d.%02d.%02d", c.Chroma,
			orUnspecified(k.Primaries), orUnspecified(k.Transfer), orUnspecified(k.Matrix), full)
	}
	return name
}

// Frame is what the uncompressed header of a frame tells (§6.2). Of a
// superframe it is the first frame.
type Frame struct {
	Key      bool // decoding can start here
	Profile  uint8
	BitDepth uint8 // of a key frame, and so below
	Chroma   uint8
	Color    media.Color
	// Width and Height in pixels.
	Width, Height int
}

// ParseFrame reads the header of a frame. It allocates nothing and does not
// keep b. Errors are fault.BadMedia.
func ParseFrame(b []byte) (Frame, error) {
	r := bits.NewReader(b)
	var f Frame
	if r.U(2) != 2 { // frame_marker
		r.Fail(errFrame)
	}
	f.Profile = uint8(r.U(1) | r.U(1)<<1) //nolint:gosec // 2 bits
	if f.Profile == 3 {
		r.Skip(1)
	}
	if existing := r.Flag(); !existing {
		f.Key = !r.Flag() // frame_type
		r.Skip(2)         // show_frame, error_resilient_mode
	}
	if f.Key {
		if r.U(24) != syncCode {
			r.Fail(errSync)
		}
		f.readColor(&r)
		f.Width, f.Height = int(r.U(16))+1, int(r.U(16))+1
	}
	if err := r.Err(); err != nil {
		return Frame{}, fault.New(fault.BadMedia, "a VP9 packet cannot be read").Because(err)
	}
	return f, nil
}

// colorSpaces gives the H.273 indices for color_space (table in §7.2.2).
var colorSpaces = [8]media.Color{
	1: {Primaries: 6, Transfer: 6, Matrix: 6}, // BT.601
	2: {Primaries: 1, Transfer: 1, Matrix: 1}, // BT.709
	3: {Primaries: 6, Transfer: 6, Matrix: 6}, // SMPTE 170
	4: {Primaries: 7, Transfer: 7, Matrix: 7}, // SMPTE 240
	5: {Primaries: 9, Transfer: 0, Matrix: 9}, // BT.2020, of whichever transfer
}

const spaceRGB = 7

// readColor is color_config() (§6.2.2).
func (f *Frame) readColor(r *bits.Reader) {
	f.BitDepth = 8
	if f.Profile >= 2 {
		f.BitDepth = 10
		if r.Flag() {
			f.BitDepth = 12
		}
	}
	odd := f.Profile&1 == 1
	f.Chroma = chroma420
	space := r.U(3)
	if space == spaceRGB {
		f.Chroma, f.Color.FullRange = chroma444, true
		if odd {
			r.Skip(1)
		}
		return
	}
	f.Color = colorSpaces[space]
	f.Color.FullRange = r.Flag()
	if odd {
		x, y := r.Flag(), r.Flag()
		r.Skip(1)
		switch {
		case !x:
			f.Chroma = chroma444
		case !y:
			f.Chroma = chroma422
		}
	}
}

// levels are the largest pictures of the levels, in pixels (annex A).
var levels = [...]struct {
	pixels int
	level  uint8
}{
	{36864, 10}, {73728, 11}, {122880, 20}, {245760, 21}, {552960, 30},
	{983040, 31}, {2228224, 40}, {8912896, 50}, {35651584, 60},
}

// level is the lowest that holds a picture of this size.
func level(width, height int) uint8 {
	for _, l := range levels {
		if width*height <= l.pixels {
			return l.level
		}
	}
	return 62
}

// Track describes a stream with this configuration record. It has no size:
// Update gives it one. ID, TimeScale and Language are left to the caller;
// config is not kept. Errors are fault.BadMedia.
func Track(config []byte) (*media.Track, error) {
	c, err := ParseConfig(config)
	if err != nil {
		return nil, err
	}
	return &media.Track{Kind: media.Video, Codec: media.VP9, Config: c.Append(nil), CodecString: c.CodecString(),
		Video: media.VideoInfo{Color: c.Color}}, nil
}

// Update takes size and format of a key frame. When they are those of t, t
// itself is returned, else another track. t may be nil. What the
// configuration says and a frame cannot, its level and its transfer
// characteristics, stays while the size does. payload is not kept. Errors are
// fault.BadMedia.
func Update(t *media.Track, payload []byte) (*media.Track, error) {
	f, err := ParseFrame(payload)
	if err != nil {
		return nil, err
	}
	if !f.Key {
		return t, nil
	}
	if t != nil && t.Video.Width == f.Width && t.Video.Height == f.Height && t.Config[4] == f.Profile && t.Config[6]>>4 == f.BitDepth {
		return t, nil
	}
	c := Config{Profile: f.Profile, BitDepth: f.BitDepth, Chroma: f.Chroma, Color: f.Color}
	n := &media.Track{Kind: media.Video, Codec: media.VP9}
	if t != nil {
		*n = *t
		old, err := ParseConfig(t.Config)
		if err != nil {
			return nil, err
		}
		c.Color = old.Color.Merge(f.Color)
		if t.Video.Width == 0 {
			c.Level = old.Level
		}
	}
	if c.Level == 0 {
		c.Level = level(f.Width, f.Height)
	}
	n.Config, n.CodecString = c.Append(nil), c.CodecString()
	n.Video.Width, n.Video.Height = f.Width, f.Height
	n.Video.Color = n.Video.Color.Merge(c.Color)
	return n, nil
}

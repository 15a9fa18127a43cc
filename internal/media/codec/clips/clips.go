// Package clips holds a few seconds of every codec, as ffmpeg made and put
// them into fragmented MP4, for tests: the configurations and packets that
// parsers and doors are tried with. Nothing in the server imports it.
package clips

import (
	"bytes"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klive-media/klive/internal/media"
)

//go:embed *.mp4
var files embed.FS

// Clip is one elementary stream.
type Clip struct {
	Name  string
	Codec media.Codec
	// CodecString is what RFC 6381 calls it.
	CodecString string
	// Config is the body of the box that Codec.Info().ConfigBox names, as ffmpeg
	// wrote it; of MP3 esds.
	Config  []byte
	Scale   uint32 // ticks per second
	Samples []Sample
}

// Sample is one packet; times in ticks of the clip.
type Sample struct {
	DTS, Offset, Duration int64
	Key                   bool
	Payload               []byte
}

// table names the files.
var table = [...]Clip{
	{Name: "hevc", Codec: media.HEVC, CodecString: "hvc1.1.6.L30.90"},
	{Name: "hdr", Codec: media.HEVC, CodecString: "hvc1.2.4.L30.90"},
	{Name: "av1", Codec: media.AV1, CodecString: "av01.0.00M.08"},
	{Name: "svtav1", Codec: media.AV1, CodecString: "av01.0.00M.08"},
	{Name: "vp9", Codec: media.VP9, CodecString: "vp09.00.10.08"},
	{Name: "opus", Codec: media.Opus, CodecString: "Opus"},
	{Name: "flac", Codec: media.FLAC, CodecString: "fLaC"},
	{Name: "ac3", Codec: media.AC3, CodecString: "ac-3"},
	{Name: "eac3", Codec: media.EAC3, CodecString: "ec-3"},
	{Name: "mp3", Codec: media.MP3, CodecString: "mp4a.6B"},
}

// All are the clips.
func All() ([]Clip, error) {
	out := table
	for i := range out {
		b, err := files.ReadFile(out[i].Name + ".mp4")
		if err == nil {
			err = out[i].read(b)
		}
		if err != nil {
			return nil, fmt.Errorf("read clip %s: %w", out[i].Name, err)
		}
	}
	return out[:], nil
}

var errBox = errors.New("a box is missing or damaged")

// find gives the body of the first box of that name, wherever it stands.
func find(b []byte, name string) []byte {
	i := bytes.Index(b, []byte(name))
	if i < 4 {
		return nil
	}
	size := int(binary.BigEndian.Uint32(b[i-4:]))
	if size < 8 || i-4+size > len(b) {
		return nil
	}
	return b[i+4 : i-4+size]
}

func (c *Clip) read(b []byte) error {
	c.Config = find(b, c.Codec.Info().ConfigBox)
	mdhd := find(b, "mdhd")
	if c.Config == nil || len(mdhd) < 16 {
		return errBox
	}
	c.Scale = binary.BigEndian.Uint32(mdhd[12:])
	trex := find(b, "trex")
	for len(b) >= 8 {
		size := int(binary.BigEndian.Uint32(b))
		if size < 8 || size > len(b) {
			return errBox
		}
		if string(b[4:8]) == "moof" {
			if err := c.fragment(b, b[:size], trex); err != nil {
				return err
			}
		}
		b = b[size:]
	}
	return nil
}

// fragment reads the samples of a moof; b begins with it.
func (c *Clip) fragment(b, moof, trex []byte) error {
	tfhd, tfdt := find(moof, "tfhd"), find(moof, "tfdt")
	if len(tfhd) < 8 || len(tfdt) < 12 || len(trex) < 24 {
		return errBox
	}
	u32 := binary.BigEndian.Uint32
	duration, size, flags := u32(trex[12:]), u32(trex[16:]), u32(trex[20:])
	f, rest := u32(tfhd), tfhd[8:]
	take := func(bit uint32, into *uint32, from *[]byte) {
		if f&bit != 0 {
			*into, *from = u32(*from), (*from)[4:]
		}
	}
	take(0x8, &duration, &rest)
	take(0x10, &size, &rest)
	take(0x20, &flags, &rest)
	dts := int64(binary.BigEndian.Uint64(tfdt[4:])) //nolint:gosec // a clip lasts seconds
	trun := find(moof, "trun")
	f, rest = u32(trun), trun[8:]
	count := int(u32(trun[4:]))
	at, first := uint32(0), flags
	take(0x1, &at, &rest)
	take(0x4, &first, &rest)
	for i := range count {
		d, n, fl, offset := duration, size, flags, uint32(0)
		if i == 0 {
			fl = first
		}
		take(0x100, &d, &rest)
		take(0x200, &n, &rest)
		take(0x400, &fl, &rest)
		take(0x800, &offset, &rest)
		if int(at)+int(n) > len(b) {
			return errBox
		}
		c.Samples = append(c.Samples, Sample{DTS: dts, Offset: int64(int32(offset)), Duration: int64(d), //nolint:gosec // signed in version 1
			Key: fl&(1<<16) == 0, Payload: b[at : at+n : at+n]})
		dts += int64(d)
		at += n
	}
	return nil
}

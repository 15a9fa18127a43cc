package fmp4

import (
	"strings"

	"github.com/klive-media/klive/internal/media"
)

// The object types of esds (mp4ra.org). MP3 has one for MPEG-1 and one for the
// lower sample rates of MPEG-2, which its codec name tells.
const (
	objectAAC   = 0x40
	objectMPEG2 = 0x69
	objectMPEG1 = 0x6B
)

// elementaryStream writes esds (14496-14, 5.6; descriptors: 14496-1, 7.2.6).
func (w *writer) elementaryStream(t *media.Track) {
	const streamType = 5<<2 | 1 // audio stream, reserved bit
	object := byte(objectAAC)
	if t.Codec == media.MP3 {
		object = objectMPEG1
		if strings.HasSuffix(t.CodecString, "69") {
			object = objectMPEG2
		}
	}
	config := t.Config
	if len(config) > 64 { // an AudioSpecificConfig is a few bytes; lengths below have one byte
		config = config[:64]
	}
	info := len(config)
	decoder := 13
	if info > 0 {
		decoder += 2 + info
	}
	w.box("esds", func() {
		w.full(0)
		w.u8(3, byte(3+2+decoder+3), 0, 0, 0) // ES_Descriptor
		w.u8(4, byte(decoder), object, streamType, 0, 0, 0)
		w.u32(uint32(t.Bitrate)) //nolint:gosec // bit/s
		w.u32(uint32(t.Bitrate)) //nolint:gosec // bit/s
		if info > 0 {
			w.u8(5, byte(info))
			w.raw(config)
		}
		w.u8(6, 1, 2) // SLConfigDescriptor: MP4
	})
}

// unspecified stands for an unknown index of H.273.
const unspecified = 2

// color writes what is known of the colours: colr, mdcv and clli (14496-12,
// 12.1.5 to 12.1.7).
func (w *writer) color(c media.Color) {
	if c.Primaries != 0 || c.Transfer != 0 || c.Matrix != 0 {
		w.box("colr", func() {
			w.str("nclx")
			for _, v := range [...]uint8{c.Primaries, c.Transfer, c.Matrix} {
				if v == 0 {
					v = unspecified
				}
				w.u16(uint16(v))
			}
			full := byte(0)
			if c.FullRange {
				full = 0x80
			}
			w.u8(full)
		})
	}
	if m := c.Mastering; m != (media.Mastering{}) {
		w.box("mdcv", func() {
			for _, xy := range [...][2]uint16{m.Green, m.Blue, m.Red, m.White} {
				w.u16(xy[0])
				w.u16(xy[1])
			}
			w.u32(m.MaxLuminance)
			w.u32(m.MinLuminance)
		})
	}
	if c.MaxCLL != 0 || c.MaxFALL != 0 {
		w.box("clli", func() { w.u16(c.MaxCLL); w.u16(c.MaxFALL) })
	}
}

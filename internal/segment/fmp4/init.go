package fmp4

import (
	"fmt"

	"github.com/klive-media/klive/internal/media"
)

// VideoScale is the time scale of every video track, in ticks per second.
const VideoScale = 90000

const defaultAudioScale = 48000

// Scale is the time scale a track has in fMP4: VideoScale, or the sample rate
// of the sound.
func Scale(t *media.Track) uint32 {
	switch {
	case t.Kind == media.Video:
		return VideoScale
	case t.Audio.SampleRate > 0:
		return uint32(t.Audio.SampleRate) //nolint:gosec // a sample rate
	}
	return defaultAudioScale
}

// Init makes an init section (ftyp and moov) for the tracks. The error says
// which track cannot be carried in fMP4.
func Init(tracks ...*media.Track) ([]byte, error) {
	for _, t := range tracks {
		if t.Codec.Info().SampleEntry == "" || t.Kind != media.Video && t.Kind != media.Audio {
			return nil, fmt.Errorf("make init section: %s cannot be carried in fMP4", t)
		}
	}
	w := &writer{b: make([]byte, 0, 1024)}
	w.fileType(len(tracks))
	w.box("moov", func() {
		w.movieHeader()
		for _, t := range tracks {
			w.track(t)
		}
		w.box("mvex", func() {
			for _, t := range tracks {
				w.box("trex", func() { // 8.8.3
					w.full(0)
					w.u32(uint32(t.ID))
					w.u32(1) // sample description
					w.u32(0)
					w.u32(0)
					w.u32(0)
				})
			}
		})
	})
	return w.b, nil
}

// Merge makes one init section of several: the tracks of all, in this order.
// Their track IDs must be distinct.
func Merge(inits ...[]byte) ([]byte, error) {
	w := &writer{b: make([]byte, 0, 2048)}
	w.fileType(len(inits))
	var traks, trexes []byte
	for _, in := range inits {
		moov := child(in, "moov")
		if moov == nil {
			return nil, fmt.Errorf("merge init sections: one has no moov")
		}
		mvex := child(moov[boxHead:], "mvex")
		if mvex == nil {
			return nil, fmt.Errorf("merge init sections: one has no mvex")
		}
		traks = append(traks, child(moov[boxHead:], "trak")...)
		trexes = append(trexes, mvex[boxHead:]...)
	}
	w.box("moov", func() {
		w.movieHeader()
		w.raw(traks)
		w.box("mvex", func() { w.raw(trexes) })
	})
	return w.b, nil
}

func (w *writer) fileType(tracks int) {
	w.box("ftyp", func() {
		w.str("iso6")
		w.u32(0)
		w.str("iso6")
		w.str("mp41")
		if tracks == 1 {
			w.str("cmfc") // a CMAF track file has one track (23000-19, 7.2)
		}
	})
}

func (w *writer) matrix() {
	for _, v := range [9]uint32{1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30} {
		w.u32(v)
	}
}

func (w *writer) movieHeader() {
	w.box("mvhd", func() { // 8.2.2
		w.full(0)
		w.zero(8) // created, modified
		w.u32(1000)
		w.u32(0) // duration: in the fragments
		w.fixed(1)
		w.u16(1 << 8)
		w.zero(10)
		w.matrix()
		w.zero(24)
		w.u32(0xFFFFFFFF) // next track: look for one
	})
}

func (w *writer) track(t *media.Track) {
	w.box("trak", func() {
		w.trackHeader(t)
		w.box("mdia", func() {
			w.box("mdhd", func() { // 8.4.2
				w.full(0)
				w.zero(8)
				w.u32(Scale(t))
				w.u32(0)
				w.u16(language(t.Language))
				w.u16(0)
			})
			handler, name := "vide", "VideoHandler"
			if t.Kind == media.Audio {
				handler, name = "soun", "SoundHandler"
			}
			w.box("hdlr", func() { // 8.4.3
				w.full(0)
				w.u32(0)
				w.str(handler)
				w.zero(12)
				w.str(name)
				w.u8(0)
			})
			if t.Language != "" {
				w.box("elng", func() { // 8.4.6
					w.full(0)
					w.str(t.Language)
					w.u8(0)
				})
			}
			w.box("minf", func() { w.mediaInformation(t) })
		})
	})
}

func (w *writer) trackHeader(t *media.Track) {
	w.box("tkhd", func() { // 8.3.2
		w.full(3) // enabled, in movie
		w.zero(8)
		w.u32(uint32(t.ID))
		w.zero(4)
		w.u32(0)
		w.zero(8)
		w.u16(0)
		w.u16(0)
		if t.Kind == media.Audio {
			w.u16(1 << 8) // full volume
		} else {
			w.u16(0)
		}
		w.u16(0)
		w.matrix()
		width := t.Video.Width
		if v := t.Video; v.SARNum > 0 && v.SARDen > 0 {
			width = width * v.SARNum / v.SARDen
		}
		w.fixed(uint32(width))          //nolint:gosec // pixels
		w.fixed(uint32(t.Video.Height)) //nolint:gosec // pixels
	})
}

func (w *writer) mediaInformation(t *media.Track) {
	if t.Kind == media.Video {
		w.box("vmhd", func() { w.full(1); w.zero(8) })
	} else {
		w.box("smhd", func() { w.full(0); w.zero(4) })
	}
	w.box("dinf", func() {
		w.box("dref", func() {
			w.full(0)
			w.u32(1)
			w.box("url ", func() { w.full(1) }) // in this file
		})
	})
	w.box("stbl", func() {
		w.box("stsd", func() {
			w.full(0)
			w.u32(1)
			w.box(t.Codec.Info().SampleEntry, func() { w.sampleEntry(t) })
		})
		w.box("stts", func() { w.zero(8) })
		w.box("stsc", func() { w.zero(8) })
		w.box("stsz", func() { w.zero(12) })
		w.box("stco", func() { w.zero(8) })
	})
}

func (w *writer) sampleEntry(t *media.Track) {
	w.zero(6)
	w.u16(1) // data reference
	if t.Kind == media.Video {
		w.zero(16)
		w.u16(uint16(t.Video.Width))  //nolint:gosec // pixels
		w.u16(uint16(t.Video.Height)) //nolint:gosec // pixels
		w.fixed(72)                   // dots per inch
		w.fixed(72)
		w.u32(0)
		w.u16(1)      // frames per sample
		w.zero(32)    // compressor name
		w.u16(24)     // depth
		w.u16(0xFFFF) // pre_defined = -1
		w.codecConfig(t)
		w.color(t.Video.Color)
		if v := t.Video; v.SARNum > 0 && v.SARDen > 0 && v.SARNum != v.SARDen {
			w.box("pasp", func() { w.u32(uint32(v.SARNum)); w.u32(uint32(v.SARDen)) }) //nolint:gosec // a small ratio
		}
		return
	}
	w.zero(8)
	w.u16(uint16(t.Audio.Channels)) //nolint:gosec // channels
	w.u16(16)
	w.u32(0)
	w.fixed(Scale(t) & 0xFFFF) // 16.16; rates above 65535 do not fit and stand in the codec's own configuration
	w.codecConfig(t)
}

// codecConfig writes the box that holds the codec's configuration.
func (w *writer) codecConfig(t *media.Track) {
	switch info := t.Codec.Info(); info.ConfigBox {
	case "":
	case "esds":
		w.elementaryStream(t)
	default:
		w.box(info.ConfigBox, func() { w.raw(t.Config) })
	}
}

// language packs an ISO 639-2 code into mdhd's 15 bits; what is not three
// letters long is "und", elng says the whole tag.
func language(tag string) uint16 {
	code := "und"
	if len(tag) == 3 {
		code = tag
	}
	var v uint16
	for i := range 3 {
		v = v<<5 | uint16(code[i]-0x60)&31
	}
	return v
}

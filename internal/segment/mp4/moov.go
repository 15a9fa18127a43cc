package mp4

import (
	"math"
	"time"
)

// ours is the type of the box that holds Movie.Note (11.1).
const ours = "kLive.recording1" // 16 bytes, as a uuid has

// epoch is the time that creation times count from: 1904 (8.2.2).
const epoch = 2082844800

func since1904(t time.Time) uint64 {
	if t.IsZero() || t.Unix() < 0 {
		return 0
	}
	return uint64(t.Unix()) + epoch //nolint:gosec // not negative
}

// head writes what stands before the media: ftyp, the note, moov and the head
// of mdat. plan says how the media follows it.
func (m *Movie) head(tracks []*Track, plan []group) []byte {
	scale := movieScale(tracks)
	zero, length := m.span(scale)
	w := &writer{b: make([]byte, 0, 4096)}
	w.box("ftyp", func() { // 4.3
		w.str("isom")
		w.u32(0x200)
		w.str("isomiso2mp41")
	})
	w.box("uuid", func() {
		w.str(ours)
		w.u32(scale)
		w.ticks(zero)
		w.raw(m.Note)
	})
	w.box("moov", func() {
		w.box("mvhd", func() { // 8.2.2
			w.full(1, 0)
			w.u64(since1904(m.Created))
			w.u64(since1904(m.Created))
			w.u32(scale)
			w.ticks(length)
			w.u32(1 << 16) // rate
			w.u16(1 << 8)  // volume
			w.zero(10)
			w.matrix()
			w.zero(24)
			next := uint32(1)
			for _, t := range tracks {
				next = max(next, t.ID+1)
			}
			w.u32(next)
		})
		for i, t := range tracks {
			w.track(m, t, i, plan, scale, zero)
		}
		w.userData(m)
	})
	payload := int64(0)
	for _, g := range plan {
		payload += g.bytes
	}
	w.u32(1) // a size of 64 bits follows
	w.str("mdat")
	w.ticks(payload + 2*boxHead)
	w.finish(int64(len(w.b)))
	return w.b
}

func (w *writer) matrix() {
	for _, v := range [9]uint32{1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30} {
		w.u32(v)
	}
}

// userData writes the title as players look for it: an item list.
func (w *writer) userData(m *Movie) {
	if m.Title == "" {
		return
	}
	w.box("udta", func() { // 8.10.1
		w.box("meta", func() { // 8.11.1
			w.full(0, 0)
			w.box("hdlr", func() {
				w.full(0, 0)
				w.u32(0)
				w.str("mdirappl")
				w.zero(9)
			})
			w.box("ilst", func() {
				w.box("\xa9nam", func() {
					w.box("data", func() {
						w.u32(1) // UTF-8
						w.u32(0)
						w.str(m.Title)
					})
				})
			})
		})
	})
}

// track writes the trak of tracks[n].
func (w *writer) track(m *Movie, t *Track, n int, plan []group, scale uint32, zero int64) {
	tb := &t.table
	delay := rescale(tb.lowest, t.Scale, scale) - zero
	shown := rescaleUp(tb.end-tb.lowest, t.Scale, scale)
	created := since1904(m.Created)
	w.box("trak", func() {
		w.box("tkhd", func() { // 8.3.2
			w.full(1, 3) // enabled, in the movie
			w.u64(created)
			w.u64(created)
			w.u32(t.ID)
			w.zero(4)
			w.ticks(delay + shown)
			w.zero(8)
			w.u16(0)
			w.u16(0)
			if t.Handler == Sound {
				w.u16(1 << 8) // full volume
			} else {
				w.u16(0)
			}
			w.u16(0)
			w.matrix()
			w.u32(t.Width)
			w.u32(t.Height)
		})
		w.box("edts", func() { w.edits(delay, shown, max(tb.lowest-tb.first, 0)) })
		w.box("mdia", func() {
			w.box("mdhd", func() { // 8.4.2
				w.full(1, 0)
				w.u64(created)
				w.u64(created)
				w.u32(t.Scale)
				w.ticks(tb.decoded() - tb.first)
				w.u16(t.Language)
				w.u16(0)
			})
			w.handler(t.Handler)
			w.raw(t.extended)
			w.box("minf", func() {
				switch t.Handler {
				case Video:
					w.box("vmhd", func() { w.full(0, 1); w.zero(8) }) // 12.1.2
				case Sound:
					w.box("smhd", func() { w.full(0, 0); w.zero(4) }) // 12.2.2
				default:
					w.box("nmhd", func() { w.full(0, 0) }) // 8.4.5.2
				}
				w.box("dinf", func() {
					w.box("dref", func() {
						w.full(0, 0)
						w.u32(1)
						w.box("url ", func() { w.full(0, 1) }) // in this file
					})
				})
				w.box("stbl", func() { w.samples(t, n, plan) })
			})
		})
	})
}

// edits writes elst (8.6.6): nothing for as long as the track begins later than
// the movie, then the media from what is presented first.
func (w *writer) edits(delay, shown, from int64) {
	w.box("elst", func() {
		w.full(1, 0)
		n := 1
		if delay > 0 {
			n = 2
		}
		w.count(n)
		if delay > 0 {
			w.ticks(delay)
			w.ticks(-1)
			w.u32(1 << 16)
		}
		w.ticks(shown)
		w.ticks(from)
		w.u32(1 << 16)
	})
}

func (w *writer) handler(kind string) {
	names := map[string]string{Video: "VideoHandler", Sound: "SoundHandler", Meta: "MetadataHandler"}
	w.box("hdlr", func() { // 8.4.3
		w.full(0, 0)
		w.u32(0)
		w.str(kind)
		w.zero(12)
		w.str(names[kind])
		w.u8(0)
	})
}

// samples writes the tables of tracks[n].
func (w *writer) samples(t *Track, n int, plan []group) {
	tb := &t.table
	w.box("stsd", func() { // 8.5.2
		w.full(0, 0)
		w.count(len(t.Entries))
		for _, e := range t.Entries {
			w.raw(e)
		}
	})
	w.box("stts", func() { // 8.6.1.2
		w.full(0, 0)
		all := tb.spacing()
		w.count(len(all))
		for _, d := range all {
			w.u32(d.count)
			w.u32(d.ticks)
		}
	})
	w.composition(tb)
	if tb.mixed {
		w.box("stss", func() { // 8.6.2
			w.full(0, 0)
			w.count(len(tb.sync))
			for _, i := range tb.sync {
				w.u32(i)
			}
		})
	}
	w.box("stsc", func() { w.groups(n, plan) })
	w.box("stsz", func() { // 8.7.3.2
		w.full(0, 0)
		w.u32(0)
		w.count(len(tb.sizes))
		for _, s := range tb.sizes {
			w.u32(s)
		}
	})
	w.box("co64", func() { // 8.7.5
		w.full(0, 0)
		at := len(w.b)
		w.u32(0)
		count := 0
		for i := range plan {
			if plan[i].track == n {
				w.ticks(plan[i].at)
				count++
			}
		}
		w.b[at], w.b[at+1], w.b[at+2], w.b[at+3] = byte(count>>24), byte(count>>16), byte(count>>8), byte(count)
		w.offsets = append(w.offsets, region{at + 4, count})
	})
}

// composition writes ctts (8.6.1.3). Where pictures are presented before they
// are decoded, which only version 1 can say, all are moved so that the first
// one is not, as an edit cannot begin before the media.
func (w *writer) composition(tb *table) {
	shift := max(tb.first-tb.lowest, 0)
	if tb.offsets == nil && shift == 0 {
		return
	}
	type entry struct {
		count  uint32
		offset int32
	}
	var list []entry
	version := uint32(0)
	for i := range tb.sizes {
		off := int64(0)
		if tb.offsets != nil {
			off = int64(tb.offsets[i])
		}
		off = min(off+shift, math.MaxInt32)
		if off < 0 {
			version = 1
		}
		if n := len(list); n > 0 && int64(list[n-1].offset) == off {
			list[n-1].count++
			continue
		}
		list = append(list, entry{1, int32(off)}) //nolint:gosec // limited
	}
	w.box("ctts", func() {
		w.full(version, 0)
		w.count(len(list))
		for _, e := range list {
			w.u32(e.count)
			w.u32(uint32(e.offset)) //nolint:gosec // two's complement in version 1
		}
	})
}

// groups writes stsc (8.7.4): how many samples each chunk of the file has.
func (w *writer) groups(n int, plan []group) {
	w.full(0, 0)
	at := len(w.b)
	w.u32(0)
	chunk, entries := uint32(0), 0
	var samples, entry uint32
	for i := range plan {
		g := &plan[i]
		if g.track != n {
			continue
		}
		chunk++
		if g.samples == samples && g.entry == entry {
			continue
		}
		samples, entry = g.samples, g.entry
		w.u32(chunk)
		w.u32(samples)
		w.u32(entry)
		entries++
	}
	w.b[at], w.b[at+1], w.b[at+2], w.b[at+3] = byte(entries>>24), byte(entries>>16), byte(entries>>8), byte(entries)
}

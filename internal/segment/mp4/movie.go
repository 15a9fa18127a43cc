package mp4

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/klive-media/klive/internal/media"
)

// Handlers of tracks (8.4.3, 12.1, 12.2, 12.3).
const (
	Video = "vide"
	Sound = "soun"
	Meta  = "meta"
)

// Movie is a progressive MP4 in the making, or one that was read. It belongs
// to one goroutine. The times of its samples are stream time; in the file they
// begin with 0, all tracks in sync.
type Movie struct {
	Created time.Time
	Title   string
	// Note is anything the maker wants to find again, at most MaxNote bytes. It
	// stands at the beginning of the file, in a box of our own that players pass
	// over.
	Note   []byte
	Tracks []*Track
}

// MaxNote bounds Movie.Note.
const MaxNote = 64 << 10

// Track is one track of a Movie.
type Track struct {
	ID            uint32
	Handler       string
	Scale         uint32   // ticks per second
	Language      uint16   // as mdhd has it
	Width, Height uint32   // of tkhd: pixels, 16.16
	Entries       [][]byte // sample entries: boxes

	extended []byte // elng: box, or nil
	table    table
}

// NewMeta makes a track of timed metadata whose samples are of a MIME type
// (12.3.3.2).
func NewMeta(id, scale uint32, mime string) *Track {
	w := &writer{}
	w.box("mett", func() {
		w.zero(6)
		w.u16(1) // data reference
		w.u8(0)  // no content encoding
		w.str(mime)
		w.u8(0)
	})
	return &Track{ID: id, Handler: Meta, Scale: scale, Language: undetermined, Entries: [][]byte{w.b}}
}

// undetermined is "und" in the 15 bits of mdhd.
const undetermined = 0x55C4

// Samples is the number of samples.
func (t *Track) Samples() int { return t.table.count() }

// First is the decode time of the first sample and Next that after the last,
// in ticks of stream time; both are 0 without samples.
func (t *Track) First() int64 { return t.table.first }

// Next is the decode time after the last sample.
func (t *Track) Next() int64 {
	if t.table.count() == 0 {
		return 0
	}
	return t.table.decoded()
}

// Append adds the samples of a run that was found in src.
func (t *Track) Append(src *Source, r *Run) {
	t.chunk(chunk{src: src, at: r.Data, bytes: r.Bytes, entry: 1}, r.Base, r.Samples)
}

func (t *Track) chunk(c chunk, dts int64, samples []Sample) {
	if len(samples) == 0 {
		return
	}
	for i := range samples {
		t.table.add(dts, samples[i])
		if i == 0 {
			c.dts = t.table.last
		}
		dts += int64(samples[i].Duration)
	}
	c.samples = uint32(len(samples)) //nolint:gosec // at most maxSamples
	t.table.chunks = append(t.table.chunks, c)
}

// movieScale is the time scale of a movie with these tracks: one that has a
// whole number of ticks for the ticks of all, where that is possible.
func movieScale(tracks []*Track) uint32 {
	const most = 1 << 31
	scale := uint64(1)
	for _, t := range tracks {
		a, b := scale, uint64(t.Scale)
		for b > 0 {
			a, b = b, a%b
		}
		if scale = scale / a * uint64(t.Scale); scale >= most {
			return 90000
		}
	}
	return uint32(scale) //nolint:gosec // below most
}

// rescale converts ticks of one scale to another, rounded to nearest.
func rescale(ticks int64, from, to uint32) int64 {
	if from == to {
		return ticks
	}
	// ticks·to can pass 64 bits: whole seconds and the rest are converted apart.
	whole, rest := ticks/int64(from), ticks%int64(from)
	half := int64(from) / 2
	if rest < 0 {
		half = -half
	}
	return whole*int64(to) + (rest*int64(to)+half)/int64(from)
}

// rescaleUp is rescale, rounded up.
func rescaleUp(ticks int64, from, to uint32) int64 {
	n := rescale(ticks, from, to)
	if rescale(n, to, from) < ticks {
		n++
	}
	return n
}

// span is where the movie begins, and how long it lasts, in ticks of scale.
func (m *Movie) span(scale uint32) (zero, length int64) {
	end, some := int64(0), false
	for _, t := range m.filled() {
		from, to := rescale(t.table.lowest, t.Scale, scale), rescaleUp(t.table.end, t.Scale, scale)
		if !some || from < zero {
			zero = from
		}
		if !some || to > end {
			end = to
		}
		some = true
	}
	return zero, end - zero
}

// filled are the tracks that have samples.
func (m *Movie) filled() []*Track {
	return slices.DeleteFunc(slices.Clone(m.Tracks), func(t *Track) bool { return t.table.count() == 0 })
}

// Start is the stream time of what is presented first.
func (m *Movie) Start() time.Duration {
	scale := movieScale(m.filled())
	zero, _ := m.span(scale)
	return media.FromTicks(zero, scale)
}

// Duration is how long the movie is presented.
func (m *Movie) Duration() time.Duration {
	scale := movieScale(m.filled())
	_, length := m.span(scale)
	return media.FromTicks(length, scale)
}

// End is the stream time at which the longest of the tracks is over.
func (m *Movie) End() time.Duration { return m.Start() + m.Duration() }

// Join appends another movie's samples, earlier by back than they are there.
// Tracks go together by kind; a sample entry that a track has not had before is
// added to it. The last sample of a track lasts until the next one begins.
func (m *Movie) Join(part *Movie, back time.Duration) {
	for _, p := range part.filled() {
		i := slices.IndexFunc(m.Tracks, func(t *Track) bool { return t.Handler == p.Handler })
		if i < 0 {
			i = len(m.Tracks)
			m.Tracks = append(m.Tracks, &Track{
				ID: m.freeID(p.ID), Handler: p.Handler, Scale: p.Scale, Language: p.Language,
				Width: p.Width, Height: p.Height, extended: p.extended,
			})
		}
		m.Tracks[i].join(p, back)
	}
	slices.SortStableFunc(m.Tracks, func(a, b *Track) int { return rank(a.Handler) - rank(b.Handler) })
}

// rank orders tracks: picture, sound, the rest.
func rank(handler string) int {
	switch handler {
	case Video:
		return 0
	case Sound:
		return 1
	}
	return 2
}

// freeID is the id, or another one if a track has it.
func (m *Movie) freeID(id uint32) uint32 {
	for slices.ContainsFunc(m.Tracks, func(t *Track) bool { return t.ID == id }) {
		id++
	}
	return id
}

func (t *Track) join(p *Track, back time.Duration) {
	entries := make([]uint32, len(p.Entries)+1)
	for i, e := range p.Entries {
		at := slices.IndexFunc(t.Entries, func(o []byte) bool { return bytes.Equal(o, e) })
		if at < 0 {
			at = len(t.Entries)
			t.Entries = append(t.Entries, e)
		}
		entries[i+1] = uint32(at + 1) //nolint:gosec // a few
	}
	t.Width, t.Height = max(t.Width, p.Width), max(t.Height, p.Height)
	shift := media.ToTicks(back, t.Scale)
	chunks := p.table.chunks
	next := 0 // sample that begins the next chunk
	p.table.each(func(i int, dts int64, s Sample) {
		begin := rescale(dts, p.Scale, t.Scale)
		s.Duration = uint32(max(rescale(dts+int64(s.Duration), p.Scale, t.Scale)-begin, 0)) //nolint:gosec // as it was, about
		s.Offset = int32(rescale(int64(s.Offset), p.Scale, t.Scale))                        //nolint:gosec // as it was, about
		t.table.add(begin-shift, s)
		if i == next && len(chunks) > 0 {
			c := chunks[0]
			chunks = chunks[1:]
			next += int(c.samples)
			c.dts, c.entry = t.table.last, entries[min(int(c.entry), len(entries)-1)]
			t.table.chunks = append(t.table.chunks, c)
		}
	})
}

// String says what the movie holds, for logs.
func (m *Movie) String() string {
	s := ""
	for _, t := range m.Tracks {
		s += fmt.Sprintf("%s %d: %d samples, ", t.Handler, t.ID, t.table.count())
	}
	return s + m.Duration().String()
}

// Same reports whether a decoder set up for t can decode o, and whether both
// count alike, so that their samples can follow each other.
func (t *Track) Same(o *Track) bool {
	return t.ID == o.ID && t.Handler == o.Handler && t.Scale == o.Scale && t.Width == o.Width && t.Height == o.Height &&
		slices.EqualFunc(t.Entries, o.Entries, bytes.Equal)
}

// Samples is the number of samples of all tracks.
func (m *Movie) Samples() (n int) {
	for _, t := range m.Tracks {
		n += t.table.count()
	}
	return n
}

package segment

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/media"
)

// row is one rendition's picture or sound on a shelf. Its fields are guarded
// by shelf.mu unless they say otherwise. One goroutine at a time, the one that
// cuts the rendition, adds to it.
type row struct {
	id    RowID
	shelf *shelf
	dir   string

	cur atomic.Pointer[Index] // the newest snapshot

	waitMu sync.Mutex // guards wait
	wait   chan struct{}

	closed  []Segment // listed, oldest first; append-only, see trim
	span    time.Duration
	size    int64 // bytes of closed
	stretch struct {
		size int64
		span time.Duration
	} // since the peak was measured last
	open     *Segment
	parts    []Part // of the open segment; append-only
	live     []livePart
	expiring []expiring
	// unfinished are closed segments whose files the worker had no room for.
	unfinished []Segment
	unsynced   map[initID]bool // init sections of this run that a power cut may take
	memory     map[uint64]bool // segments that no file holds
	track      *media.Track
	initRun    string // names the newest init section
	init       int
	last       uint64
	numbered   bool // last counts
	end        time.Duration
	endTime    time.Time // wall clock of end
	disc       uint64    // discontinuity sequence number of the newest segment
	peak       int
	fps        float64
	playable   bool // has a part in this broadcast
	ended      bool
}

// livePart is a part whose bytes are in memory.
type livePart struct {
	number  uint64
	part    int
	bytes   int64
	end     time.Duration
	buffers [][]byte
}

// expiring is a segment that is not listed any more, until its file goes.
type expiring struct {
	seg Segment
	at  time.Time
}

// snapshot is an Index and the open segment in it, in one allocation.
type snapshot struct {
	index Index
	open  Segment
}

// commit publishes the row as it is; shelf.mu is held.
func (r *row) commit() {
	s := &snapshot{index: Index{
		Row: r.id, Targets: r.shelf.targets, Track: r.track, Closed: r.closed[:len(r.closed):len(r.closed)],
		Ended: r.ended, FrameRate: r.fps, row: r,
	}}
	s.index.Next = PartID{Run: r.shelf.store.runID, Segment: r.last + 1}
	if r.open != nil {
		s.open = *r.open
		s.open.Parts = r.parts[:len(r.parts):len(r.parts)]
		s.index.Open = &s.open
		s.index.Next.Segment, s.index.Next.Part = r.open.Number, len(r.parts)
	}
	s.index.PeakBitrate, s.index.AverageBitrate = r.bitrates(&s.open)
	r.cur.Store(&s.index)
	r.waitMu.Lock()
	if r.wait != nil {
		close(r.wait)
		r.wait = nil
	}
	r.waitMu.Unlock()
	if hook := r.shelf.store.published; hook != nil {
		hook(r.shelf.id, &s.index)
	}
}

// changedSince is Index.Changed.
func (r *row) changedSince(x *Index) <-chan struct{} {
	r.waitMu.Lock()
	defer r.waitMu.Unlock()
	if r.cur.Load() != x {
		return r.shelf.store.past
	}
	if r.wait == nil {
		r.wait = make(chan struct{})
	}
	return r.wait
}

// bitrates are peak and average in bit/s; before a segment is closed they come
// from the parts so far or from what the sender announced.
func (r *row) bitrates(open *Segment) (peak, average int) {
	size, span := r.size, r.span
	if span == 0 {
		size, span = open.Size, open.Duration
	}
	if span > 0 {
		average = bitrate(size, span)
	}
	if r.peak > 0 {
		r.peak = max(r.peak, average)
		return r.peak, average
	}
	if r.track != nil && average == 0 {
		average = r.track.Bitrate
	}
	if r.track != nil && r.track.Bitrate > 0 {
		return r.track.Bitrate, average
	}
	return average, average
}

func bitrate(size int64, d time.Duration) int {
	return int(float64(size) * 8 / d.Seconds())
}

// begin puts a new open segment on the row; shelf.mu is held.
func (r *row) begin(s Segment) {
	seg := s
	r.open, r.parts = &seg, make([]Part, 0, cap(r.parts))
	r.last, r.numbered, r.disc, r.ended = s.Number, true, s.Discontinuity, false
	r.end, r.endTime = s.Start, s.Time
}

// add puts a part into the open segment; shelf.mu is held. It keeps buffers.
func (r *row) add(p Part, buffers [][]byte) {
	o := r.open
	p.Offset = o.Size
	o.Size += p.Size
	o.Duration += p.Duration
	r.parts = append(r.parts, p)
	r.end, r.endTime = o.Start+o.Duration, o.Time.Add(o.Duration)
	r.live = append(r.live, livePart{number: o.Number, part: len(r.parts) - 1, bytes: p.Size, end: r.end, buffers: buffers})
	r.shelf.store.counters.parts.Add(1)
	r.shelf.store.counters.memory.Add(p.Size)
	r.forget()
	r.playable = true
}

// forget drops the bytes of parts that are not recent. Parts that no file
// holds stay, up to a bound.
func (r *row) forget() {
	opts := &r.shelf.store.opts
	var kept int64
	n := 0
	for i := range r.live {
		kept += r.live[i].bytes
	}
	for n < len(r.live)-1 {
		p := &r.live[n]
		if r.memory[p.number] {
			if kept <= opts.FallbackBytes {
				break
			}
		} else if r.end-p.end <= opts.MemoryParts && kept <= opts.HeldBytes {
			break
		}
		kept -= p.bytes
		r.shelf.store.counters.memory.Add(-p.bytes)
		r.live[n] = livePart{}
		n++
	}
	r.live = r.live[n:]
}

// release drops the bytes of all parts that a file holds; shelf.mu is held.
func (r *row) release() {
	kept := r.live[:0:0]
	for _, p := range r.live {
		if r.memory[p.number] {
			kept = append(kept, p)
		} else {
			r.shelf.store.counters.memory.Add(-p.bytes)
		}
	}
	r.live = kept
}

// closeOpen finishes the open segment; shelf.mu is held. The segment's file is
// complete already.
func (r *row) closeOpen(d time.Duration) Segment {
	s := *r.open
	s.Parts = r.parts[:len(r.parts):len(r.parts)]
	s.Duration = d
	r.open = nil
	r.end, r.endTime = s.Start+d, s.Time.Add(d)
	r.list(s)
	return s
}

// gap lists a segment without content; shelf.mu is held.
func (r *row) gap(s Segment) {
	s.Gap, s.Independent, s.Run, s.Init = true, false, r.initRun, r.init
	r.last, r.numbered, r.disc = s.Number, true, s.Discontinuity
	r.end, r.endTime = s.Start+s.Duration, s.Time.Add(s.Duration)
	r.list(s)
	// A gap that is not noted is found again as a number that is missing.
	_ = r.shelf.store.post(job{kind: writeGap, row: r, seg: s})
}

// list appends a finished segment to the window.
func (r *row) list(s Segment) {
	store := r.shelf.store
	if !s.Gap {
		store.counters.segments.Add(1)
		r.size += s.Size
		r.span += s.Duration
		r.measure(&s)
	}
	r.closed = append(r.closed, s)
	r.trim()
}

// measure keeps the peak: the densest stretch of at least half a target
// duration (RFC 8216, 4.3.4.2). Segments shorter than that are taken together.
func (r *row) measure(s *Segment) {
	r.stretch.size += s.Size
	r.stretch.span += s.Duration
	if r.stretch.span < r.shelf.targets.Segment/2 {
		return
	}
	r.peak = max(r.peak, bitrate(r.stretch.size, r.stretch.span))
	r.stretch.size, r.stretch.span = 0, 0
}

// roomMost bounds the room for further segments in a row's array.
const roomMost = 64

// trim takes what is older than the window from the list. Snapshots share the
// array, so nothing in it is written; when it is full, append moves what is
// listed to a new one.
func (r *row) trim() {
	opts, window := &r.shelf.store.opts, r.shelf.window()
	var span time.Duration
	for i := range r.closed {
		span += r.closed[i].Duration
	}
	n := 0
	for len(r.closed)-n > opts.MinSegments && span-r.closed[n].Duration >= window {
		span -= r.closed[n].Duration
		r.unlist(&r.closed[n], span)
		n++
	}
	r.closed = r.closed[n:]
	if len(r.closed) < cap(r.closed) {
		return
	}
	// The array is full: a new one, in which only recent segments have parts. It
	// has little room, so that in a long window few others keep theirs.
	// Playlists list parts for three target durations; whoever read one has as
	// long again to fetch them.
	room := min(len(r.closed), roomMost) + 2*opts.MinSegments
	next := make([]Segment, len(r.closed), len(r.closed)+room)
	copy(next, r.closed)
	recent := 6 * r.shelf.targets.Segment
	for i := len(next) - 1; i >= 0; i-- {
		if recent -= next[i].Duration; recent < 0 {
			next[i].Parts = nil
		}
	}
	r.closed = next
}

// unlist plans the end of a segment's file: after its own duration and that of
// the longest playlist that held it (RFC 8216, 6.2.2).
func (r *row) unlist(s *Segment, window time.Duration) {
	if !s.Gap {
		r.size -= s.Size
		r.span -= s.Duration
	}
	delete(r.memory, s.Number)
	seg := *s
	seg.Parts = nil
	r.expiring = append(r.expiring, expiring{seg, time.Now().Add(window + 2*s.Duration)})
}

// find is the closed segment with this number in this run; shelf.mu is held.
func (r *row) find(run string, number uint64) *Segment {
	if n := len(r.closed); n > 0 && number >= r.closed[0].Number && number-r.closed[0].Number < uint64(n) {
		if s := &r.closed[number-r.closed[0].Number]; s.Number == number && s.Run == run && !s.Gap {
			return s
		}
	}
	for i := range r.expiring {
		if s := &r.expiring[i].seg; s.Number == number && s.Run == run && !s.Gap {
			return s
		}
	}
	return nil
}

// buffers are the bytes of a part, or nil when they are not in memory any
// more; shelf.mu is held.
func (r *row) buffers(number uint64, part int) [][]byte {
	for i := len(r.live) - 1; i >= 0; i-- {
		if p := &r.live[i]; p.number == number && p.part == part {
			return p.buffers
		}
	}
	return nil
}

func (r *row) path(name string) string { return filepath.Join(r.dir, name) }

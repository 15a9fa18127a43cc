package record

import (
	"math"
	"time"

	"github.com/klive-media/klive/internal/segment"
)

// This file is where on the shelf a recording that is begun in the middle
// begins, and what it could not get of its end.

// reachBack is how long before the server hears of it a recording begins: so
// long it may take to read at a backend that a producer went live (package
// explicit, lookEach).
const reachBack = 5 * time.Second

// reach finds the segments that a recording in the middle begins with: those
// that were open reachBack before it was wished for, but none that another
// recording of the broadcast has.
func (s *session) reach(shelf segment.Shelf) {
	at := time.Duration(math.MinInt64 + int64(reachBack))
	for _, f := range s.all {
		s.onShelf(shelf, f.d.id, func(_ int, x *segment.Segment) { at = max(at, x.Start+x.Duration) })
	}
	if !s.since.IsZero() { // also when the server was away meanwhile
		at = min(at, s.since.Sub(s.info.Start))
	}
	at -= reachBack
	for _, f := range s.all {
		if f.work != nil {
			continue
		}
		s.onShelf(shelf, f.d.id, func(_ int, x *segment.Segment) {
			if x.Start <= at {
				f.want = max(f.want, x.Number)
			}
		})
	}
}

// missed notes as gaps what is on the shelf and cannot be copied any more.
func (s *session) missed() {
	shelf, ok := s.rec.opts.Store.Shelf(shelfOf(&s.info))
	if !ok {
		return
	}
	for _, f := range s.all {
		if g := f.missed(shelf); g.Duration > smallestGap {
			s.gap(g)
		}
	}
}

func (f *follower) missed(shelf segment.Shelf) gap {
	g := gap{Rendition: f.d.id, At: math.MaxInt64}
	if f.began { // there may be a hole in front of it
		g.At = max(f.ends[0], f.ends[1])
	}
	end := time.Duration(math.MinInt64)
	f.onShelf(shelf, f.d.id, func(i int, x *segment.Segment) {
		late := f.until > 0 && x.Number >= f.until
		if !x.Gap && x.Number >= f.want && !late && (f.work == nil || !f.work.has(kinds[i], x.Number)) {
			g.At, end = min(g.At, x.Start), max(end, x.Start+x.Duration)
		}
	})
	if end > g.At {
		g.Duration = end - g.At
	}
	return g
}

// onShelf shows the segments that a rendition has of the broadcast, of each of
// kinds the oldest first, the open one last.
func (s *session) onShelf(shelf segment.Shelf, rendition string, see func(kind int, x *segment.Segment)) {
	for i, row := range rowsOf(rendition) {
		x := shelf.Index(row)
		if x == nil {
			continue
		}
		for k := range x.Closed {
			if belongs(&x.Closed[k], s.info.Start) {
				see(i, &x.Closed[k])
			}
		}
		if x.Open != nil && belongs(x.Open, s.info.Start) {
			see(i, x.Open)
		}
	}
}

package record

import (
	"fmt"
	"slices"
	"time"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment"
	"github.com/klive-media/klive/internal/segment/mp4"
)

// This file is how the segments of a rendition become pieces.

const (
	// maxBridge is the longest hole in the timeline that a piece goes on across;
	// the sample before it lasts as long. After a longer one another piece begins.
	maxBridge = 10 * time.Second
	// smallestGap is how much must be missing to be called a gap.
	smallestGap = 200 * time.Millisecond
	// keyWait is how long a key frame is waited for to begin a piece with.
	keyWait = 30 * time.Second
	// patience is how much further one track of a rendition must be for the other
	// not to be waited for: the segmenter waits for a track for far less.
	patience = 6 * time.Second
)

// kinds are the tracks of a rendition that are recorded.
var kinds = [...]media.Kind{media.Video, media.Audio}

func rowsOf(rendition string) [len(kinds)]segment.RowID {
	var out [len(kinds)]segment.RowID
	for i, k := range kinds {
		out[i] = segment.RowID{Rendition: rendition, Kind: k}
	}
	return out
}

// belongs reports whether a segment is of the broadcast that began then: rows
// keep segments of the one before for a while.
func belongs(s *segment.Segment, start time.Time) bool {
	d := s.Time.Add(-s.Start).UnixNano() - start.UnixNano()
	return d > -int64(time.Millisecond) && d < int64(time.Millisecond)
}

// set is the segment with one number of each track; nil where there is none.
type set [len(kinds)]*segment.Segment

// content is the segment's of a kind, unless it is a gap.
func (s *set) content(i int) *segment.Segment {
	if s[i] != nil && !s[i].Gap {
		return s[i]
	}
	return nil
}

// leading is the picture, or the sound where there is none.
func (s *set) leading() *segment.Segment {
	for i := range kinds {
		if x := s.content(i); x != nil {
			return x
		}
	}
	return nil
}

// follower turns the segments of one rendition into pieces. It belongs to the
// goroutine that records the broadcast.
type follower struct {
	*session
	d     *rendition // guarded by Recorder.mu
	want  uint64     // the segment to copy next, or a later one
	until uint64     // the segment not to copy any more; 0: there is none
	work  *work      // of the piece that grows; nil: none does
	marks int        // samples of the data track in the pieces before
	ends  [len(kinds)]time.Duration
	began bool // ends count
	// skipping: what comes cannot begin a piece, since skipped.
	skipping bool
	skipped  time.Duration
	hole     gap // what is missing before the segment that is taken

	inits map[initKey][]*mp4.Track
}

// initKey names an init section.
type initKey struct {
	kind media.Kind
	run  string
	n    int
}

// look copies what is finished and reports whether it could; all: also what one
// track has and the other may yet get, as nothing more comes.
func (f *follower) look(shelf segment.Shelf, all bool) bool {
	var x [len(kinds)]*segment.Index
	for i, row := range rowsOf(f.d.id) {
		x[i] = shelf.Index(row)
	}
	f.renumber(&x)
	for {
		n, segments, ok := f.pick(&x, all)
		if !ok || f.until > 0 && n >= f.until {
			return true
		}
		if err := f.take(shelf, n, &segments); err != nil {
			f.failed(f.d.id, err)
			return false // it is tried again while it is on the shelf
		}
		f.want = n + 1
		f.rec.mu.Lock()
		f.d.next = f.want
		f.rec.mu.Unlock()
	}
}

// renumber goes back to numbers that are used again: a power cut can take
// segments from the shelf that were copied already, and with them the memory of
// their numbers. What begins after the piece's end is new, whatever its number.
func (f *follower) renumber(x *[len(kinds)]*segment.Index) {
	if f.work == nil {
		return
	}
	least := f.want
	see := func(s *segment.Segment) bool {
		fresh := s.Start >= f.work.end && belongs(s, f.info.Start)
		if fresh && !s.Gap {
			least = min(least, s.Number)
		}
		return fresh
	}
	for _, row := range x {
		if row == nil {
			continue
		}
		if row.Open != nil {
			see(row.Open)
		}
		for i := len(row.Closed) - 1; i >= 0 && see(&row.Closed[i]); i-- {
		}
	}
	if least >= f.want {
		return
	}
	f.want = least
	for k, n := range f.work.next {
		f.work.next[k] = min(n, least)
	}
}

// pick finds the next segment that all tracks of the rendition have, or will
// not have.
func (f *follower) pick(x *[len(kinds)]*segment.Index, all bool) (n uint64, out set, ok bool) {
	for i := range x {
		if s := f.next(x[i], f.want); s != nil && (!ok || s.Number < n) {
			n, ok = s.Number, true
		}
	}
	if !ok {
		return 0, out, false
	}
	for i := range x {
		if s := f.next(x[i], n); s != nil && s.Number == n {
			out[i] = s
		} else if !all && f.comes(x[i], n) && !f.overdue(x[1-i], n) {
			return 0, out, false
		}
	}
	return n, out, true
}

// next is the first finished segment of the broadcast from number n on.
func (f *follower) next(x *segment.Index, n uint64) *segment.Segment {
	if x == nil {
		return nil
	}
	from := 0
	if len(x.Closed) > 0 && n > x.Closed[0].Number {
		from = int(min(n-x.Closed[0].Number, uint64(len(x.Closed)))) //nolint:gosec // an index
	}
	for i := from; i < len(x.Closed); i++ { // numbers have no holes
		if s := &x.Closed[i]; s.Number >= n && belongs(s, f.info.Start) {
			return s
		}
	}
	return nil
}

// comes reports whether a row may yet get the segment n: it has media of this
// broadcast and is not that far.
func (f *follower) comes(x *segment.Index, n uint64) bool {
	if x == nil || x.Next.Segment > n {
		return false
	}
	if x.Open != nil && belongs(x.Open, f.info.Start) {
		return true
	}
	return slices.ContainsFunc(x.Closed, func(s segment.Segment) bool { return !s.Gap && belongs(&s, f.info.Start) })
}

// overdue reports whether a row is so far behind the segment n that the other
// one is not waited for.
func (f *follower) overdue(x *segment.Index, n uint64) bool {
	if x == nil || len(x.Closed) == 0 {
		return false
	}
	last, s := &x.Closed[len(x.Closed)-1], f.next(x, n)
	return s != nil && last.Number >= n+2 && last.Start+last.Duration-(s.Start+s.Duration) >= patience
}

// take puts the segment n into the piece that grows, or into another one.
func (f *follower) take(shelf segment.Shelf, n uint64, s *set) error {
	lead := s.leading()
	if lead == nil {
		return nil // a gap; it is told when media comes again
	}
	half := f.work != nil && f.holds(n) // an attempt before this one, or a crash, came in between
	if !half {
		fresh, err := f.another(shelf, n, s)
		if lost(err) {
			f.failed(f.d.id, err)
			return nil
		}
		if err != nil {
			return err
		}
		if fresh && !startable(s) && f.skip(lead) {
			return nil // it cannot be decoded from here; what is missing is told at the next key frame
		}
		f.skipping = false
		f.hole = f.missing(s)
		if fresh {
			if err := f.begin(shelf, s); lost(err) {
				f.failed(f.d.id, err)
				return nil
			} else if err != nil {
				return err
			}
		}
	}
	for i, kind := range kinds {
		x := s.content(i)
		if x == nil {
			continue
		}
		if !f.work.has(kind, n) {
			if err := f.copyTo(f.work, shelf, kind, x); lost(err) {
				f.failed(f.d.id, err)
				continue
			} else if err != nil {
				return err
			}
		}
		f.ends[i], f.began = x.Start+x.Duration, true
	}
	if err := f.mark(lead); err != nil {
		return err
	}
	f.grown()
	if f.hole.Duration > 0 {
		f.gap(f.hole)
		f.hole = gap{}
	}
	return nil
}

// skip reports whether a key frame is worth waiting for: pictures that are
// refreshed bit by bit have none.
func (f *follower) skip(s *segment.Segment) bool {
	if !f.skipping {
		f.skipping, f.skipped = true, s.Start
	}
	return s.Start-f.skipped < keyWait
}

// holds reports whether the piece has a track's segment n.
func (f *follower) holds(n uint64) bool {
	for _, k := range kinds {
		if f.work.has(k, n) {
			return true
		}
	}
	return false
}

// startable reports whether a piece can begin with the segment: with a key
// frame, if it has a picture.
func startable(s *set) bool {
	for i, k := range kinds {
		if x := s.content(i); x != nil && k == media.Video {
			return x.Independent
		}
	}
	return true
}

// another reports whether the segment belongs into another piece than the one
// that grows.
func (f *follower) another(shelf segment.Shelf, n uint64, s *set) (bool, error) {
	if f.work == nil {
		return true, nil
	}
	for i, k := range kinds {
		x := s.content(i)
		if x == nil {
			continue
		}
		init, err := f.init(shelf, k, x)
		if err != nil {
			return false, err
		}
		for _, t := range init {
			if !slices.ContainsFunc(f.work.tracks, t.Same) {
				return true, nil
			}
		}
	}
	lead := s.leading()
	if lead.Start-f.work.end > maxBridge {
		return true, nil
	}
	f.rec.mu.Lock()
	split := f.d.split
	f.rec.mu.Unlock()
	long := lead.Start-f.work.start >= f.rec.opts.SegmentDuration || split > 0 && n >= split
	return long && startable(s), nil
}

// init reads the tracks of a segment's init section.
func (f *follower) init(shelf segment.Shelf, kind media.Kind, s *segment.Segment) ([]*mp4.Track, error) {
	key := initKey{kind, s.Run, s.Init}
	if t := f.inits[key]; t != nil {
		return t, nil
	}
	b, err := shelf.Init(segment.RowID{Rendition: f.d.id, Kind: kind}, s.Run, s.Init)
	if err != nil {
		return nil, fmt.Errorf("read init section: %w", err)
	}
	t, err := mp4.Tracks(b)
	if err != nil {
		return nil, fmt.Errorf("read init section: %w", err)
	}
	if f.inits == nil || len(f.inits) > 8 { // old ones do not come back
		f.inits = make(map[initKey][]*mp4.Track)
	}
	f.inits[key] = t
	return t, nil
}

// missing is what is missing before the segment, if anything is.
func (f *follower) missing(s *set) (worst gap) {
	for i := range kinds {
		x := s.content(i)
		if x == nil || !f.began || f.ends[i] == 0 {
			continue
		}
		if d := x.Start - f.ends[i]; d > max(worst.Duration, smallestGap) {
			worst = gap{Rendition: f.d.id, At: f.ends[i], Duration: d}
		}
	}
	return worst
}

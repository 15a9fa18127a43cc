package segment

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/media"
)

// shelf is one stream at one server index. It lives as long as there is
// something to read on it.
type shelf struct {
	id    ShelfID
	dir   string
	store *DiskStore

	rows atomic.Pointer[map[RowID]*row] // replaced, never written

	mu         sync.Mutex // guards the fields below and those of the rows
	targets    Targets
	broadcast  Broadcast
	onAir      bool
	restored   bool // onAir, but found so at start: nobody cuts it
	endedAt    time.Time
	unrecorded bool      // the record of the broadcast's end is not written
	again      time.Time // when the record is tried again
	observer   Observer
	renditions map[string]*rendition
	previous   []string        // renditions to be read until one of this broadcast is ready
	next       uint64          // above every number used or announced
	disc       uint64          // discontinuity sequence number before the first mark
	marks      []time.Duration // where it grows by one, in order; see fold
	wait       chan struct{}   // of Renditions
	events     []Event         // to be told when mu is free
}

var _ Shelf = (*shelf)(nil)

// rendition is what the shelf knows of a rendition in this broadcast; guarded
// by shelf.mu.
type rendition struct {
	id       string
	video    *row // nil until its first part
	audio    *row
	ready    bool // its rows can be listed
	running  bool // somebody cuts it
	poke     func()
	frontier time.Duration // stream time up to which it has media
	first    time.Duration // frontier at its first part
	begun    bool          // it has a first part
	active   time.Time     // when its media last came
	idle     bool          // no media comes: poked once for it
	number   uint64        // of the segment it began last
	at       time.Duration // where that begins
	numbered bool
	unlisted bool
	dark     bool
}

// disc is the newest discontinuity sequence number of the rendition's rows;
// shelf.mu is held.
func (d *rendition) disc() uint64 {
	var n uint64
	for _, r := range [...]*row{d.video, d.audio} {
		if r != nil {
			n = max(n, r.disc)
		}
	}
	return n
}

func newShelf(s *DiskStore, id ShelfID) *shelf {
	h := &shelf{
		id: id, store: s, renditions: make(map[string]*rendition),
		dir: filepath.Join(s.opts.Dir, escapeName(id.Stream), strconv.Itoa(id.ServerIndex)),
	}
	h.rows.Store(&map[RowID]*row{})
	return h
}

// row finds the row or makes it; mu is held.
func (h *shelf) row(id RowID) *row {
	rows := *h.rows.Load()
	if r := rows[id]; r != nil {
		return r
	}
	r := &row{id: id, shelf: h, dir: filepath.Join(h.dir, rowFolder(id)), memory: make(map[uint64]bool), unsynced: make(map[initID]bool)}
	rows = maps.Clone(rows)
	rows[id] = r
	h.rows.Store(&rows)
	return r
}

// Index implements Shelf.
func (h *shelf) Index(id RowID) *Index {
	r := (*h.rows.Load())[id]
	if r == nil {
		return nil
	}
	return r.cur.Load()
}

// Renditions implements Shelf.
func (h *shelf) Renditions() (list []RenditionInfo, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.wait == nil {
		h.wait = make(chan struct{})
	}
	for _, d := range h.renditions {
		if !d.ready {
			continue
		}
		info := RenditionInfo{ID: d.id, Listed: !d.unlisted}
		for _, r := range [...]*row{d.video, d.audio} {
			if r != nil && r.playable {
				info.Rows = append(info.Rows, r.cur.Load())
			}
		}
		list = append(list, info)
	}
	if list == nil { // none in this broadcast yet: what the one before left
		for _, id := range h.previous {
			info := RenditionInfo{ID: id, Listed: true}
			for _, kind := range [...]media.Kind{media.Video, media.Audio} {
				if x := h.Index(RowID{id, kind}); x != nil && (len(x.Closed) > 0 || x.Open != nil) {
					info.Rows = append(info.Rows, x)
				}
			}
			if info.Rows != nil {
				list = append(list, info)
			}
		}
	}
	slices.SortFunc(list, func(a, b RenditionInfo) int { return compareIDs(a.ID, b.ID) })
	return list, h.wait
}

// compareIDs orders ingest indexes by number and everything else by name.
func compareIDs(a, b string) int {
	if len(a) != len(b) && strings.Trim(a, "0123456789") == "" && strings.Trim(b, "0123456789") == "" {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// renditionsChanged wakes who waits for Renditions; mu is held.
func (h *shelf) renditionsChanged() {
	if h.wait != nil {
		close(h.wait)
		h.wait = nil
	}
}

// tell keeps an event until mu is free; mu is held.
func (h *shelf) tell(e Event) { h.events = append(h.events, e) }

// unlock frees mu and tells the events.
func (h *shelf) unlock() {
	events, observer := h.events, h.observer
	h.events = nil
	h.mu.Unlock()
	if observer != nil {
		for _, e := range events {
			observer(e)
		}
	}
}

// mark notes a discontinuity at a stream time and gives the number that a
// segment which begins there belongs to; before is that of the segment before
// it. A mark of another rendition at about the same time is the same one; mu
// is held.
func (h *shelf) mark(at time.Duration, before uint64) uint64 {
	h.fold()
	want := before + 1
	for i, m := range h.marks {
		if n := h.disc + uint64(i) + 1; n >= want && m-at < sameBreak && at-m < sameBreak { //nolint:gosec // a small index
			return max(n, h.discontinuity(at))
		}
	}
	i, _ := slices.BinarySearch(h.marks, at)
	h.marks = slices.Insert(h.marks, i, at)
	return max(want, h.discontinuity(at))
}

// fold forgets the marks before the oldest segment that is listed of this
// broadcast: nothing begins there any more, so they only count. mu is held.
func (h *shelf) fold() {
	var oldest time.Time
	for _, r := range *h.rows.Load() {
		if !r.playable {
			continue // of an earlier broadcast: it continues above all marks
		}
		at := r.endTime
		if len(r.closed) > 0 {
			at = r.closed[0].Time
		} else if r.open != nil {
			at = r.open.Time
		}
		if oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	if oldest.IsZero() {
		return
	}
	n, _ := slices.BinarySearch(h.marks, oldest.Sub(h.broadcast.Start)-sameBreak)
	h.disc += uint64(n) //nolint:gosec // not negative
	h.marks = slices.Delete(h.marks, 0, n)
}

// discontinuity is the number a segment that begins at the stream time
// belongs to; mu is held.
func (h *shelf) discontinuity(at time.Duration) uint64 {
	n, _ := slices.BinarySearch(h.marks, at+1)
	return h.disc + uint64(n) //nolint:gosec // not negative
}

// wall is the wall clock of a stream time; mu is held.
func (h *shelf) wall(at time.Duration) time.Time { return h.broadcast.Start.Add(at) }

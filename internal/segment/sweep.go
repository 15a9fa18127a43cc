package segment

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// This file is how files go: segments that expired, init sections that no
// segment names any more, and shelves whose retention is over. It is one
// goroutine's work, away from the queue of finished segments and from upkeep,
// so that a disk that deletes slowly keeps nobody waiting.

// sweepMost is how many files of a row are deleted at a time; each row gets its
// turn every upkeepEvery, which is far more often than it makes files.
const sweepMost = 64

// sweepAgain is when something that the disk refused to do is tried again.
const sweepAgain = 10 * time.Second

func (s *DiskStore) sweep(ctx context.Context) error {
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			for _, h := range s.all() {
				if ctx.Err() != nil {
					return nil
				}
				for _, r := range *h.rows.Load() {
					r.sweep(now)
				}
				s.drop(h, now)
			}
		}
	}
}

// sweep deletes the row's files whose time has come, at most sweepMost. What
// cannot be deleted is tried again later.
func (r *row) sweep(now time.Time) {
	h := r.shelf
	h.mu.Lock()
	due := r.due(now)
	h.mu.Unlock()
	if len(due) == 0 {
		return
	}
	var kept []expiring
	for _, seg := range due {
		if err := r.remove(&seg); err != nil {
			kept = append(kept, expiring{seg, now.Add(sweepAgain)})
			h.store.failed(h, Event{Rendition: r.id.Rendition, At: seg.Start, Duration: seg.Duration, Err: err})
			continue
		}
		h.store.counters.disk.Add(-seg.Size)
	}
	h.mu.Lock()
	r.expiring = append(r.expiring, kept...)
	inits := r.orphans(due)
	h.mu.Unlock()
	for _, id := range inits {
		r.removeInit(id)
	}
}

// due takes the segments whose files are to be deleted now; shelf.mu is held.
func (r *row) due(now time.Time) (out []Segment) {
	n := 0
	for n < len(r.expiring) && n < sweepMost && !now.Before(r.expiring[n].at) {
		out = append(out, r.expiring[n].seg)
		n++
	}
	r.expiring = r.expiring[n:]
	return out
}

// remove deletes a segment's file under the name it has; it may be renamed
// while we look.
func (r *row) remove(seg *Segment) error {
	for _, open := range [...]bool{false, true, false} {
		err := os.Remove(r.path(seg.fileName(open)))
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete segment file: %w", err)
		}
	}
	return nil
}

// initID names an init section of a row.
type initID struct {
	run string
	n   int
}

// orphans are the init sections of deleted segments that no segment names any
// more; shelf.mu is held.
func (r *row) orphans(gone []Segment) (out []initID) {
	for i := range gone {
		if id := (initID{gone[i].Run, gone[i].Init}); !slices.Contains(out, id) && !r.names(id) {
			out = append(out, id)
			delete(r.unsynced, id)
		}
	}
	return out
}

// names reports whether a segment that is there, or the next one, has the init
// section; shelf.mu is held.
func (r *row) names(id initID) bool {
	if id == (initID{r.initRun, r.init}) || r.open != nil && id == (initID{r.open.Run, r.open.Init}) {
		return true
	}
	for i := range r.closed {
		if id == (initID{r.closed[i].Run, r.closed[i].Init}) {
			return true
		}
	}
	for i := range r.expiring {
		if s := &r.expiring[i].seg; id == (initID{s.Run, s.Init}) {
			return true
		}
	}
	return false
}

// removeInit deletes an init section and its track. When the disk refuses, it
// is tried again at the next start.
func (r *row) removeInit(id initID) {
	path := r.path(initName(id.run, id.n))
	for _, ext := range [...]string{extInit, extTrack} {
		if err := os.Remove(path + ext); err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.shelf.store.failed(r.shelf, Event{Rendition: r.id.Rendition, Err: fmt.Errorf("delete init section: %w", err)})
		}
	}
}

// drop ends a shelf whose retention is over. Its last numbers stay in its
// record, so that a later broadcast continues them: nothing is deleted before
// the record is written. A record that could not be written when the broadcast
// ended is written as soon as it can be.
func (s *DiskStore) drop(h *shelf, now time.Time) {
	s.mu.Lock()
	h.mu.Lock()
	ended := !h.onAir && !h.endedAt.IsZero()
	over := ended && now.Sub(h.endedAt) >= s.opts.EndedRetention
	if !over && !(ended && h.unrecorded) || now.Before(h.again) {
		h.mu.Unlock()
		s.mu.Unlock()
		return
	}
	gone := make(chan struct{}) // Begin waits, so that its record is the later one
	s.dropping[h.id] = gone
	rec, used := h.record(), h.next > 0 || len(*h.rows.Load()) > 0
	h.mu.Unlock()
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.dropping, h.id)
		s.mu.Unlock()
		close(gone)
	}()

	if used {
		err := os.MkdirAll(h.dir, 0o750)
		if err == nil {
			err = writeRecord(h.dir, rec)
		}
		h.mu.Lock()
		h.unrecorded = err != nil
		if err != nil {
			h.again = now.Add(sweepAgain)
			if over {
				h.shrink(now)
			}
		}
		h.mu.Unlock()
		if err != nil {
			s.failed(h, Event{Err: fmt.Errorf("write end of shelf: %w", err)})
			return
		}
	}
	if over {
		s.forget(h)
	}
}

// shrink deletes an ended shelf's segments but the newest of each row, whose
// name keeps the numbers until the record can be written: that the disk is full
// must not keep us from making room. mu is held.
func (h *shelf) shrink(now time.Time) {
	for _, r := range *h.rows.Load() {
		n := max(len(r.closed)-1, 0)
		for i := range r.closed[:n] {
			r.unlist(&r.closed[i], 0)
		}
		r.closed = r.closed[n:]
		for i := range r.expiring {
			r.expiring[i].at = now
		}
		r.commit()
	}
}

// forget takes a shelf out of the store and deletes its rows.
func (s *DiskStore) forget(h *shelf) {
	s.mu.Lock()
	h.mu.Lock()
	delete(s.shelves, h.id)
	rows := *h.rows.Load()
	h.rows.Store(&map[RowID]*row{})
	h.renditions, h.previous = nil, nil
	h.renditionsChanged()
	for _, r := range rows {
		r.drop()
	}
	h.mu.Unlock()
	s.mu.Unlock()
	for _, r := range rows {
		if err := os.RemoveAll(r.dir); err != nil {
			s.failed(h, Event{Err: fmt.Errorf("delete ended shelf: %w", err)})
		}
	}
}

// drop lets go of the row's memory and wakes who waits for it; shelf.mu is
// held.
func (r *row) drop() {
	for i := range r.live {
		r.shelf.store.counters.memory.Add(-r.live[i].bytes)
	}
	var bytes int64
	for i := range r.closed {
		bytes += r.closed[i].Size
	}
	for i := range r.expiring {
		bytes += r.expiring[i].seg.Size
	}
	r.shelf.store.counters.disk.Add(-bytes)
	r.live, r.closed, r.expiring, r.unfinished, r.open = nil, nil, nil, nil, nil
	r.commit()
}

package segment

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// job is something to do to a file, out of the way of those who cut.
type job struct {
	kind  jobKind
	dir   string
	seg   Segment
	shelf *shelf
	file  *os.File // finish: closed by the worker
}

type jobKind uint8

const (
	finish   jobKind = iota + 1 // sync and rename a finished segment's file
	writeGap                    // note a segment without content
	remove                      // delete an expired one
)

// upkeepEvery is how often the store looks for what has expired or gone idle.
const upkeepEvery = 500 * time.Millisecond

// idleAfter is how long no media must have come before a rendition's open
// segment is closed, so that viewers get the last of it.
const idleAfter = 3 * time.Second

// post queues a job; it never blocks. When the queue is full, the disk is too
// slow: the job is dropped and counted. A segment that was not renamed is found
// under its first name, now and after a restart; a file that was not deleted
// is deleted after a restart.
func (s *DiskStore) post(j job) {
	j.seg.Parts = nil
	select {
	case s.jobs <- j:
	default:
		s.counters.failures.Add(1)
		if j.file != nil {
			_ = j.file.Close() // its bytes are in the page cache, as those of a crash would be
		}
	}
}

// work does jobs; when ctx ends, what is queued is done first.
func (s *DiskStore) work(ctx context.Context) error {
	for {
		select {
		case j := <-s.jobs:
			s.do(j)
		case <-ctx.Done():
			for {
				select {
				case j := <-s.jobs:
					s.do(j)
				default:
					return nil
				}
			}
		}
	}
}

func (s *DiskStore) do(j job) {
	if err := s.attempt(j); err != nil {
		s.failed(j.shelf, Event{At: j.seg.Start, Duration: j.seg.Duration, Err: err})
	}
}

func (s *DiskStore) attempt(j job) error {
	last := filepath.Join(j.dir, j.seg.fileName(false))
	switch j.kind {
	case finish:
		err := j.file.Sync()
		if e := j.file.Close(); err == nil {
			err = e
		}
		if err == nil {
			err = os.Rename(filepath.Join(j.dir, j.seg.fileName(true)), last)
		}
		if err != nil {
			return fmt.Errorf("finish segment file: %w", err)
		}
		// The folder needs no sync: if a power cut takes the new name, the file is
		// found under the one it was made with and closed again.
	case writeGap:
		if err := os.WriteFile(last, nil, 0o640); err != nil {
			return fmt.Errorf("note gap: %w", err)
		}
	case remove:
		err := os.Remove(last)
		if errors.Is(err, fs.ErrNotExist) {
			err = os.Remove(filepath.Join(j.dir, j.seg.fileName(true)))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete segment file: %w", err)
		}
		s.counters.disk.Add(-j.seg.Size)
	}
	return nil
}

func (s *DiskStore) upkeep(ctx context.Context) error {
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			for _, h := range s.all() {
				h.upkeep(now)
				s.drop(h, now)
			}
		}
	}
}

// upkeep deletes what has expired and looks after renditions that went silent.
func (h *shelf) upkeep(now time.Time) {
	h.mu.Lock()
	defer h.unlock()
	for _, r := range *h.rows.Load() {
		r.expire(now)
	}
	for _, d := range h.renditions {
		if d.begun && d.running && !d.idle && now.Sub(d.active) >= idleAfter {
			d.idle = true
			d.poke()
		}
		if h.onAir {
			h.judge(d, now)
		}
	}
}

// drop ends a shelf whose retention is over. Its last numbers stay in its
// record, so that a later broadcast continues them.
func (s *DiskStore) drop(h *shelf, now time.Time) {
	s.mu.Lock()
	h.mu.Lock()
	over := !h.onAir && !h.endedAt.IsZero() && now.Sub(h.endedAt) >= s.opts.EndedRetention
	rows := *h.rows.Load()
	var gone chan struct{}
	if over {
		gone = make(chan struct{})
		delete(s.shelves, h.id)
		s.dropping[h.id] = gone
		h.rows.Store(&map[RowID]*row{})
		h.renditions, h.previous = nil, nil
		h.renditionsChanged()
		for _, r := range rows {
			r.drop()
		}
	}
	h.mu.Unlock()
	s.mu.Unlock()
	if !over {
		return
	}
	for _, r := range rows {
		if err := os.RemoveAll(r.dir); err != nil {
			s.failed(h, Event{Err: fmt.Errorf("delete ended shelf: %w", err)})
		}
	}
	s.mu.Lock()
	delete(s.dropping, h.id)
	s.mu.Unlock()
	close(gone)
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
	r.live, r.closed, r.expiring, r.open = nil, nil, nil, nil
	r.commit()
}

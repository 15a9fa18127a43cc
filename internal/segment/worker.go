package segment

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// job is something to do to a file, out of the way of those who cut.
type job struct {
	kind jobKind
	row  *row
	seg  Segment
	file *os.File // finish: closed by the worker; nil: to be opened again
}

type jobKind uint8

const (
	finish   jobKind = iota + 1 // sync and rename a finished segment's file
	writeGap                    // note a segment without content
)

// upkeepEvery is how often the store looks for what has expired or gone idle.
const upkeepEvery = 500 * time.Millisecond

// idleAfter is how long no media must have come before a rendition's open
// segment is closed, so that viewers get the last of it.
const idleAfter = 3 * time.Second

// post queues a job and reports whether it fitted; it never blocks. When the
// queue is full, the disk is too slow.
func (s *DiskStore) post(j job) bool {
	j.seg.Parts = nil
	select {
	case s.jobs <- j:
		return true
	default:
		return false
	}
}

// postFinish gives a finished segment's file to the worker. When that has too
// much to do, the segment waits for upkeep to try again, without its
// descriptor: it is found under its first name until then. shelf.mu is held.
func (r *row) postFinish(seg Segment, f *os.File) {
	if r.shelf.store.post(job{kind: finish, row: r, seg: seg, file: f}) {
		return
	}
	_ = f.Close() // its bytes are in the page cache, as those of a crash would be
	seg.Parts = nil
	r.unfinished = append(r.unfinished, seg)
}

// retry posts what did not fit before, unless its time in the list is over;
// shelf.mu is held.
func (r *row) retry() {
	n := 0
	for ; n < len(r.unfinished); n++ {
		seg := r.unfinished[n]
		if len(r.closed) == 0 || seg.Number < r.closed[0].Number {
			continue // about to be deleted, under whichever name
		}
		if !r.shelf.store.post(job{kind: finish, row: r, seg: seg}) {
			break
		}
	}
	r.unfinished = slices.Delete(r.unfinished, 0, n)
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
		s.failed(j.row.shelf, Event{Rendition: j.row.id.Rendition, At: j.seg.Start, Duration: j.seg.Duration, Err: err})
	}
}

func (s *DiskStore) attempt(j job) error {
	last := j.row.path(j.seg.fileName(false))
	switch j.kind {
	case finish:
		err := j.row.syncInit(initID{j.seg.Run, j.seg.Init})
		if e := finishFile(j.file, j.row.path(j.seg.fileName(true)), last); err == nil {
			err = e
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
	}
	return nil
}

// syncInit syncs an init section and its track, once. When the disk refuses,
// the next segment tries it again.
func (r *row) syncInit(id initID) error {
	h := r.shelf
	h.mu.Lock()
	todo := r.unsynced[id]
	h.mu.Unlock()
	if !todo {
		return nil
	}
	path := r.path(initName(id.run, id.n))
	for _, ext := range [...]string{extTrack, extInit} {
		f, err := os.Open(path + ext)
		if err != nil {
			return fmt.Errorf("sync init section: %w", err)
		}
		err = f.Sync()
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			return fmt.Errorf("sync init section: %w", err)
		}
	}
	h.mu.Lock()
	delete(r.unsynced, id)
	h.mu.Unlock()
	return nil
}

// finishFile syncs a segment's file and gives it its last name. f is closed; nil
// is the file that has the first name.
func finishFile(f *os.File, first, last string) error {
	if f == nil {
		var err error
		if f, err = os.OpenFile(first, os.O_RDWR, 0); err != nil {
			return err //nolint:wrapcheck // wrapped by the caller
		}
	}
	err := f.Sync()
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(first, last)
	}
	return err //nolint:wrapcheck // wrapped by the caller
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
			}
		}
	}
}

// upkeep looks after renditions that went silent and files that wait for the
// worker.
func (h *shelf) upkeep(now time.Time) {
	h.mu.Lock()
	defer h.unlock()
	for _, r := range *h.rows.Load() {
		r.retry()
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

package segment

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment/fmp4"
)

// recover rebuilds the shelves from the files below Dir.
func (s *DiskStore) recover(now time.Time) error {
	streams, err := os.ReadDir(s.opts.Dir)
	if err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	for _, d := range streams {
		stream, err := url.PathUnescape(d.Name())
		if err != nil || !d.IsDir() {
			continue
		}
		indexes, err := os.ReadDir(filepath.Join(s.opts.Dir, d.Name()))
		if err != nil {
			return fmt.Errorf("list shelves: %w", err)
		}
		for _, x := range indexes {
			if n, err := strconv.Atoi(x.Name()); err == nil && x.IsDir() {
				if err := s.recoverShelf(ShelfID{stream, n}, now); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (s *DiskStore) recoverShelf(id ShelfID, now time.Time) error {
	h := newShelf(s, id)
	rec, err := readRecord(h.dir)
	if err != nil {
		// What cannot be read cannot be continued; the numbers in the files' names
		// still count.
		s.counters.failures.Add(1)
		rec = record{Ended: now}
	}
	if rec.Broadcast == "" && rec.Ended.IsZero() {
		rec.Ended = now
	}
	h.broadcast = Broadcast{ID: rec.Broadcast, Start: rec.Start, SegmentDuration: rec.SegmentDuration}
	h.targets = Targets{Segment: rec.TargetSegment, Part: rec.TargetPart}
	h.onAir, h.restored, h.endedAt = rec.OnAir, rec.OnAir, rec.Ended
	h.next, h.disc = rec.Next, rec.Disc
	if err := h.recoverRows(rec, now); err != nil {
		return err
	}
	// Above every number that was announced: one more than the newest segment was
	// named by preload hints.
	for _, r := range *h.rows.Load() {
		h.next = max(h.next, r.last+2)
	}
	if len(*h.rows.Load()) == 0 && !h.onAir {
		return nil // only its record is left, which Begin will read
	}
	s.shelves[id] = h
	return nil
}

func (h *shelf) recoverRows(rec record, now time.Time) error {
	folders, err := os.ReadDir(h.dir)
	if err != nil {
		return fmt.Errorf("list rows: %w", err)
	}
	expired := !rec.OnAir && now.Sub(rec.Ended) >= h.store.opts.EndedRetention
	for _, d := range folders {
		path := filepath.Join(h.dir, d.Name())
		if strings.HasPrefix(d.Name(), ".new-") {
			_ = os.Remove(path) // of a write that was cut short; it is in nobody's way if it stays
			continue
		}
		id, ok := parseRowFolder(d.Name())
		switch {
		case !ok || !d.IsDir():
			continue
		case expired:
			if err := h.forgetRow(path, rec); err != nil {
				return err
			}
			continue
		}
		h.mu.Lock()
		r := h.row(id)
		h.mu.Unlock()
		if err := r.recover(now); err != nil {
			return err
		}
		if len(r.closed) > 0 {
			if !slices.Contains(h.previous, id.Rendition) {
				h.previous = append(h.previous, id.Rendition)
			}
			r.ended = !rec.OnAir
			r.commit()
		}
	}
	return nil
}

// forgetRow deletes the folder of a row whose retention ended while the server
// was down. Its numbers were in the record when the broadcast ended.
func (h *shelf) forgetRow(path string, rec record) error {
	if rec.Next == 0 && rec.Broadcast == "" {
		return nil // without a record the names are the only memory of the numbers
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("delete ended row: %w", err)
	}
	return nil
}

// recover lists the row's segments again; nobody else sees the row yet.
func (r *row) recover(now time.Time) error {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return fmt.Errorf("list segments: %w", err)
	}
	var list []Segment
	for _, e := range entries {
		seg, open, ok := parseFileName(e.Name())
		if !ok {
			continue
		}
		r.last, r.numbered = max(r.last, seg.Number), true
		r.disc = max(r.disc, seg.Discontinuity)
		switch {
		case open:
			if seg, err = r.closeInterrupted(seg); err != nil {
				return err
			}
			if seg.Size == 0 {
				continue
			}
		case !seg.Gap:
			info, err := e.Info()
			if err != nil {
				return fmt.Errorf("look at segment file: %w", err)
			}
			seg.Size = info.Size()
		}
		list = append(list, seg)
	}
	slices.SortFunc(list, func(a, b Segment) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), a.Time.Compare(b.Time))
	})
	for _, s := range list {
		r.relist(s)
	}
	if n := len(r.closed); n > 0 {
		s := &r.closed[n-1]
		r.end, r.endTime = s.Start+s.Duration, s.Time.Add(s.Duration)
	}
	r.trim()
	for i := range r.expiring { // they waited long enough if the server was down for long
		r.expiring[i].at = now.Add(r.shelf.store.opts.Window)
	}
	if err := r.recoverTrack(); err != nil {
		return err
	}
	r.forgetInits(entries)
	return nil
}

// forgetInits deletes the recovered row's init sections that no segment names.
func (r *row) forgetInits(entries []fs.DirEntry) {
	for _, e := range entries {
		if id, ok := parseInitName(e.Name()); ok && !r.names(id) {
			r.removeInit(id)
		}
	}
}

// relist appends a recovered segment. Numbers that are missing (a file that a
// power cut took, one whose first part never came) become gaps, so that those
// after them keep theirs.
func (r *row) relist(s Segment) {
	r.shelf.store.counters.disk.Add(s.Size)
	if s.Duration > r.shelf.limit() {
		r.discard(s) // made for another target
		return
	}
	if n := len(r.closed); n > 0 {
		last := &r.closed[n-1]
		switch {
		case s.Number <= last.Number:
			r.discard(s)
			return
		case s.Number-last.Number > most:
			r.restart(r.last)
		default:
			for last.Number+1 < s.Number {
				g := *last
				g.Number++
				g.Start, g.Time = last.Start+last.Duration, last.Time.Add(last.Duration)
				g.Duration = min(max(s.Start-g.Start, time.Millisecond), r.shelf.limit())
				g.Gap, g.Size, g.Independent = true, 0, false
				r.closed = append(r.closed, g)
				last = &r.closed[len(r.closed)-1]
			}
		}
	}
	if !s.Gap {
		r.size += s.Size
		r.span += s.Duration
		r.measure(&s)
	}
	r.closed = append(r.closed, s)
}

// discard plans the end of a recovered segment that is not listed.
func (r *row) discard(s Segment) {
	r.expiring = append(r.expiring, expiring{seg: s})
}

// closeInterrupted closes a segment that was open when the server ended at its
// last whole part. A segment without one loses its file.
func (r *row) closeInterrupted(s Segment) (Segment, error) {
	path := r.path(s.fileName(true))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return s, fmt.Errorf("open interrupted segment: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return s, fmt.Errorf("look at interrupted segment: %w", err)
	}
	chunks, err := fmp4.Walk(f, info.Size())
	if err != nil {
		return s, fmt.Errorf("read interrupted segment: %w", err)
	}
	scale := r.recoveredScale(s.Run, s.Init)
	if len(chunks) == 0 || scale == 0 {
		if err := os.Remove(path); err != nil {
			return s, fmt.Errorf("delete interrupted segment: %w", err)
		}
		return s, nil
	}
	last := chunks[len(chunks)-1]
	s.Size = last.Offset + last.Size
	s.Duration = media.FromTicks(int64(last.Base+last.Duration-chunks[0].Base), scale) //nolint:gosec // times of our own making; a wrong one is bounded below
	s.Duration = min(max(s.Duration, time.Millisecond), r.shelf.limit())
	if err := f.Truncate(s.Size); err != nil {
		return s, fmt.Errorf("cut interrupted segment: %w", err)
	}
	if err := f.Sync(); err != nil {
		return s, fmt.Errorf("sync interrupted segment: %w", err)
	}
	if err := os.Rename(path, r.path(s.fileName(false))); err != nil {
		return s, fmt.Errorf("rename interrupted segment: %w", err)
	}
	return s, nil
}

// recoveredScale is the time scale of an init section's track; 0 when it is
// lost, and with it what was cut for it.
func (r *row) recoveredScale(run string, n int) uint32 {
	t, err := readTrack(r.path(initName(run, n) + extTrack))
	if err != nil {
		return 0
	}
	return fmp4.Scale(t)
}

// recoverTrack finds the description of the newest segment's track.
func (r *row) recoverTrack() error {
	for i := len(r.closed) - 1; i >= 0; i-- {
		s := &r.closed[i]
		t, err := readTrack(r.path(initName(s.Run, s.Init) + extTrack))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		r.track, r.initRun, r.init = t, s.Run, s.Init
		return nil
	}
	return nil
}

func readTrack(path string) (*media.Track, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read track description: %w", err)
	}
	var t media.Track
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, fmt.Errorf("read track description: %w", err)
	}
	return &t, nil
}

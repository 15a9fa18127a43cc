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
			s.damaged(fmt.Errorf("list shelves: %w", err))
			continue
		}
		for _, x := range indexes {
			if n, err := strconv.Atoi(x.Name()); err == nil && x.IsDir() {
				s.recoverShelf(ShelfID{stream, n}, now)
			}
		}
	}
	return nil
}

func (s *DiskStore) recoverShelf(id ShelfID, now time.Time) {
	h := newShelf(s, id)
	rec, err := readRecord(h.dir)
	if err != nil {
		// What cannot be read cannot be continued; the numbers in the files' names
		// still count.
		s.damaged(err)
		rec = record{Ended: now}
	}
	if rec.Broadcast == "" && rec.Ended.IsZero() {
		rec.Ended = now
	}
	h.broadcast = Broadcast{
		ID: rec.Broadcast, Start: rec.Start, SegmentDuration: rec.SegmentDuration,
		Window: min(rec.Window, MaxWindow), Note: rec.Note,
	}
	h.targets = Targets{Segment: rec.TargetSegment, Part: rec.TargetPart}
	h.onAir, h.restored, h.endedAt = rec.OnAir, rec.OnAir, rec.Ended
	h.next, h.disc = rec.Next, rec.Disc
	h.recoverRows(rec, now)
	// Above every number that was announced: one more than the newest segment was
	// named by preload hints.
	for _, r := range *h.rows.Load() {
		h.next = max(h.next, r.last+2)
	}
	if len(*h.rows.Load()) == 0 && !h.onAir {
		return // only its record is left, which Begin will read
	}
	s.shelves[id] = h
}

func (h *shelf) recoverRows(rec record, now time.Time) {
	s := h.store
	folders, err := os.ReadDir(h.dir)
	if err != nil {
		s.damaged(fmt.Errorf("list rows: %w", err))
		h.next = max(h.next, numbersLost(now))
		return
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
				s.damaged(err)
			}
			continue
		}
		h.mu.Lock()
		r := h.row(id)
		h.mu.Unlock()
		if err := r.recover(now); err != nil {
			s.damaged(err)
			h.next = max(h.next, numbersLost(now))
		}
		if len(r.closed) > 0 {
			if !slices.Contains(h.previous, id.Rendition) {
				h.previous = append(h.previous, id.Rendition)
			}
			r.ended = !rec.OnAir
			r.commit()
		}
	}
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

// recover lists the row's segments again; nobody else sees the row yet. What
// cannot be read is left out and reported; the error is that not even their
// names can.
func (r *row) recover(now time.Time) error {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return fmt.Errorf("list segments: %w", err)
	}
	var list []Segment
	inits := make(map[initID]bool) // whether it is whole
	for _, e := range entries {
		seg, open, ok := parseFileName(e.Name())
		if !ok {
			continue
		}
		r.last, r.numbered = max(r.last, seg.Number), true
		r.disc = max(r.disc, seg.Discontinuity)
		id := initID{seg.Run, seg.Init}
		whole, known := inits[id]
		if !known {
			whole = r.recoverInit(id)
			inits[id] = whole
		}
		seg, ok, err := r.recoverSegment(e, seg, open)
		switch {
		case err != nil:
			r.shelf.store.damaged(err)
		case !ok:
		case !seg.Gap && !whole:
			r.shelf.store.counters.disk.Add(seg.Size)
			r.discard(seg)
		default:
			list = append(list, seg)
		}
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
		r.expiring[i].at = now.Add(r.shelf.window())
	}
	r.recoverTrack()
	r.forgetInits(entries)
	return nil
}

// recoverSegment finds out what a file's name does not say of its segment; ok
// is false when there is nothing in it.
func (r *row) recoverSegment(e fs.DirEntry, seg Segment, open bool) (_ Segment, ok bool, err error) {
	if open {
		seg, err = r.closeInterrupted(seg)
		return seg, seg.Size > 0, err
	}
	if seg.Gap {
		return seg, true, nil
	}
	info, err := e.Info()
	if err != nil {
		return seg, false, fmt.Errorf("look at segment file: %w", err)
	}
	seg.Size = info.Size()
	return seg, true, nil
}

// recoverInit reports whether an init section and its track are whole. An init
// section that a power cut took is made again of its track.
func (r *row) recoverInit(id initID) bool {
	path := r.path(initName(id.run, id.n))
	t, err := readTrack(path + extTrack)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.shelf.store.damaged(err)
		}
		return false
	}
	b, err := fmp4.Init(t)
	if err != nil {
		r.shelf.store.damaged(fmt.Errorf("use track description: %w", err))
		return false
	}
	if b, err := os.ReadFile(path + extInit); err == nil {
		if _, err := fmp4.Merge(b); err == nil {
			return true
		}
	}
	if err = replaceFile(path+extInit, b); err != nil {
		r.shelf.store.damaged(fmt.Errorf("restore init section: %w", err))
	}
	return err == nil
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

// recoverTrack finds the description of the newest segment's track. Without
// any, there is nothing but gaps, and they are not listed.
func (r *row) recoverTrack() {
	for i := len(r.closed) - 1; i >= 0; i-- {
		s := &r.closed[i]
		t, err := readTrack(r.path(initName(s.Run, s.Init) + extTrack))
		if err == nil {
			r.track, r.initRun, r.init = t, s.Run, s.Init
			return
		}
	}
	r.restart(r.last)
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

package segment

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/run"
)

// DiskStore is a Store that keeps segments in files and recent parts in memory
// too. Everything on a shelf is written once: what viewers of live get from
// memory and what everybody else gets from the file are the same bytes.
type DiskStore struct {
	opts  Options
	runID string
	past  chan struct{} // closed: what an outdated Index says has changed
	jobs  chan job

	counters struct {
		segments, parts, forced, failures atomic.Uint64
		memory, disk                      atomic.Int64
		inits                             atomic.Int64
	}

	damage []error // what could not be read at start; not written after that

	mu       sync.Mutex // guards the fields below
	shelves  map[ShelfID]*shelf
	dropping map[ShelfID]chan struct{} // closed when the shelf's files are gone

	// For tests: published, when not nil, sees every snapshot; write appends to a
	// segment's file.
	published func(ShelfID, *Index)
	write     func(f *os.File, buffers [][]byte) (int64, error)
}

var _ Store = (*DiskStore)(nil)

// NewStore opens the shelves below o.Dir, which it makes when it is missing.
// Open segments of an earlier run are closed at their last whole part. What
// cannot be read there is left out, see Damage; only a Dir that cannot be made
// or listed is an error.
func NewStore(o Options) (*DiskStore, error) {
	o = o.withDefaults()
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("make segment store: %w", err)
	}
	s := &DiskStore{
		opts: o, runID: newRunID(), past: make(chan struct{}), jobs: make(chan job, o.Jobs),
		write:   writeAll,
		shelves: make(map[ShelfID]*shelf), dropping: make(map[ShelfID]chan struct{}),
	}
	close(s.past)
	if err := s.recover(time.Now()); err != nil {
		return nil, fmt.Errorf("open segment store: %w", err)
	}
	return s, nil
}

// maxDamage bounds what Damage tells.
const maxDamage = 100

// Damage is what NewStore could not read and has left out, for the log: at
// most 100 errors, each of which names a file or folder. They are counted as
// WriteFailures, too.
func (s *DiskStore) Damage() []error { return s.damage }

// damaged notes something that could not be read at start.
func (s *DiskStore) damaged(err error) {
	s.counters.failures.Add(1)
	if len(s.damage) < maxDamage {
		s.damage = append(s.damage, err)
	}
}

// numbersLost is a number above any that can have been used when those that
// were are lost: at a segment a second since 1970.
func numbersLost(now time.Time) uint64 { return uint64(now.Unix()) } //nolint:gosec // after 1970

// newRunID makes 12 characters that no other run of the server has.
func newRunID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))[:12]
}

// workers is how many files are synced at once; a file system commits several
// in one go.
const workers = 4

// Run does what must not be done by those who cut: it syncs and renames the
// files of finished segments, deletes expired ones and ends shelves whose time
// is over. When ctx ends it finishes what is queued and returns.
func (s *DiskStore) Run(ctx context.Context) error {
	g := run.New(ctx)
	for range workers {
		if err := g.Go("segment files", s.work); err != nil {
			return fmt.Errorf("start segment store: %w", err)
		}
	}
	if err := g.Go("segment upkeep", s.upkeep); err != nil {
		return fmt.Errorf("start segment store: %w", err)
	}
	if err := g.Go("segment deletion", s.sweep); err != nil {
		return fmt.Errorf("start segment store: %w", err)
	}
	return g.Wait()
}

// Shelf implements Store.
func (s *DiskStore) Shelf(id ShelfID) (Shelf, bool) {
	h := s.shelf(id)
	return h, h != nil
}

func (s *DiskStore) shelf(id ShelfID) *shelf {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shelves[id]
}

// all is a snapshot of the shelves.
func (s *DiskStore) all() []*shelf {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*shelf, 0, len(s.shelves))
	for _, h := range s.shelves {
		list = append(list, h)
	}
	return list
}

// Begin implements Store.
func (s *DiskStore) Begin(id ShelfID, b Broadcast, o Observer) (Cutter, error) {
	if len(b.Note) > MaxNote {
		return nil, fmt.Errorf("begin broadcast on shelf: a note of %d bytes is longer than %d", len(b.Note), MaxNote)
	}
	b.Note, b.Window = slices.Clone(b.Note), min(b.Window, MaxWindow)
	h, ended := s.take(id)
	if err := os.MkdirAll(h.dir, 0o750); err != nil {
		h.mu.Lock()
		if !h.onAir { // its retention goes on, or begins now if it is new
			h.endedAt = ended
			if ended.IsZero() {
				h.endedAt = time.Now()
			}
		}
		h.mu.Unlock()
		return nil, fmt.Errorf("begin broadcast on shelf: %w", err)
	}
	past, err := readRecord(h.dir)
	if err != nil {
		s.counters.failures.Add(1)
		past = record{Next: numbersLost(time.Now())}
	}

	h.mu.Lock()
	if h.onAir && !h.restored {
		h.mu.Unlock()
		return nil, fmt.Errorf("begin broadcast on shelf %s/%d: another one is on air", id.Stream, id.ServerIndex)
	}
	h.begin(b, o, past)
	rec := h.record()
	h.mu.Unlock()
	if err := writeRecord(h.dir, rec); err != nil {
		h.mu.Lock()
		h.onAir, h.endedAt, h.unrecorded = false, time.Now(), true
		h.mu.Unlock()
		return nil, fmt.Errorf("begin broadcast on shelf: %w", err)
	}
	return &cutter{shelf: h, broadcast: b.ID}, nil
}

// take finds the shelf or makes it, when the files of its predecessor are gone,
// and keeps it: ended is what its end was, which the caller restores if nothing
// begins.
func (s *DiskStore) take(id ShelfID) (h *shelf, ended time.Time) {
	for {
		s.mu.Lock()
		gone := s.dropping[id]
		if gone == nil {
			h = s.shelves[id]
			if h == nil {
				h = newShelf(s, id)
				s.shelves[id] = h
			}
			h.mu.Lock()
			ended, h.endedAt = h.endedAt, time.Time{} // the sweep leaves it alone from here on
			h.mu.Unlock()
			s.mu.Unlock()
			return h, ended
		}
		s.mu.Unlock()
		<-gone
	}
}

// begin sets the shelf up for a broadcast; mu is held. past is what the shelf
// had when it was there last.
func (h *shelf) begin(b Broadcast, o Observer, past record) {
	same := h.restored && h.onAir && h.broadcast.ID == b.ID
	h.next = max(h.next, past.Next)
	h.disc = max(h.disc, past.Disc)
	h.previous = h.previous[:0]
	listed := false
	for id, r := range *h.rows.Load() {
		r.playable = false
		h.disc = max(h.disc, r.disc+1)
		if len(r.closed) > 0 {
			listed = true
			if !slices.Contains(h.previous, id.Rendition) {
				h.previous = append(h.previous, id.Rendition)
			}
		}
	}
	if !listed && !same {
		h.targets = Targets{}
	}
	h.broadcast, h.observer = b, o
	h.onAir, h.restored, h.endedAt, h.unrecorded = true, false, time.Time{}, false
	h.marks = nil
	h.renditions = make(map[string]*rendition)
}

// Interrupted implements Store.
func (s *DiskStore) Interrupted() []Interrupted {
	var out []Interrupted
	for _, h := range s.all() {
		h.mu.Lock()
		if h.onAir && h.restored {
			i := Interrupted{ID: h.id, Broadcast: h.broadcast}
			i.Broadcast.Note = slices.Clone(i.Broadcast.Note)
			for _, r := range *h.rows.Load() {
				i.End = max(i.End, r.end)
			}
			out = append(out, i)
		}
		h.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b Interrupted) int {
		if c := strings.Compare(a.ID.Stream, b.ID.Stream); c != 0 {
			return c
		}
		return a.ID.ServerIndex - b.ID.ServerIndex
	})
	return out
}

// EndInterrupted implements Store.
func (s *DiskStore) EndInterrupted(id ShelfID) {
	if h := s.shelf(id); h != nil {
		h.end(true)
	}
}

// end ends the broadcast; restored: only one that nobody cuts.
func (h *shelf) end(restored bool) {
	h.mu.Lock()
	if !h.onAir || h.restored != restored {
		h.mu.Unlock()
		return
	}
	h.onAir, h.restored, h.endedAt = false, false, time.Now()
	for _, r := range *h.rows.Load() {
		h.next = max(h.next, r.last+1)
		h.disc = max(h.disc, r.disc+1)
		r.ended = true
		r.release()
		r.commit()
	}
	h.renditionsChanged()
	rec := h.record()
	h.unlock()
	if err := writeRecord(h.dir, rec); err != nil {
		h.mu.Lock()
		h.unrecorded = !h.onAir
		h.mu.Unlock()
		h.store.failed(h, Event{At: 0, Err: fmt.Errorf("write end of broadcast: %w", err)})
	}
}

// failed counts a refusal of the disk and tells the shelf's observer.
func (s *DiskStore) failed(h *shelf, e Event) {
	s.counters.failures.Add(1)
	e.Kind = WriteFailed
	h.mu.Lock()
	h.tell(e)
	h.unlock()
}

// Stats implements Store.
func (s *DiskStore) Stats() Stats {
	c := &s.counters
	st := Stats{
		MemoryBytes: c.memory.Load(), DiskBytes: c.disk.Load(), Segments: c.segments.Load(), Parts: c.parts.Load(),
		ForcedCuts: c.forced.Load(), WriteFailures: c.failures.Load(),
	}
	for _, h := range s.all() {
		st.Shelves++
		st.Rows += len(*h.rows.Load())
	}
	return st
}

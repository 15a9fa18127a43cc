package delivery

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/store"
	"github.com/klive-media/klive/internal/stream"
)

// Of implements stream.Deliveries.
func (q *Queue) Of(recording string) []stream.Delivery {
	q.mu.Lock()
	p := q.packedOf(recording)
	if p == nil {
		defer q.mu.Unlock()
		return q.list(func(r *row) bool { return r.Recording == recording }, comparePieces)
	}
	q.mu.Unlock()
	return q.unpacked(recording, p)
}

// Delivered reports whether a recording is known to be delivered as a whole
// without reading its rows; they are not in memory then, and Of reads them from
// the store.
func (q *Queue) Delivered(recording string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.packedOf(recording) != nil
}

// Open implements stream.Deliveries.
func (q *Queue) Open() []stream.Delivery {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.list(func(r *row) bool { return r.State != delivered }, func(a, b *row) int {
		return cmp.Or(a.Queued.Compare(b.Queued), compareRows(a, b))
	})
}

// list shows some of the rows in memory; q.mu is held.
func (q *Queue) list(which func(*row) bool, order func(a, b *row) int) []stream.Delivery {
	var rows []*row
	for _, r := range q.table {
		if which(r) {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, order)
	out := make([]stream.Delivery, len(rows))
	for i, r := range rows {
		out[i] = r.shown(q.worked(r))
	}
	return out
}

// worked reports whether a row is being worked on; q.mu is held.
func (q *Queue) worked(r *row) bool {
	l := q.lanes[r.lane()]
	return l != nil && l.working == r.id()
}

// Changed implements stream.Deliveries.
func (q *Queue) Changed() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.changed
}

// Retry implements stream.Deliveries. A piece in doubt is sent behind what was
// sent since: the order in the backend's recording is then that of sending.
// Errors are RecordingNotFound, when nothing is known of the recording, and
// NothingToDeliver.
func (q *Queue) Retry(ctx context.Context, recording, rendition string, number int) (int, error) {
	q.mu.Lock()
	var rows []*row
	found, content := q.packedOf(recording) != nil, false
	for _, r := range q.table {
		if r.Recording == recording {
			found = true
			asked := (rendition == "" || r.Rendition == rendition) && (number == 0 || r.Number == number)
			content = content || asked && r.Content
		}
	}
	contentOff := false // the backend wants pieces, after all
	for _, r := range q.table {
		asked := content || (rendition == "" || r.Rendition == rendition) && (number == 0 || r.Number == number)
		if r.Recording == recording && asked && !q.worked(r) && (r.State == queued || r.State == inDoubt || r.State == refused) {
			rows = append(rows, r)
			contentOff = contentOff || r.Code == codeContentOff
		}
	}
	for _, r := range rows {
		if l := q.lanes[r.lane()]; l != nil {
			l.until = time.Time{}
		}
	}
	q.mu.Unlock()
	if !found {
		if _, listed := q.opts.Recordings.Get(recording); !listed {
			return 0, fault.New(fault.RecordingNotFound, "there is no recording %s", recording)
		}
	}
	slices.SortFunc(rows, compareRows)
	n := 0
	var failed error
	for _, old := range rows {
		switch taken, err := q.retry(ctx, old, contentOff); {
		case err != nil:
			failed = errors.Join(failed, err)
		case taken:
			n++
		}
	}
	signal(q.wake)
	if contentOff {
		signal(q.kick)
	}
	switch {
	case failed != nil && n == 0:
		return 0, fault.New(fault.StoreUnavailable, "the retry could not be noted; try again").Because(failed)
	case n == 0:
		return 0, fault.New(fault.NothingToDeliver, "no piece of recording %s waits for a retry", recording)
	}
	return n, nil
}

// retry takes one row up again; false when somebody else was faster.
func (q *Queue) retry(ctx context.Context, old *row, contentOff bool) (bool, error) {
	r := old.copy()
	r.next, r.fails, r.away, r.stale = time.Time{}, 0, false, false
	if r.State == queued && !contentOff {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.table[r.id()] != old {
			return false, nil
		}
		q.place(r)
		q.notify()
		return true, nil
	}
	r.Forced = r.Forced || r.State == refused && r.Code == codeCap
	if contentOff {
		r.Content = false
	}
	// What was handed over with a call in doubt may have been used up.
	r.State, r.Done, r.Intent, r.Upload = queued, time.Time{}, nil, nil
	err := q.save(ctx, r)
	if errors.Is(err, store.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// Settled reports whether all that was recorded of an entry at an index is
// behind this server: nothing grows, and no piece waits or is under way.
// Refused pieces, and those that are held back by them, wait for a person and
// do not count. Changed is closed when it is worth asking again.
func (q *Queue) Settled(entry string, index int) (bool, <-chan struct{}) {
	q.mu.Lock()
	changed := q.changed
	q.mu.Unlock()
	// Read without the lock, as the recorder may be asking Holds. What changes
	// from here on closes changed.
	list := q.opts.Recordings.List(entry)
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range list {
		rec := &list[i]
		if rec.ServerIndex != index || !ours(rec) {
			continue
		}
		if !rec.Finished() {
			return false, changed
		}
		if p := q.packedOf(rec.ID); p != nil && p.listed == len(rec.Pieces) {
			continue
		}
		for _, p := range rec.Pieces {
			if q.table[pieceID{rec.ID, p.Rendition, p.Number}] == nil {
				return false, changed
			}
		}
	}
	for _, l := range q.lanes {
		if l.id.entry == entry && l.id.index == index && q.waits(l) {
			return false, changed
		}
	}
	return true, changed
}

// waits reports whether a lane has something that will go on by itself; q.mu
// is held.
func (q *Queue) waits(l *lane) bool {
	held := ""
	for _, id := range l.open {
		r := q.table[id]
		switch {
		case r.Recording == held:
		case r.State == refused:
			held = r.Recording
		case r.Content && r.State == queued && q.carrierRefused(r):
		default:
			return true
		}
	}
	return false
}

// carrierRefused reports whether the row that stands for r's recording waits
// for a person; q.mu is held.
func (q *Queue) carrierRefused(r *row) bool {
	k := q.known[r.Recording]
	return k != nil && k.carrier != (pieceID{}) && q.table[k.carrier] != nil && q.table[k.carrier].State == refused
}

// Holds reports whether a piece must not be deleted: it is not with the
// backend, or nobody knows, or the backend was given this very file a short
// while ago. It calls nobody, so it may be asked under any lock.
func (q *Queue) Holds(recording, rendition string, number int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.table[pieceID{recording, rendition, number}]
	if r == nil {
		k := q.known[recording]
		if p := q.packedOf(recording); p != nil && p.has(rendition, number) {
			return false
		}
		return k == nil || k.ours // not looked at yet, or not queued yet
	}
	return r.State != delivered || r.InPlace && !r.Content && time.Since(r.Done) < linkLife
}

// Stats is the queue in numbers.
type Stats struct {
	// Queued … Refused are pieces by state; those delivered, while their
	// recording exists.
	Queued, Sending, Delivered, InDoubt, Refused int
	// Bytes is the size of what is queued or under way.
	Bytes int64
	// Oldest is since when the oldest of these waits; zero: none does.
	Oldest time.Time
	// Sent, Doubted, Rejected and Accepted count what happened since the start:
	// pieces that the backend took, that were left in doubt, that it refused,
	// and that a person accepted.
	Sent, Doubted, Rejected, Accepted uint64
}

// Stats is a snapshot.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Stats{Sent: q.counts.delivered, Doubted: q.counts.doubted, Rejected: q.counts.refused, Accepted: q.counts.accepted}
	for _, k := range q.known {
		if k.packed != nil {
			s.Delivered += k.packed.rows
		}
	}
	for _, r := range q.table {
		switch {
		case r.State == sending || r.State == queued && q.worked(r): // as it is shown
			s.Sending++
		case r.State == queued:
			s.Queued++
		case r.State == delivered:
			s.Delivered++
		case r.State == inDoubt:
			s.InDoubt++
		case r.State == refused:
			s.Refused++
		}
		if r.State == queued || r.State == sending {
			s.Bytes += r.Size
			if s.Oldest.IsZero() || r.Queued.Before(s.Oldest) {
				s.Oldest = r.Queued
			}
		}
	}
	return s
}

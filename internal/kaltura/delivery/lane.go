package delivery

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/klive-media/klive/internal/run"
)

// laneID names a lane: what must be sent in order.
type laneID struct {
	entry     string
	index     int
	rendition string
}

// lane is the rows of a laneID that are not behind us. Guarded by Queue.mu.
type lane struct {
	id   laneID
	open []pieceID // in order of sending: queued, sending and refused ones
	// called is the row whose call was made, perhaps, and whose outcome is not
	// known; zero: none is.
	called pieceID
	// working is what is being worked on; zero: nothing is.
	working pieceID
	// served is when its head was last taken up, so that lanes take turns.
	served time.Time
	// doubts is how many pieces in a row are in doubt. A backend that loses one
	// answer after the other gets the next piece only after until, so that not
	// all that waits is in doubt within a moment.
	doubts int
	until  time.Time
	// unseen is how often the backend did not find a file since it last took a
	// piece.
	unseen int
	// touched is when the backend last appended something, or may have.
	touched time.Time
	// doubted is when a piece was last left in doubt: the backend may carry that
	// call out some time later.
	doubted time.Time
}

func (r *row) lane() laneID { return laneID{r.Stream, r.ServerIndex, r.Rendition} }

// place puts a row in the place of an older one; q.mu is held. What is older
// than the row there is left out.
func (q *Queue) place(r *row) {
	old := q.table[r.id()]
	if old != nil && old.revision > r.revision {
		return
	}
	q.table[r.id()] = r
	l := q.lanes[r.lane()]
	if l == nil {
		l = &lane{id: r.lane()}
		q.lanes[l.id] = l
	}
	if r.State.passed() && r.Done.After(l.touched) {
		l.touched = r.Done
	}
	if r.State == inDoubt && r.Done.After(l.doubted) {
		l.doubted = r.Done
	}
	if r.Intent != nil && r.Intent.Failed && r.Intent.Asked.After(l.touched) {
		l.touched = r.Intent.Asked
	}
	if r.State == sending || r.State == queued && r.Intent != nil && r.Intent.Failed {
		l.called = r.id()
	} else if l.called == r.id() {
		l.called = pieceID{}
	}
	at, found := slices.BinarySearchFunc(l.open, r, func(id pieceID, r *row) int { return compareRows(q.table[id], r) })
	switch open := !r.State.passed(); {
	case open && !found:
		l.open = slices.Insert(l.open, at, r.id())
	case !open && found:
		l.open = slices.Delete(l.open, at, at+1)
	}
}

// drop removes a row for good; q.mu is held.
func (q *Queue) drop(r *row) {
	delete(q.table, r.id())
	if l := q.lanes[r.lane()]; l != nil {
		if l.called == r.id() {
			l.called = pieceID{}
		}
		l.open = slices.DeleteFunc(l.open, func(id pieceID) bool { return id == r.id() })
	}
	q.notify()
}

// head is the row of a lane whose turn it is, or nil; q.mu is held. A refused
// row holds back what is behind it in its recording, not later recordings. A
// call whose outcome is not known comes before everything: an earlier piece,
// queued late or retried, would change the length it is judged by.
func (q *Queue) head(l *lane) *row {
	if r := q.table[l.called]; r != nil {
		return r
	}
	held := ""
	for _, id := range l.open {
		r := q.table[id]
		switch {
		case r.Recording == held:
		case r.State == refused:
			held = r.Recording
		case r.Content && r.State == queued && !q.carries(r):
		default:
			return r
		}
	}
	return nil
}

// carries reports whether a row stands for its whole recording, now that it is
// complete; q.mu is held.
func (q *Queue) carries(r *row) bool {
	k := q.known[r.Recording]
	return k != nil && k.carrier == r.id()
}

// dispatch starts the heads of lanes when their time has come.
func (q *Queue) dispatch(ctx context.Context, g *run.Group) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(q.start(g))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-q.wake:
		}
	}
}

// start starts what may start and returns when to look again. Lanes that
// waited longest go first.
func (q *Queue) start(g *run.Group) time.Duration {
	now := time.Now()
	pause := sweepEach
	var ready []*lane
	q.mu.Lock()
	for id, l := range q.lanes {
		if l.working != (pieceID{}) {
			continue
		}
		r := q.head(l)
		switch {
		case r == nil:
			if len(l.open) == 0 && now.Sub(l.touched) > settled {
				delete(q.lanes, id)
			}
		case r.next.After(now):
			pause = min(pause, r.next.Sub(now))
		case l.rest(r, now) > 0:
			pause = min(pause, l.rest(r, now))
		default:
			ready = append(ready, l)
		}
	}
	slices.SortFunc(ready, func(a, b *lane) int {
		return cmp.Or(a.served.Compare(b.served), cmp.Compare(a.id.entry, b.id.entry), cmp.Compare(a.id.index, b.id.index),
			cmp.Compare(a.id.rendition, b.id.rendition))
	})
	ready = ready[:min(len(ready), q.free)]
	heads := make([]*row, len(ready))
	for i, l := range ready {
		heads[i] = q.head(l)
		l.working, l.served = heads[i].id(), now
		q.free--
	}
	q.mu.Unlock()
	for i, l := range ready {
		name := fmt.Sprintf("deliver %s_%s index %d", l.id.entry, l.id.rendition, l.id.index)
		err := g.Detach(name, func(ctx context.Context) error {
			q.step(ctx, heads[i])
			return nil
		}, func(err error) {
			if err != nil {
				q.log.Error("a delivery failed in this server", "lane", name, "error", err)
			}
			q.release(l, heads[i])
		})
		if err != nil { // the server stops
			q.release(l, heads[i])
		}
	}
	return pause
}

// release gives a lane back.
func (q *Queue) release(l *lane, was *row) {
	q.mu.Lock()
	l.working = pieceID{}
	q.free++
	if q.table[was.id()] == was { // nothing came of it: not again at once
		r := was.copy()
		r.next = time.Now().Add(firstBackoff)
		q.place(r)
	}
	q.notify()
	q.mu.Unlock()
	signal(q.wake)
}

// rest is how long a lane must wait before its head may be sent: while the
// backend may still be working at a call whose answer was lost, the next piece
// could overtake it.
func (l *lane) rest(head *row, now time.Time) time.Duration {
	if head.State == sending { // asks only
		return 0
	}
	return max(l.doubted.Add(workTime).Sub(now), l.until.Sub(now))
}

// step works on the head of a lane.
func (q *Queue) step(ctx context.Context, head *row) {
	r := head.copy()
	switch {
	case ctx.Err() != nil:
	case r.State == sending:
		q.resolve(ctx, r)
	case r.Content:
		q.sendWhole(ctx, r)
	default:
		q.send(ctx, r)
	}
}

package delivery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/store"
	"github.com/klive-media/klive/internal/stream"
)

// entryID is what a backend calls an entry. Recordings of anything else were
// made without a backend and are not for it.
var entryID = regexp.MustCompile(`^[01]_[0-9A-Za-z_]{8}$`)

func ours(rec *stream.Recording) bool {
	return rec.Mode != egress.RecordOff && entryID.MatchString(rec.Stream)
}

// lookShare is how many times as long as a look at the recordings took the next
// one is put off.
const lookShare = 9

// sleep waits, and reports whether ctx lives on.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// watch keeps the rows in step with the recordings.
func (q *Queue) watch(ctx context.Context) error {
	for fails := 0; ; {
		changed := q.opts.Recordings.Changed()
		pause, began := sweepEach, time.Now()
		if err := q.reconcile(ctx); err != nil && ctx.Err() == nil {
			q.log.Error("pieces could not be queued; they stay on the disk and are tried again", "error", err)
			fails++
			pause = backoff(fails)
		} else {
			fails = 0
			if at := q.unfinished.due(); !at.IsZero() {
				pause = min(pause, max(time.Until(at), firstBackoff))
			}
		}
		signal(q.wake)
		// With many recordings a look takes a while; it should not take more than
		// a tenth of the time.
		if !sleep(ctx, lookShare*time.Since(began)) {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-q.kick:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// reconcile makes a row for every finished piece that has none. It is all that
// is needed after a crash, too: a piece that was finished and never queued is
// found like a new one.
func (q *Queue) reconcile(ctx context.Context) error {
	all := q.opts.Recordings.List("")
	slices.SortFunc(all, func(a, b stream.Recording) int { return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.ID, b.ID)) })
	listed := make(map[string]bool, len(all))
	defer q.unfinished.look()()
	var failed error
	for i := range all {
		rec := &all[i]
		listed[rec.ID] = true
		if !ours(rec) {
			q.know(rec, pieceID{}, 0)
			continue
		}
		if same, err := q.still(ctx, rec); same || err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		rows, err := q.reconcileOne(ctx, rec)
		if err != nil {
			failed = errors.Join(failed, err)
		}
		content := slices.ContainsFunc(rows, func(r *row) bool { return r.Content })
		var carrier pieceID
		if content {
			carrier = carrierOf(rec, rows, q.sourceOf(rec.Stream, rec.ServerIndex))
		}
		complete := 0
		if rec.Finished() && len(rows) == len(rec.Pieces) {
			complete = len(rows)
		}
		q.know(rec, carrier, complete)
		if content {
			failed = errors.Join(failed, q.sortOut(ctx, rec, rows, carrier))
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	rows := map[string]bool{}
	for _, r := range q.table {
		rows[r.Recording] = true
	}
	for id := range rows {
		if q.known[id] == nil {
			q.known[id] = &known{ours: true}
		}
	}
	for id, k := range q.known {
		switch {
		case listed[id]:
		case k.packed == nil && !rows[id]: // nothing is left of it
			delete(q.known, id)
		case k.gone.IsZero():
			k.gone = now
		}
	}
	q.notify()
	return failed
}

// know notes what a look at the recordings found.
func (q *Queue) know(rec *stream.Recording, carrier pieceID, complete int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.known[rec.ID] = &known{ours: ours(rec), carrier: carrier, complete: complete}
}

// reconcileOne returns the rows of a recording, with those it made, by
// rendition and number.
func (q *Queue) reconcileOne(ctx context.Context, rec *stream.Recording) ([]*row, error) {
	slices.SortFunc(rec.Pieces, func(a, b stream.Piece) int {
		return cmp.Or(cmp.Compare(a.Rendition, b.Rendition), cmp.Compare(a.Number, b.Number))
	})
	rows := make([]*row, 0, len(rec.Pieces))
	var failed error
	for i := 0; i < len(rec.Pieces); {
		i += q.withRows(rec, rec.Pieces[i:], &rows)
		if i == len(rec.Pieces) {
			break
		}
		p := rec.Pieces[i]
		if p.Finished && !q.overtakes(rec, p) {
			r, err := q.rowOf(ctx, rec, p)
			if err == nil {
				rows = append(rows, r)
				i++
				continue
			}
			failed = errors.Join(failed, err)
		}
		// What is behind a piece without a row must wait for it, here and in newer
		// recordings.
		q.unfinished.meet(rec, p)
		for i < len(rec.Pieces) && rec.Pieces[i].Rendition == p.Rendition {
			i++
		}
	}
	return rows, failed
}

// withRows adds the rows of the first pieces, up to one that has none, and
// returns how many there are.
func (q *Queue) withRows(rec *stream.Recording, pieces []stream.Piece, rows *[]*row) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, p := range pieces {
		r := q.table[pieceID{rec.ID, p.Rendition, p.Number}]
		if r == nil {
			return i
		}
		if r.State == queued && (r.Last != p.Last || r.File != p.File) {
			// Known better now; written with the intent.
			r = r.copy()
			r.Last, r.File = p.Last, p.File
			q.place(r)
		}
		*rows = append(*rows, r)
	}
	return len(pieces)
}

// rowOf makes the row of a finished piece.
func (q *Queue) rowOf(ctx context.Context, rec *stream.Recording, p stream.Piece) (*row, error) {
	r := newRow(rec, p, time.Now())
	q.mu.Lock()
	broken := q.broken[r.key]
	if before := q.table[pieceID{rec.ID, p.Rendition, p.Number - 1}]; before != nil {
		r.Start = before.Start // whatever the clock says now: it orders the lane
	}
	q.mu.Unlock()
	r, err := q.create(ctx, r, broken)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.place(r)
	q.notify()
	return r, nil
}

// create writes the first version of a row, or reads the one that is there.
func (q *Queue) create(ctx context.Context, r *row, unreadable bool) (*row, error) {
	if unreadable {
		return q.doubtUnreadable(ctx, r)
	}
	if r.Duration <= 0 {
		r.State, r.Done, r.Error = delivered, r.Queued, "not needed: it holds no picture and no sound"
	}
	value, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode the delivery %s: %w", r.key, err)
	}
	r.revision, err = q.rows.Create(ctx, r.key, value)
	if errors.Is(err, store.ErrExists) {
		// The answer to an earlier attempt was lost.
		rec, getErr := q.rows.Get(ctx, r.key)
		if getErr != nil {
			return nil, fmt.Errorf("queue %s: %w", r.key, getErr)
		}
		have, getErr := decodeRow(rec.Key, rec.Value, rec.Revision)
		if getErr != nil {
			q.log.Error("a delivery cannot be read; the piece is in doubt", "key", r.key, "error", getErr)
			return q.doubtUnreadable(ctx, r)
		}
		return have, nil
	}
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", r.key, err)
	}
	return r, nil
}

// doubtUnreadable stands in for a row that cannot be read: nobody knows
// whether the piece was sent.
func (q *Queue) doubtUnreadable(ctx context.Context, r *row) (*row, error) {
	rec, err := q.rows.Get(ctx, r.key)
	if err != nil {
		return nil, fmt.Errorf("read the delivery %s: %w", r.key, err)
	}
	r.revision = rec.Revision
	r.State, r.Done, r.Error = inDoubt, rec.Created, "what was kept of this delivery cannot be read, so it is not known whether it was sent"
	return r, nil
}

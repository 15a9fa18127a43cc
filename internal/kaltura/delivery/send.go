package delivery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/store"
	"github.com/klive-media/klive/internal/stream"
)

// send hands a piece over. The order matters: everything that can fail without
// doubt comes first, then the intent is written, then comes the one call.
func (q *Queue) send(ctx context.Context, r *row) {
	r.Attempts++
	r.Tried = time.Now()
	flavor, err := q.assetOf(ctx, r)
	if err != nil {
		q.failed(ctx, r, err)
		return
	}
	segment, err := q.handOver(ctx, r, r.File, q.pieceName(r))
	if err != nil {
		q.failed(ctx, r, err)
		return
	}
	// Also asks whether the backend is there at all, so that no intent is
	// written, and no doubt arises, when it is not.
	e, err := q.opts.Client.GetEntry(ctx, r.Partner, r.Stream)
	if err != nil {
		q.failed(ctx, r, err)
		return
	}
	q.answered()
	if in := r.Intent; in != nil && in.Failed && in.judge(e, r.Duration) == grown {
		q.deliver(ctx, r, e) // what the backend called a failure was none
		return
	}
	q.mu.Lock()
	have := q.lengths[r.Stream]
	q.mu.Unlock()
	if q.opts.MaxRecorded > 0 && !r.Forced && have.recorded == string(e.RecordedEntry) && have.sum+r.Duration > q.opts.MaxRecorded {
		q.failed(ctx, r, &ownError{codeCap, fmt.Sprintf("with this piece the recording of %s would pass %v, after which the backend takes nothing more; it was not sent",
			r.Stream, q.opts.MaxRecorded), refusal})
		return
	}
	if rec, ok := q.opts.Recordings.Get(r.Recording); ok {
		for _, p := range rec.Pieces {
			if p.Rendition == r.Rendition && p.Number == r.Number {
				r.Last = p.Last // it may be known only now
			}
		}
	}
	anchor := flavor.Anchor && r.ServerIndex == 0
	if anchor && r.Last && e.RecordedEntry != "" {
		if err := q.opts.Client.CancelReplace(ctx, r.Partner, string(e.RecordedEntry)); err != nil {
			level := slog.LevelWarn
			if client.HasCode(err, "SERVICE_FORBIDDEN") { // of every recording, until the operator grants it
				level = slog.LevelDebug
			}
			q.log.Log(ctx, level, "a replacement that waits could not be cancelled before the last piece", "entry", r.Stream, "recorded", string(e.RecordedEntry), "error", err)
		}
	}
	in := &intent{Anchor: anchor, Before: int64(e.RecordedLength), Recorded: string(e.RecordedEntry)}
	if anchor && e.Record != 0 && e.RecordedEntry != "" {
		in.Certain, in.Counts = q.reliable(r, in)
	}
	q.call(ctx, r, in, func(ctx context.Context) (client.Entry, error) {
		segment.Entry, segment.Asset, segment.Index, segment.Duration, segment.Last = r.Stream, r.Asset, r.ServerIndex, r.Duration, r.Last
		return q.opts.Client.Append(ctx, r.Partner, segment)
	})
}

// call writes the intent, makes the call that cannot be repeated, and writes
// what became of it.
func (q *Queue) call(ctx context.Context, r *row, in *intent, do func(context.Context) (client.Entry, error)) {
	if ctx.Err() != nil {
		return
	}
	before := r.copy()
	in.By, in.Asked = q.run, time.Now()
	r.State, r.Intent = sending, in
	if err := q.save(ctx, r); err != nil {
		q.failed(ctx, before, fmt.Errorf("write what is about to be done: %w", err))
		return
	}
	calling, done := lingering(ctx, grace)
	defer done()
	e, err := do(calling)
	if err == nil {
		q.answered()
		q.deliver(ctx, r, e)
		return
	}
	if away, ok := errors.AsType[*client.Unavailable](err); ok && away.Doubt {
		q.lost(ctx, r, err)
		return
	}
	q.failed(ctx, r, err)
}

// lingering is a context that ends a while after ctx does.
func lingering(ctx context.Context, while time.Duration) (context.Context, func()) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(while)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-out.Done():
		}
	})
	return out, func() { stop(); cancel() }
}

// deliver notes that the backend has the piece.
func (q *Queue) deliver(ctx context.Context, r *row, e client.Entry) {
	r.State, r.Done, r.Code, r.Error, r.Upload = delivered, time.Now(), "", "", nil
	if r.Intent != nil {
		r.Intent.After, r.Intent.Failed = int64(e.RecordedLength), false
	}
	if !q.record(ctx, r) {
		return
	}
	q.mu.Lock()
	q.counts.delivered++
	if l := q.lanes[r.lane()]; l != nil {
		l.doubts, l.until, l.unseen = 0, time.Time{}, 0
	}
	if r.Intent != nil && r.Intent.Anchor {
		if len(q.lengths) >= maxProfiles {
			clear(q.lengths)
		}
		q.lengths[r.Stream] = length{string(e.RecordedEntry), time.Duration(e.RecordedLength) * time.Millisecond}
	}
	q.mu.Unlock()
	if r.Content {
		signal(q.kick) // the rest of the recording is part of it
	}
	q.tell(stream.PieceDelivered, r, fmt.Sprintf("Piece %d of rendition %s is with the backend.", r.Number, r.Rendition))
}

// failed decides what follows when a piece was certainly not handed over.
func (q *Queue) failed(ctx context.Context, r *row, err error) {
	called := r.State == sending // the intent is on the disk
	if ctx.Err() != nil && !called {
		return // the server stops; nothing was tried
	}
	r.State = queued
	r.fails++
	r.away = false
	what := patience
	r.Code, r.Error = "", err.Error()
	if api, ok := errors.AsType[*client.Error](err); ok {
		r.Code, what = api.Code, remedyOf(api.Code)
		q.answered()
		if r.Code == codeUnseen && called {
			q.unseen(r)
		}
	} else if own, ok := errors.AsType[*ownError](err); ok {
		r.Code, what = own.code, own.remedy
	} else if _, ok := errors.AsType[*client.Unavailable](err); ok {
		r.away = true
		q.mu.Lock()
		q.down = true
		q.mu.Unlock()
	}
	hadUpload, failedThere := r.Upload != nil, false
	switch what {
	case refusal:
		q.refuse(ctx, r)
		return
	case somePatience:
		if r.fails >= maxFails {
			q.refuse(ctx, r)
			return
		}
	case failure:
		failedThere = called && r.Intent.Certain
		if called && !failedThere && !r.Content && !q.untouched(r) {
			q.doubt(ctx, r, "the backend failed in the middle of it, and shows nothing that tells whether it has the piece")
			return
		}
	case lookUp:
		if r.Content {
			q.refuse(ctx, r)
			return
		}
		r.stale = true
	case whole:
		if r.Content { // it was told so already
			q.refuse(ctx, r)
			return
		}
		r.Content, r.fails, r.Upload, r.Intent = true, 0, nil, nil
		if q.record(ctx, r) {
			signal(q.kick)
		}
		return
	case anew:
		r.Upload = nil
	}
	if called {
		if failedThere {
			r.Intent.Failed = true
		} else {
			r.Intent = nil
		}
	}
	r.next = time.Now().Add(backoff(r.fails))
	if called || hadUpload != (r.Upload != nil) {
		q.record(ctx, r)
		return
	}
	q.note(r)
}

// untouched reports whether a piece that was to be taken away is still where it
// was handed over: the backend moves it before it does anything else with it.
func (q *Queue) untouched(r *row) bool {
	if q.opts.Way != SharedDisk || r.InPlace {
		return false
	}
	_, err := os.Stat(filepath.Join(q.opts.SharedDir, q.handedName(r)))
	return err == nil
}

// refuse leaves a piece to somebody's decision.
func (q *Queue) refuse(ctx context.Context, r *row) {
	r.State, r.Done, r.Upload = refused, time.Now(), nil
	if !q.record(ctx, r) {
		return
	}
	q.mu.Lock()
	q.counts.refused++
	q.mu.Unlock()
	q.log.Warn("the backend does not take a recorded piece; those behind it wait", "entry", r.Stream, "recording", r.Recording,
		"rendition", r.Rendition, "number", r.Number, "code", r.Code, "error", r.Error)
	q.tell(stream.DeliveryFailed, r, fmt.Sprintf("Piece %d of rendition %s was refused (%s); those behind it wait until it is retried or given up.", r.Number, r.Rendition, r.Code))
}

// backoff is how long to wait after a number of failures in a row.
func backoff(fails int) time.Duration {
	limit := maxBackoff
	if fails <= 6 {
		limit = min(limit, firstBackoff<<max(fails-1, 0))
	}
	return limit/2 + rand.N(limit/2)
}

// answered notes that the backend is there, and lets those try again that
// found it away.
func (q *Queue) answered() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.down {
		return
	}
	q.down = false
	// Where some calls are answered and others never, this must not take the
	// place of the backoff.
	if now := time.Now(); now.Sub(q.hurried) >= maxBackoff/2 {
		q.hurried = now
		q.hurry(func(r *row) bool { return r.away })
		signal(q.wake)
	}
}

// save writes a row once; then it takes the old one's place.
func (q *Queue) save(ctx context.Context, r *row) error {
	ctx = context.WithoutCancel(ctx)
	value, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the delivery %s: %w", r.key, err)
	}
	revision, err := q.rows.Update(ctx, r.key, value, r.revision)
	if err != nil {
		rec, getErr := q.rows.Get(ctx, r.key)
		if getErr != nil {
			return fmt.Errorf("write the delivery %s: %w", r.key, errors.Join(err, getErr))
		}
		if !bytes.Equal(rec.Value, value) {
			q.adopt(rec)
			return fmt.Errorf("write the delivery %s: %w", r.key, err)
		}
		revision = rec.Revision // it was written, only the answer was lost
	}
	r.revision = revision
	q.mu.Lock()
	q.place(r.copy()) // r stays the caller's
	q.notify()
	q.mu.Unlock()
	return nil
}

// adopt takes over what stands in the store when it is newer than what is
// known here: somebody retried the piece meanwhile, or a write whose answer was
// lost. An intent of this process that is found so was followed by no call.
func (q *Queue) adopt(rec store.Record) {
	r, err := decodeRow(rec.Key, rec.Value, rec.Revision)
	if err != nil {
		q.log.Error("a delivery cannot be read", "key", rec.Key, "error", err)
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	old := q.table[r.id()]
	if old == nil || old.revision >= r.revision {
		return
	}
	if r.State == sending && r.Intent != nil && r.Intent.By == q.run && old.State == queued {
		r.State, r.Intent = queued, old.Intent
	}
	q.place(r)
	q.notify()
}

// record writes what became of a call, however often it takes. It gives up
// when the server stops; what is on the disk then says that it is not known.
func (q *Queue) record(ctx context.Context, r *row) bool {
	for n := 1; ; n++ {
		err := q.save(ctx, r)
		if err == nil {
			return true
		}
		if errors.Is(err, store.ErrConflict) {
			q.log.Warn("a delivery was changed by somebody else while it was under way; theirs counts", "key", r.key, "error", err)
			return false
		}
		q.log.Error("what became of a delivery could not be written; it is tried again", "key", r.key, "error", err)
		if !sleep(ctx, backoff(n)) {
			return q.save(ctx, r) == nil
		}
	}
}

// note shows what need not survive the process: that a try failed before
// anything was asked of the backend.
func (q *Queue) note(r *row) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.place(r.copy())
	q.notify()
}

// tell records an event.
func (q *Queue) tell(t stream.EventType, r *row, message string) {
	if q.opts.Journal == nil {
		return
	}
	q.opts.Journal.Record(stream.Event{Type: t, Stream: r.Stream, Message: message, Facts: r.facts()})
}

package lifecycle

import (
	"context"
	"errors"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/stream"
)

// tellEnd takes the entry off air at the backend: when everything recorded was
// delivered, at the latest endMargin before tellEndBy, and only when it is
// still ours. It returns when to come back, and what may let it happen
// earlier.
func (k *keeper) tellEnd(ctx context.Context, v *view) (next time.Time, settled <-chan struct{}) {
	now := time.Now()
	giveUp := k.ended.Add(giveUpAfter)
	if !now.Before(giveUp) {
		k.log.Warn("the end of a broadcast could not be told; the backend has found out by itself", "broadcast", k.broadcast, "error", k.calls.err)
		k.move(ctx, GaveUp)
		facts := k.facts()
		facts["given_up"] = "true"
		k.l.opts.Journal.Record(stream.Event{
			Type: stream.EntryLeft, Stream: k.key.Entry, Reason: k.gaveUpFor(), Facts: facts,
			Message: "the backend could not be told that the broadcast is over; it has found out by itself",
		})
		return time.Time{}, nil
	}
	latest := k.ended.Add(tellEndBy - endMargin)
	if now.Before(latest) {
		ready, until, changed := k.ready(v, now)
		if !ready {
			return soonest(latest, until), changed
		}
	}
	if now.Before(k.calls.due) {
		return k.calls.due, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := k.unregister(ctx); err != nil {
		k.failed(ctx, err)
		return soonest(k.calls.due, giveUp), nil
	}
	return time.Time{}, nil
}

// gaveUpFor is why the end could not be told; "" when this server was away.
func (k *keeper) gaveUpFor() fault.Reason {
	if refused, ok := errors.AsType[*client.Error](k.calls.err); ok {
		return reasonOf(refused.Code)
	}
	if k.calls.err != nil {
		return fault.BackendUnavailable
	}
	return ""
}

// ready reports whether the end may be told already; if not, when to look
// again and what to wait for beside that.
func (k *keeper) ready(v *view, now time.Time) (ready bool, until time.Time, changed <-chan struct{}) {
	if len(v.sessions) > 0 { // it may go on at any moment
		return false, time.Time{}, nil
	}
	if k.l.opts.Settled == nil {
		return true, time.Time{}, nil
	}
	if until := k.ended.Add(settleAfter); now.Before(until) {
		return false, until, nil
	}
	done, changed := k.l.opts.Settled(k.key.Entry, k.key.Index)
	return done, time.Time{}, changed
}

// unregister tells the end, unless the backend knows it or the entry is
// another host's.
func (k *keeper) unregister(ctx context.Context) error {
	g := k.grant()
	row, other, err := k.owner(ctx)
	switch {
	case client.HasCode(err, codeNoEntry):
		k.move(ctx, ToldEnd) // deleted meanwhile
		return nil
	case client.HasCode(err, codeNoService):
		row = new(client.Registration) // a backend as old as this holds the host against its own
	case err != nil:
		return err
	case other:
		k.takenOver(ctx, row)
		return nil
	}
	if row != nil { // else it found out by itself
		err := k.l.opts.Client.Unregister(ctx, g.Partner, k.place())
		if err != nil && !client.HasCode(err, codeNoEntry) {
			return err
		}
	}
	k.move(ctx, ToldEnd)
	k.l.opts.Journal.Record(stream.Event{
		Type: stream.EntryLeft, Stream: k.key.Entry, Facts: k.facts(),
		Message: "the backend knows that the broadcast is over",
	})
	return nil
}

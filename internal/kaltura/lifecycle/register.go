package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/stream"
)

// The backend's codes that mean something here.
const (
	codeBlocked      = "SERVICE_FORBIDDEN_CONTENT_BLOCKED" // the partner is
	codeNoHost       = "MEDIA_SERVER_NOT_FOUND"            // our node is not known, or disabled
	codeNoNode       = "SERVER_NODE_NOT_FOUND"             // the same, of unregister
	codeNoEntry      = "ENTRY_ID_NOT_FOUND"
	codeNoRow        = "ENTRY_SERVER_NODE_NOT_FOUND"
	codeNoObject     = "INVALID_OBJECT_ID"       // the same, of update
	codeNoService    = "SERVICE_DOES_NOT_EXISTS" // a backend from before there were rows
	codeInternal     = "INTERNAL_SERVERL_ERROR"  // the backend's own spelling
	codeDatabase     = "INTERNAL_DATABASE_ERROR"
	codeLock         = "LOCK_TIMED_OUT"
	recordingActive  = 2 // recordingStatus
	viewPreview      = 0 // viewMode
	nodeResyncEvery  = 8 // failures for want of the node, between two questions for it
	longSilence      = 90 * time.Second
	registrationLife = 110 * time.Second // after which the row may be another one; the backend says 120 s
)

// The pauses after failures in a row: what may pass at any moment is tried
// again soon, so that the backend is told at once when it is back; a refusal
// more and more slowly, but never later than a keep-alive would come.
const (
	firstPause   = time.Second
	maxSoonPause = 5 * time.Second
	maxNodePause = 15 * time.Second
	maxSlowPause = keepAliveMax
)

// keepOnAir tells what is on air when that is due and returns when it is due
// next.
func (k *keeper) keepOnAir(ctx context.Context, v *view, resync bool) time.Time {
	b := v.living()
	want := client.StatusBroadcasting
	if v.plays() {
		want = client.StatusPlayable
	}
	now := time.Now()
	k.stale = k.stale || resync
	regranted := k.calls.told != client.StatusStopped && !k.calls.at.IsZero() && v.authenticated.After(k.calls.at)
	if regranted || resync {
		k.streams = streams{} // the row may have changed behind our back
	}
	if regranted || resync || k.calls.wanted != want {
		k.calls.due = now
	}
	if !now.Before(k.calls.due) {
		k.calls.wanted = want
		k.tell(ctx, v, want)
	}
	if !k.state.Tells() || k.calls.attempts > 0 || k.calls.told != want {
		return k.calls.due
	}
	if b.State == stream.Playable && !v.plays() {
		return k.calls.due // it will play at any moment, which nothing may hold up
	}
	if k.stale {
		k.refresh(ctx)
	}
	return soonest(k.calls.due, k.resolve(ctx, b), k.tellStreams(ctx, b))
}

// tell registers once, and notes what came of it.
func (k *keeper) tell(ctx context.Context, v *view, want client.Status) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	g := k.grant()
	if k.state == Waiting {
		// Whoever publishes now may do so at another host: also while a connection
		// that died unnoticed is still open here.
		row, other, err := k.owner(ctx)
		if _, answered := errors.AsType[*client.Error](err); err != nil && !answered && !errors.Is(err, errNoNode) {
			k.failed(ctx, err)
			return
		}
		if other {
			k.takenOver(ctx, row)
			return
		}
	}
	began := time.Now()
	e, err := k.l.opts.Client.Register(ctx, g.Partner, k.place(), k.l.opts.Application, want, k.records(g, v))
	if err != nil {
		k.failed(ctx, err)
		return
	}
	k.registered(ctx, v, g, e, want, began)
}

// records reports whether the backend is to make an entry of the recording.
func (k *keeper) records(g book.Grant, v *view) bool {
	s := g.Snapshot
	if s.Partner == 0 && s.Record == 0 { // nothing is known of the entry
		return v.living().Policy.Recording != ""
	}
	return s.Record != 0 && (!bool(s.ExplicitLive) || s.RecordingStatus == recordingActive)
}

// registered notes that the backend was told.
func (k *keeper) registered(ctx context.Context, v *view, g book.Grant, e client.Entry, want client.Status, began time.Time) {
	c := &k.calls
	changed := c.told != want
	back := c.attempts > 0 && (c.code != "" || began.Sub(c.at) > longSilence)
	if !c.at.IsZero() && began.Sub(c.at) > registrationLife {
		k.streams = streams{}
	}
	if changed {
		c.told, c.since = want, time.Now()
	}
	c.at, c.attempts, c.code, c.err = began, 0, "", nil
	c.due = began.Add(keepAlive())
	if string(e.ID) == k.key.Entry {
		c.recorded, c.preview = string(e.RecordedEntry), bool(e.ExplicitLive) && e.ViewMode == viewPreview
		k.keepSnapshot(ctx, g, e)
	}
	if changed {
		k.writeRow(ctx)
	}
	if changed || back {
		facts := k.facts()
		facts["state"] = stateOf(want).String()
		if c.recorded != "" {
			facts["recorded_entry"] = c.recorded
		}
		message := "the backend knows that the stream is on air"
		if want == client.StatusPlayable {
			message = "the backend knows that the stream can be watched"
		}
		k.l.opts.Journal.Record(stream.Event{Type: stream.EntryRegistered, Stream: k.key.Entry, Message: message, Facts: facts})
	}
	if changed && k.key.Index == 0 && string(e.ID) == k.key.Entry && e.CurrentStart == 0 {
		k.tellStart(ctx, g.Partner, v)
	}
}

// tellStart writes when the broadcast began; only the primary does.
func (k *keeper) tellStart(ctx context.Context, partner int, v *view) {
	if err := k.l.opts.Client.SetBroadcastStart(ctx, partner, k.key.Entry, v.living().Start.Unix()); err != nil && ctx.Err() == nil {
		k.log.Debug("the start of a broadcast could not be told", "error", err)
	}
}

// keepSnapshot puts the entry as the backend answered into the book, when it
// says something new.
func (k *keeper) keepSnapshot(ctx context.Context, g book.Grant, e client.Entry) {
	old := g.Snapshot
	old.LiveStatus = e.LiveStatus // follows what we say ourselves
	if old == e {
		return
	}
	if _, _, err := k.l.opts.Book.Update(ctx, k.key, func(g *book.Grant) { g.Snapshot = e }); err != nil && ctx.Err() == nil {
		k.log.Warn("an entry as the backend has it could not be noted", "error", err)
	}
}

// refresh reads entry and profile anew.
func (k *keeper) refresh(ctx context.Context) {
	side, leave := k.aside(ctx)
	g := k.grant()
	e, err := k.l.opts.Client.GetEntry(side, g.Partner, k.key.Entry)
	if err == nil && string(e.ID) == k.key.Entry {
		k.keepSnapshot(ctx, g, e)
		g.Snapshot = e
		_, err = k.loadProfile(side, g)
		k.ladder = ladder{}
	}
	k.stale = leave() && err != nil // then after what is more urgent
	if err != nil {
		k.log.Debug("an entry could not be read anew", "error", err)
	}
}

// failed notes that the backend was not told and when to try again.
func (k *keeper) failed(ctx context.Context, err error) {
	if errors.Is(ctx.Err(), context.Canceled) { // we are leaving
		return
	}
	c := &k.calls
	c.attempts++
	c.err = err
	c.due = time.Now().Add(pauseAfter(err, c.attempts))
	refused, ok := errors.AsType[*client.Error](err)
	if !ok {
		return
	}
	if (refused.Code == codeNoHost || refused.Code == codeNoNode) && k.l.opts.Node != nil && c.attempts%nodeResyncEvery == 1 {
		k.l.opts.Node.Resync()
	}
	if refused.Code == c.code {
		return
	}
	c.code = refused.Code
	facts := k.facts()
	facts["code"] = refused.Code
	k.l.opts.Journal.Record(stream.Event{
		Type: stream.EntryRefused, Stream: k.key.Entry, Reason: reasonOf(refused.Code),
		Message: "the backend refused: " + refused.Message, Facts: facts,
	})
	if refused.Code == codeBlocked && k.state.Tells() {
		k.block(ctx)
	}
}

// block ends what a blocked partner has on air.
func (k *keeper) block(ctx context.Context) {
	cause := fault.New(fault.PartnerBlocked, "the account of this stream is blocked; its owner has to settle that with the provider")
	if err := k.l.opts.Live.Stop(ctx, k.key.Entry, cause); err != nil && ctx.Err() == nil {
		k.log.Warn("the stream of a blocked partner could not be stopped", "error", err)
	}
	if err := k.l.opts.Book.End(ctx, k.key, time.Now()); err != nil && ctx.Err() == nil {
		k.log.Warn("the grant of a blocked partner could not be ended", "error", err)
	}
}

// pauseAfter is how long to wait after so many failures in a row.
func pauseAfter(err error, attempts int) time.Duration {
	most := maxSoonPause
	if refused, ok := errors.AsType[*client.Error](err); ok {
		switch refused.Code {
		case codeInternal, codeDatabase, codeLock:
		case codeNoHost, codeNoNode:
			most = maxNodePause
		default:
			most = maxSlowPause
		}
	}
	return jitter(min(firstPause<<min(attempts, 10), most))
}

// reasonOf is a code of the backend in our words.
func reasonOf(code string) fault.Reason {
	switch code {
	case codeBlocked:
		return fault.PartnerBlocked
	case codeNoHost, codeNoNode:
		return fault.NodeNotRegistered
	case codeNoEntry:
		return fault.StreamNotFound
	case codeInternal, codeDatabase, codeLock:
		return fault.BackendUnavailable
	}
	return fault.BackendRefused
}

// owner finds the backend's row of the entry at this index; row is nil when
// there is none that counts. other: it is another host's.
func (k *keeper) owner(ctx context.Context) (row *client.Registration, other bool, err error) {
	list, err := k.l.opts.Client.Registrations(ctx, k.partner, k.key.Entry)
	if err != nil {
		return nil, false, err
	}
	for i := range list {
		if string(list[i].Index) == strconv.Itoa(k.key.Index) && list[i].Status != client.Int(client.StatusMarkedForDeletion) {
			row = &list[i]
		}
	}
	if row == nil {
		return nil, false, nil
	}
	for _, anew := range []bool{false, true} { // an operator may have made our node again
		ours, err := k.l.nodeID(ctx, anew)
		if err != nil {
			return nil, false, err
		}
		if int64(row.Node) == ours {
			return row, false, nil
		}
	}
	return row, true, nil
}

// takenOver notes that another host has the entry.
func (k *keeper) takenOver(ctx context.Context, row *client.Registration) {
	k.move(ctx, FoundOther)
	facts := k.facts()
	facts["node"] = strconv.FormatInt(int64(row.Node), 10)
	k.l.opts.Journal.Record(stream.Event{
		Type: stream.EntryTakenOver, Stream: k.key.Entry, Facts: facts,
		Message: fmt.Sprintf("server node %d has the stream now; this server leaves it alone", row.Node),
	})
}

// facts are those of every event about the entry.
func (k *keeper) facts() map[string]string {
	facts := map[string]string{"server_index": strconv.Itoa(k.key.Index)}
	if k.broadcast != "" {
		facts["broadcast"] = k.broadcast
	}
	if k.partner != 0 {
		facts["partner"] = strconv.Itoa(k.partner)
	}
	return facts
}

// stateOf is a status of the backend in our words.
func stateOf(s client.Status) stream.State {
	switch s {
	case client.StatusPlayable:
		return stream.Playable
	case client.StatusBroadcasting:
		return stream.Broadcasting
	}
	return stream.Authenticated
}

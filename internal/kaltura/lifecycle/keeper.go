package lifecycle

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/stream"
)

// The times of the agreement with the backend, which forgets an entry 120 s
// after it was told PLAYABLE last.
const (
	keepAliveMin = 45 * time.Second
	keepAliveMax = 55 * time.Second
	// tellEndBy is until when the end is told, delivered or not; endMargin before
	// it is when it is told at the latest, for the calls take their time.
	tellEndBy = 120 * time.Second
	endMargin = 2 * time.Second
	// giveUpAfter the end the backend has found out by itself.
	giveUpAfter = 150 * time.Second
	// settleAfter the end it may be believed that nothing is left to deliver: the
	// recorder needs a moment to close its last piece.
	settleAfter = 5 * time.Second
	// callTimeout bounds a call with its repetitions: after one that hangs there
	// must be time for another.
	callTimeout = 30 * time.Second
	// restartSpread is how long after a restart what was on air is told again,
	// each entry at a moment of its own.
	restartSpread = 2 * time.Second
	// silentAfter is how long without media a publisher may be one whose
	// connection nobody closed, while its encoder is elsewhere; heardEach is how
	// often it is looked then whether media came again.
	silentAfter = 10 * time.Second
	heardEach   = time.Second
	// listsEach is how often it is looked for the first whole segment.
	listsEach = 200 * time.Millisecond
	// sideTimeout bounds calls that may fail without harm to being on air, and
	// the wait for them; sideCalls is how many run at once.
	sideTimeout = 20 * time.Second
	sideCalls   = 16
)

// keeper tells the backend about one entry at one server index.
type keeper struct {
	l   *Lifecycle
	key book.Key
	log *slog.Logger

	mail chan struct{} // holds one: there is something new in the fields below

	mu     sync.Mutex // guards the fields below
	seen   view
	fresh  bool // seen was not read yet
	resync bool
	shown  stream.Registration
	drop   context.CancelFunc // gives up the side call that runs; nil: none does

	// The rest is of run's goroutine alone.
	state     State
	partner   int
	broadcast string    // id of the one that lives or lived last; "": none
	ended     time.Time // its end; zero while it lives
	closed    bool      // its grant was ended
	stale     bool      // entry and profile are to be read anew
	lists     bool      // the backend's addresses had something to play
	calls     calls
	ladder    ladder
	streams   streams
}

// calls is what came of the calls that register and unregister.
type calls struct {
	told     client.Status // StatusStopped: nothing
	since    time.Time     // of told
	at       time.Time     // when the last one that was answered began
	due      time.Time     // of the next
	wanted   client.Status // what the last one was to tell
	attempts int           // failed in a row
	code     string        // of the last refusal; "": none since the last success
	err      error         // of the last; nil: answered
	recorded string        // recorded entry
	preview  bool
}

func newKeeper(l *Lifecycle, key book.Key) *keeper {
	return &keeper{
		l: l, key: key, log: l.log.With("stream", key.Entry, "server_index", key.Index), mail: make(chan struct{}, 1),
		shown: stream.Registration{Stream: key.Entry, ServerIndex: key.Index, State: stream.Authenticated},
	}
}

// restored is the keeper of a row that the last run of the server left.
func restored(l *Lifecycle, r row) *keeper {
	k := newKeeper(l, r.key())
	k.partner, k.broadcast, k.ended = r.Partner, r.Broadcast, r.Ended
	now := time.Now()
	k.calls.told, k.calls.since = r.Told, now
	k.calls.due, k.calls.wanted = now.Add(rand.N(restartSpread)), r.Told
	switch {
	case !r.Ended.IsZero():
		k.state = Ending
	case r.Told == client.StatusPlayable:
		k.state, k.lists = Playing, true
	default:
		k.state = OnAir
	}
	return k
}

// put gives the keeper a view.
func (k *keeper) put(v view) {
	k.mu.Lock()
	if k.drop != nil && v.differs(&k.seen) {
		k.drop() // there is something more urgent to tell
	}
	k.seen, k.fresh = v, true
	k.mu.Unlock()
	k.nudge()
}

// aside makes a context for calls that may fail without harm to being on air:
// few of all keepers' at once, and given up for anything more urgent. leave
// must be called; it reports whether that happened.
func (k *keeper) aside(ctx context.Context) (side context.Context, leave func() (interrupted bool)) {
	side, cancel := context.WithTimeout(ctx, sideTimeout)
	k.mu.Lock()
	if k.fresh {
		cancel() // it is there already
	} else {
		k.drop = cancel
	}
	k.mu.Unlock()
	entered := false
	select {
	case k.l.side <- struct{}{}:
		entered = true
	case <-side.Done():
	}
	return side, func() bool {
		interrupted := errors.Is(side.Err(), context.Canceled) && ctx.Err() == nil
		k.mu.Lock()
		k.drop = nil
		k.mu.Unlock()
		cancel()
		if entered {
			<-k.l.side
		}
		return interrupted
	}
}

// regrant tells the keeper when the backend was asked about a publisher last.
func (k *keeper) regrant(at time.Time) {
	k.mu.Lock()
	same := k.seen.authenticated.Equal(at)
	if !same {
		k.seen.authenticated, k.fresh = at, true
	}
	k.mu.Unlock()
	if !same {
		k.nudge()
	}
}

// again makes the keeper tell everything anew.
func (k *keeper) again() {
	k.mu.Lock()
	k.resync = true
	k.mu.Unlock()
	k.nudge()
}

func (k *keeper) nudge() {
	select {
	case k.mail <- struct{}{}:
	default: // there is a nudge already
	}
}

// unread reports whether there is a view that was not looked at.
func (k *keeper) unread() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fresh
}

func (k *keeper) read() (v view, resync bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, resync = k.seen, k.resync
	k.fresh, k.resync = false, false
	return v, resync
}

// registration is what is shown.
func (k *keeper) registration() stream.Registration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.shown
}

// run does what there is to do about the entry until nothing is left.
func (k *keeper) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		v, resync := k.read()
		v.lists, v.silent = k.listed(&v), k.silent(&v)
		k.observe(ctx, &v)
		next, settled := k.work(ctx, &v, resync)
		k.show(&v)
		if b := v.living(); b != nil && b.State == stream.Playable && !v.lists {
			next = soonest(next, time.Now().Add(listsEach)) // no view comes when the first segment is whole
		}
		if v.silent {
			next = soonest(next, time.Now().Add(heardEach)) // nor when media comes again
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if k.state == Gone {
			k.forgetRow(ctx)
			if k.l.retire(k) {
				return nil
			}
			k.begin("")
			k.state = Idle
			continue
		}
		var due <-chan time.Time
		if !next.IsZero() {
			timer.Reset(time.Until(next))
			due = timer.C
		}
		select {
		case <-due:
		case <-k.mail:
		case <-settled:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		timer.Stop()
	}
}

// listed reports whether the backend's addresses have something to play. Once
// they had, the broadcast itself says when nothing is left.
func (k *keeper) listed(v *view) bool {
	b := v.living()
	switch {
	case b == nil || b.State != stream.Playable:
		k.lists = false
	case b.ID != k.broadcast || !k.lists:
		k.lists = k.l.opts.Plays == nil || k.l.opts.Plays(k.key.Entry, k.key.Index)
	}
	return k.lists
}

// silent reports whether those who are to feed the broadcast sent nothing for a
// while. The view does not say it: media alone makes no view.
func (k *keeper) silent(v *view) bool {
	if v.living() == nil || len(v.sessions) == 0 {
		return false
	}
	for _, s := range k.l.opts.Live.Sessions(k.key.Entry) {
		if s.ServerIndex == k.key.Index && s.End.IsZero() && time.Since(s.LastMedia) < silentAfter {
			return false
		}
	}
	return true
}

// observe brings the state to what is seen.
func (k *keeper) observe(ctx context.Context, v *view) {
	if b := v.living(); b != nil && b.ID != k.broadcast {
		k.begin(b.ID)
	}
	if b := v.living(); b != nil {
		k.ended, k.closed = time.Time{}, false
	} else if k.ended.IsZero() {
		k.ended = time.Now()
		if v.broadcast != nil && (k.broadcast == "" || v.broadcast.ID == k.broadcast) {
			k.broadcast, k.ended = v.broadcast.ID, v.broadcast.End
		}
	}
	k.move(ctx, v.trigger(k.ended))
	if v.living() == nil && len(v.sessions) == 0 {
		k.endGrant(ctx)
	}
}

// begin turns to another broadcast; what was told of the last says nothing of
// it. "" is none.
func (k *keeper) begin(id string) {
	k.broadcast, k.ended, k.closed = id, time.Time{}, false
	k.calls, k.ladder, k.streams = calls{}, ladder{}, streams{}
}

// move takes a step of the machine.
func (k *keeper) move(ctx context.Context, t Trigger) {
	was := k.state
	next, err := was.Next(t)
	if err != nil {
		k.log.Error("the state machine of a registration has a hole", "error", err)
		return
	}
	if next == was {
		return
	}
	k.state = next
	k.log.Debug("registration", "from", was, "to", next, "because", t)
	switch {
	case next == Ending:
		k.calls.due, k.calls.attempts, k.calls.err = time.Time{}, 0, nil
		k.writeRow(ctx)
	case next == Granted && k.calls.told != client.StatusStopped:
		k.calls = calls{} // the backend has AUTHENTICATED in its place
		k.forgetRow(ctx)
	case was == TakenOver && next.Tells():
		k.calls = calls{recorded: k.calls.recorded, preview: k.calls.preview} // it is to be told again
	}
}

// work makes the calls that are due, and returns when to come back and which
// change to wait for beside views; either may be none.
func (k *keeper) work(ctx context.Context, v *view, resync bool) (next time.Time, settled <-chan struct{}) {
	switch {
	case k.state.Tells():
		return k.keepOnAir(ctx, v, resync), nil
	case k.state == Ending:
		return k.tellEnd(ctx, v)
	}
	return time.Time{}, nil
}

// endGrant ends the grant of the broadcast that ended: the next publisher is
// asked for at the backend.
func (k *keeper) endGrant(ctx context.Context) {
	if k.closed || k.broadcast == "" {
		return
	}
	if err := k.l.opts.Book.End(ctx, k.key, k.ended); err != nil {
		if ctx.Err() == nil {
			k.log.Warn("the end of a grant could not be noted", "error", err)
		}
		return
	}
	k.closed = true
}

// writeRow keeps for the next run of the server what the backend was told.
func (k *keeper) writeRow(ctx context.Context) {
	r := row{Entry: k.key.Entry, Index: k.key.Index, Partner: k.partner, Broadcast: k.broadcast, Told: k.calls.told, Ended: k.ended}
	if err := k.l.rows.put(ctx, r); err != nil && ctx.Err() == nil {
		k.log.Warn("a registration could not be noted; after a restart now its end is not told", "error", err)
	}
}

func (k *keeper) forgetRow(ctx context.Context) {
	if err := k.l.rows.drop(ctx, k.key); err != nil && ctx.Err() == nil {
		k.log.Warn("a registration that is over could not be forgotten", "error", err)
	}
}

// place is where the entry is on air.
func (k *keeper) place() client.Place {
	return client.Place{Entry: k.key.Entry, Host: k.l.opts.Host, Index: k.key.Index}
}

// grant is what the backend granted, as far as the book has it.
func (k *keeper) grant() book.Grant {
	g, ok := k.l.opts.Book.Get(k.key)
	if !ok {
		g = book.Grant{Entry: k.key.Entry, Index: k.key.Index, Partner: k.partner, Snapshot: client.Entry{ID: client.Text(k.key.Entry)}}
	}
	if g.Partner != 0 {
		k.partner = g.Partner
	}
	g.Partner = k.partner
	return g
}

// keepAlive is a pause between two keep-alives, each of another length, so
// that many entries do not call at once.
func keepAlive() time.Duration { return keepAliveMin + rand.N(keepAliveMax-keepAliveMin) }

// jitter is between half of a pause and all of it.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2) }

// soonest is the earliest of the times that are set.
func soonest(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

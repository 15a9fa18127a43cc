// Package authority lets publishers in as the Kaltura backend says, and
// remembers what it said: the backend is asked once for each broadcast, not
// for each connection, and not at all while it is away and the answer is known.
//
// Authority is the type to read first; Authenticate decides, and the table in
// refusal.go says what a publisher is told for each of the backend's codes.
//
// # How a publisher is let in
//
// A publisher who shows a token that a valid grant of the book accepts is let
// in from memory, whatever the state of the backend. A grant is valid while its
// broadcast lives, a session of it lives, or the reconnect window since either
// was last the case is not over; see [Authority.Authenticate].
//
// Everybody else needs a call, and waits for a turn: one call at a time for
// each entry, few at once for those who never showed a right token; see desk.
// What the backend refused is answered from memory for a while, to the same
// token of the same entry from the same network only: neither another token
// from there nor anybody elsewhere is held up by it; see memory.
//
// The passphrase that an SRT encoder needs before it can show a token is
// fetched with the same care, and remembered for a minute; see Passphrase.
package authority

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/profile"
	"github.com/klive-media/klive/internal/run"
	"github.com/klive-media/klive/internal/stream"
)

// The times and bounds of an authentication. Together the waits stay below what
// the doors and most encoders allow.
const (
	// turnTimeout bounds the wait for a turn to ask the backend.
	turnTimeout = 4 * time.Second
	// callTimeout bounds the call itself, with its repetitions.
	callTimeout = 8 * time.Second
	// profileTimeout bounds how long the conversion profile may hold up a
	// publisher who was let in.
	profileTimeout = 2 * time.Second
	// maxToken bounds a token: the backend's have 8 characters, an encrypted
	// passphrase some 130.
	maxToken = 512
	// maxPartners bounds the partners remembered of entries without a grant.
	maxPartners = 4096
)

// Options is what an Authority is made of. Client, Book and Journal are
// required.
type Options struct {
	Client *client.Client
	Book   *book.Book
	// Live is what is on air; it may return nil until that is known.
	Live func() stream.Live
	// SaaS: entries of every partner, in whose name the calls are made. Else
	// those of Partner alone, who calls in his own.
	SaaS    bool
	Partner int
	// Host is this server, exactly as the backend has it.
	Host, Application string
	// ReconnectWindow is how long a publisher may be away and return without
	// being authenticated anew.
	ReconnectWindow time.Duration
	Journal         stream.Journal
	Logger          *slog.Logger // nil: nothing is logged
}

// Authority decides about publishers. It is safe for concurrent use.
type Authority struct {
	o      Options
	log    *slog.Logger
	desk   *desk
	memory *memory
	passes *passes
	// fetches are the calls that nobody may be waiting for any more.
	fetches *run.Group
	counts  counts

	mu       sync.Mutex     // guards partners
	partners map[string]int // of entries that were asked for without one
}

var _ stream.Authority = (*Authority)(nil)

// New makes an authority. Run should run beside it.
func New(o Options) *Authority {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Live == nil {
		o.Live = func() stream.Live { return nil }
	}
	var salt [32]byte
	_, _ = rand.Read(salt[:]) // never fails
	return &Authority{
		o: o, log: o.Logger, desk: newDesk(), memory: newMemory(salt), passes: newPasses(), fetches: run.New(context.Background()),
		partners: make(map[string]int),
	}
}

// Authenticate implements stream.Authority. It lets in from the book whom a
// valid grant accepts; asks the backend about a token that a valid grant does
// not know, without a place, because naming one would take the entry off air;
// and has everybody else authenticated, which registers the entry here.
func (a *Authority) Authenticate(ctx context.Context, r ingest.Request) (stream.Grant, error) {
	key := book.Key{Entry: r.Stream, Index: r.ServerIndex}
	a.settle(r)
	if err := a.check(r, key); err != nil {
		return stream.Grant{}, err
	}
	if g, ok := a.accepted(key, r.Token); ok {
		a.counts.fromBook.Add(1)
		return admit(r, g)
	}
	g, err := a.decide(ctx, r, key)
	if err != nil {
		return stream.Grant{}, err
	}
	return admit(r, g)
}

// check refuses what needs neither the book nor the backend.
func (a *Authority) check(r ingest.Request, key book.Key) error {
	switch {
	case !ingest.IsEntryID(r.Stream):
		return fault.New(fault.BadStreamName, "%.64q is no id of a live entry; it looks like 0_rkij47dr: copy the stream name again from the entry's page", r.Stream)
	case r.Token == "":
		return fault.New(fault.MissingArgument, "the address has no token; copy the whole address of entry %s again, with t=TOKEN", r.Stream)
	case len(r.Token) > maxToken || !printable(r.Token):
		return fault.New(fault.BadToken, "the token is not one of entry %s: it is too long, or has characters that none has; copy the address again from the entry's page", r.Stream)
	case !a.o.SaaS && r.Partner != 0 && r.Partner != a.o.Partner:
		return wrongPartner(r)
	}
	if g, ok := a.o.Book.Get(key); ok && r.Partner > 0 && r.Partner != g.Partner && a.valid(g) {
		return wrongPartner(r)
	}
	return nil
}

func wrongPartner(r ingest.Request) error {
	return fault.New(fault.WrongPartner, "entry %s does not belong to partner %d; correct p= in the address, or copy the address again from the entry's page", r.Stream, r.Partner)
}

// printable reports whether a token is text without control characters: the
// backend refuses others, in words that help nobody.
func printable(token string) bool {
	for _, c := range token {
		if c < ' ' || c == 0x7f || c == utf8.RuneError {
			return false
		}
	}
	return true
}

// decide finds out about a publisher whom no valid grant accepts.
func (a *Authority) decide(ctx context.Context, r ingest.Request, key book.Key) (book.Grant, error) {
	known := a.known(r.Stream, r.Token)
	q := a.memory.question(r)
	if err, ok := a.memory.recall(q, time.Now()); ok {
		a.counts.fromMemory.Add(1)
		return book.Grant{}, err
	}
	turn, err := a.turn(ctx, r, q, known)
	if err != nil {
		return book.Grant{}, err
	}
	defer a.desk.leave(turn)
	refund := func() {
		if !known {
			a.memory.refund(q.from)
		}
	}
	// Whoever had the turn before may have found out.
	if g, ok := a.accepted(key, r.Token); ok {
		refund()
		a.counts.fromBook.Add(1)
		return g, nil
	}
	if err, ok := a.memory.recall(q, time.Now()); ok {
		refund()
		a.counts.fromMemory.Add(1)
		return book.Grant{}, err
	}
	a.counts.asked.Add(1)
	g, err := a.ask(ctx, r, key, q)
	if err == nil {
		refund()
		a.memory.forget(q)
		return g, nil
	}
	if gone := ctx.Err(); errors.Is(gone, context.Canceled) { // says nothing of the token
		return book.Grant{}, left(ctx)
	}
	refusal := a.refusal(r, err)
	a.memory.note(q, refusal, time.Now())
	// What the publisher is not told; the calls are few, so the lines are.
	a.log.InfoContext(ctx, "a publisher was refused after a call to the backend", "entry", r.Stream, "reason", refusal.Reason, "remote", r.Remote, "error", errors.Unwrap(refusal))
	return book.Grant{}, refusal
}

// turn waits until this publisher's question may be asked. The caller leaves
// the desk with what it returns.
func (a *Authority) turn(ctx context.Context, r ingest.Request, q question, known bool) (*visitor, error) {
	v := &visitor{entry: r.Stream, from: q.from, known: known}
	patience := turnTimeout
	if known {
		patience = callTimeout // the turn before it may be a call that nobody answers
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if !known {
		seen := len(a.o.Book.Of(r.Stream)) > 0
		wait, dirt, ok := a.memory.spend(q.from, seen, time.Now())
		if !ok {
			a.counts.tooMany.Add(1)
			if dirt < maxUnknown {
				return nil, crowded(r)
			}
			return nil, tooMany(r)
		}
		if err := pause(ctx, wait); err != nil {
			return nil, a.impatient(ctx, r)
		}
		v.dirt = dirt
	}
	switch err := a.desk.enter(ctx, v); {
	case errors.Is(err, errCrowded):
		a.counts.tooMany.Add(1)
		return nil, crowded(r)
	case err != nil:
		return nil, a.impatient(ctx, r)
	}
	return v, nil
}

func tooMany(r ingest.Request) error {
	return fault.New(fault.TooManyAttempts, "too many addresses with wrong tokens or unknown entries came from this network; check the address of entry %s and try again in a minute", r.Stream)
}

// crowded is what a publisher is told for whom there is no room although his
// network did nothing wrong: it is a house full of encoders.
func crowded(r ingest.Request) error {
	return fault.New(fault.TooManyAttempts, "many encoders wait to be let in; try entry %s again in a few seconds", r.Stream)
}

// impatient is what a publisher is told whose turn did not come in time.
func (a *Authority) impatient(ctx context.Context, r ingest.Request) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return left(ctx)
	}
	return fault.New(fault.BackendUnavailable, "the backend is slow and others wait before entry %s; the encoder should try again in a few seconds", r.Stream).With("cause", "queue")
}

// left is the refusal of a publisher who is no longer there, or whom the door
// sends away.
func left(ctx context.Context) error {
	if f, ok := errors.AsType[*fault.Error](context.Cause(ctx)); ok {
		return f
	}
	return fault.New(fault.ConnectionLost, "the encoder hung up before the backend answered").Because(context.Cause(ctx))
}

// pause waits; a context that ends first is the error.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// admit is the grant of a publisher with a right token.
func admit(r ingest.Request, g book.Grant) (stream.Grant, error) {
	if r.Partner > 0 && g.Partner != 0 && r.Partner != g.Partner {
		return stream.Grant{}, wrongPartner(r)
	}
	if err := inProfile(r, g.Profile); err != nil {
		return stream.Grant{}, err
	}
	return stream.Grant{
		Stream: r.Stream, Index: r.Index, ServerIndex: r.ServerIndex, Partner: g.Partner,
		Rendition: profile.RenditionOf(g.Profile, r.Index), Policy: PolicyOf(g.Snapshot),
	}, nil
}

// Policy is what the entry of a grant wishes for its broadcast.
func (a *Authority) Policy(g book.Grant) egress.Policy { return PolicyOf(g.Snapshot) }

// Stats counts publishers by how it was decided about them.
type Stats struct {
	FromBook   uint64 // let in by a grant, without a call
	FromMemory uint64 // refused as the backend had refused them before
	Asked      uint64 // decided by the backend, or by its silence
	TooMany    uint64 // refused because their network asks too much
}

type counts struct{ fromBook, fromMemory, asked, tooMany atomic.Uint64 }

// Stats returns the counts since the start.
func (a *Authority) Stats() Stats {
	return Stats{
		FromBook: a.counts.fromBook.Load(), FromMemory: a.counts.fromMemory.Load(),
		Asked: a.counts.asked.Load(), TooMany: a.counts.tooMany.Load(),
	}
}

package authority

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/run"
)

var (
	// errStopped ends the fetches at the end of Run.
	errStopped = errors.New("the server stops")
	// errUnusable: the entry has a passphrase that SRT cannot take.
	errUnusable = errors.New("the backend's SRT passphrase of the entry has not 10 to 79 printable bytes")
)

// Passphrase is the SRT passphrase of the entry that a publisher asks for, ""
// when it has none. The door needs it in the handshake, before the publisher
// can be authenticated, so whoever asks is a stranger who may name any entry:
// what is fetched for him costs his network's budget and waits its turn like a
// call about a token. One price is for both: it is given back when he shows his
// token, which then costs by itself.
//
// A passphrase is remembered for a minute; a newer one is fetched behind it
// from ten seconds on. An older one still counts when the backend does not
// answer, so that a publisher may come back while the backend is away. When no
// answer comes before ctx ends, the error is BACKEND_UNAVAILABLE and the fetch
// goes on: the encoder's next try is answered from memory.
//
// Refusals are the authority's own, in the same words as behind the handshake.
// An entry that the backend does not know is refused here: to say that it has
// no passphrase instead would let the caller in as far as Authenticate, which
// refuses the same entry with the same reason after a second call, and would
// tell an encoder with a passphrase that its passphrase is wrong, which it is
// not. Nobody learns more by it, as Authenticate tells unknown entries from
// wrong tokens too; and it counts against the network as it does there, so that
// who goes through entry ids is stopped after a few. When the backend cannot be
// asked the caller is refused as well, because a publisher without encryption
// must not get to an entry that wants it; unless the book says that an entry
// whose broadcast lives has no passphrase.
func (a *Authority) Passphrase(ctx context.Context, r ingest.Request) (string, error) {
	key := book.Key{Entry: r.Stream, Index: r.ServerIndex}
	if err := a.check(r, key); err != nil {
		return "", err
	}
	q, now := a.memory.question(r), time.Now()
	if _, ok := a.accepted(key, r.Token); !ok {
		if err, ok := a.memory.recall(q, now); ok {
			a.counts.fromMemory.Add(1)
			return "", err
		}
	}
	p := a.passes.find(r.Stream)
	if !p.have && a.plain(key) {
		p.have = true // and as old as can be
	}
	switch {
	case p.have && now.Sub(p.at) < passFresh, p.have && p.failed(now):
		return p.text, nil
	case p.failed(now):
		return "", a.refusal(r, p.failure)
	}
	f, err := a.seek(r, q)
	switch {
	case p.have && (err != nil || now.Sub(p.at) < passGood):
		return p.text, nil
	case err != nil:
		return "", err
	}
	return a.await(ctx, r, p, f)
}

// await waits for a fetch. p is what is remembered.
func (a *Authority) await(ctx context.Context, r ingest.Request, p pass, f *flight) (string, error) {
	wait, cancel := ctx, context.CancelFunc(func() {})
	if p.have {
		wait, cancel = context.WithTimeout(ctx, passPatience)
	}
	defer cancel()
	select {
	case <-f.done:
	case <-wait.Done():
		switch {
		case p.have:
			return p.text, nil
		case errors.Is(ctx.Err(), context.Canceled):
			return "", left(ctx)
		}
		return "", fault.New(fault.BackendUnavailable, "the SRT passphrase of entry %s is being looked up; the encoder should try again in a moment", r.Stream).With("cause", "lookup")
	}
	switch {
	case f.failure == nil:
		return f.text, nil
	case p.have && !f.answer:
		return p.text, nil
	}
	return "", a.refusal(r, f.failure)
}

// seek begins to fetch a passphrase, or joins whoever does. Errors are why
// this publisher may not.
func (a *Authority) seek(r ingest.Request, q question) (*flight, error) {
	k := flightKey{entry: r.Stream, from: q.from, known: a.known(r.Stream, r.Token)}
	// Not the turn of those who ask about a token: neither waits for the other.
	v := &visitor{entry: "passphrase of " + r.Stream, from: q.from, known: k.known}
	var wait time.Duration
	f, begun, err := a.passes.join(k, func() (err error) {
		if !k.known {
			wait, v.dirt, err = a.pay(r, q)
		}
		return err
	})
	if err != nil || !begun {
		return f, err
	}
	err = a.fetches.Detach("kaltura passphrase "+r.Stream, func(ctx context.Context) error {
		text, err := a.fetch(ctx, r, v, wait)
		if err != nil && ctx.Err() != nil { // it says nothing of the backend
			a.passes.leave(k, f, "", errStopped, false)
			return nil
		}
		a.land(r, q, k, f, text, err)
		if err == nil {
			a.notePlain(ctx, r.Stream, text == "")
		}
		return nil
	}, func(err error) {
		if p, ok := errors.AsType[*run.PanicError](err); ok {
			a.log.Error("a passphrase could not be fetched because of an error of the server", "entry", r.Stream, "panic", p.Value, "stack", string(p.Stack))
			a.passes.leave(k, f, "", err, false)
		}
	})
	if err != nil {
		a.passes.leave(k, f, "", errStopped, false)
		return nil, fault.New(fault.ServerDraining, "the server is about to stop; the encoder should try another one, or again in a moment")
	}
	return f, nil
}

// pay takes the price of a question of a stranger out of his network's budget.
func (a *Authority) pay(r ingest.Request, q question) (wait time.Duration, dirt int, err error) {
	seen := len(a.o.Book.Of(r.Stream)) > 0
	wait, dirt, ok := a.memory.spend(q.from, seen, time.Now())
	switch {
	case ok:
		return wait, dirt, nil
	case dirt < maxUnknown:
		err = crowded(r)
	default:
		err = tooMany(r)
	}
	a.counts.tooMany.Add(1)
	return 0, dirt, err
}

// fetch waits for its turn and asks the backend, unless whoever had the turn
// before has found out. In saas mode the entry is read in the name of no
// partner: the one in the address may be wrong, and what is found out is
// remembered for everybody.
func (a *Authority) fetch(ctx context.Context, r ingest.Request, v *visitor, wait time.Duration) (string, error) {
	turn, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	err := pause(turn, wait)
	if err == nil {
		err = a.desk.enter(turn, v)
	}
	switch {
	case errors.Is(err, errCrowded):
		a.counts.tooMany.Add(1)
		return "", crowded(r)
	case err != nil:
		return "", a.impatient(turn, r)
	}
	defer a.desk.leave(v)
	if p, now := a.passes.find(r.Stream), time.Now(); p.have && now.Sub(p.at) < passFresh || p.failed(now) {
		a.refund(v)
		return p.text, p.failure
	}
	call, cancelCall := context.WithTimeout(ctx, callTimeout)
	defer cancelCall()
	e, secret, err := a.o.Client.GetPassphrase(call, 0, r.Stream)
	switch text := secret.Reveal(); {
	case err != nil:
		return "", err
	case string(e.ID) != r.Stream:
		return "", errNoEntry
	case text != "" && !ingest.ValidPassphrase(text):
		return "", fault.New(fault.BackendRefused, "the SRT passphrase of entry %s cannot be used: it must have %d to %d bytes of printable text; change it in the entry", r.Stream, ingest.MinPassphrase, ingest.MaxPassphrase).Because(errUnusable)
	default:
		a.notePartner(e)
		payer := v.from
		if v.known {
			payer = netip.Prefix{}
		}
		a.passes.keep(r.Stream, text, payer, time.Now())
		return text, nil
	}
}

// refund gives the price of a question back that was not asked.
func (a *Authority) refund(v *visitor) {
	if !v.known {
		a.memory.refund(v.from)
	}
}

// land hands the end of a fetch to who waits for it, and remembers a failure.
func (a *Authority) land(r ingest.Request, q question, k flightKey, f *flight, text string, err error) {
	if err == nil {
		a.passes.leave(k, f, text, nil, false)
		return
	}
	refusal, now := a.refusal(r, err), time.Now()
	hold, lasting := holdOf(refusal.Reason)
	answer := lasting || errors.Is(err, errUnusable)
	switch {
	case refusal.Metadata["cause"] == "queue", refusal.Reason == fault.TooManyAttempts:
		// It says nothing of the entry: nobody was asked.
	case a.passes.find(r.Stream).failed(now): // known already
	default:
		a.passes.fail(r.Stream, err, answer, hold, now)
		if lasting {
			a.memory.note(q, refusal, now)
		}
		a.log.Info("the SRT passphrase of an entry could not be fetched from the backend", "entry", r.Stream, "reason", refusal.Reason, "remote", r.Remote, "error", err)
	}
	a.passes.leave(k, f, "", err, answer)
}

// settle gives back what the passphrase of an entry cost the network of a
// publisher who came through the handshake.
func (a *Authority) settle(r ingest.Request) {
	if from := network(r.Remote.Addr()); a.passes.settle(r.Stream, from) {
		a.memory.refund(from)
	}
}

// plain reports whether the book says that an entry that may be published has
// no passphrase.
func (a *Authority) plain(k book.Key) bool {
	g, ok := a.o.Book.Get(k)
	return ok && g.Plain && a.valid(g)
}

// notePlain keeps in the book whether an entry has no passphrase, for the time
// when nobody can be asked.
func (a *Authority) notePlain(ctx context.Context, entry string, plain bool) {
	for _, g := range a.o.Book.Of(entry) {
		if g.Plain == plain {
			continue
		}
		if _, _, err := a.o.Book.Update(ctx, g.Key(), func(g *book.Grant) { g.Plain = plain }); err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "whether an entry has an SRT passphrase could not be noted", "entry", entry, "error", err)
		}
	}
}

// inUse reports whether publishers of an entry may come back by a grant.
func (a *Authority) inUse(entry string) bool {
	for _, g := range a.o.Book.Of(entry) {
		if a.valid(g) {
			return true
		}
	}
	return false
}

package authority

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/profile"
	"github.com/klive-media/klive/internal/stream"
)

// errNoEntry: the backend let the publisher in and did not say to what.
var errNoEntry = errors.New("the backend's answer is not the entry that was asked for")

// ask asks the backend about a publisher and writes what it granted into the
// book. The caller has the turn of the entry.
func (a *Authority) ask(ctx context.Context, r ingest.Request, key book.Key, q question) (book.Grant, error) {
	call, cancel := callContext(ctx)
	defer cancel()
	partner, err := a.partner(call, r, key)
	if err != nil {
		return book.Grant{}, err
	}
	g, ok := a.o.Book.Get(key)
	if ok && a.valid(g) {
		e, err := a.verify(call, r, partner)
		if err != nil {
			return book.Grant{}, err
		}
		g, ok, err = a.o.Book.Update(ctx, key, func(g *book.Grant) {
			g.Snapshot = e
			g.Accept(r.Token)
		})
		if err != nil {
			return book.Grant{}, err
		}
		if ok && a.valid(g) {
			return g, nil
		}
		// It ended meanwhile: what is asked for is a new broadcast.
	}
	if a.memory.quota(q) {
		// Authenticating at a place leaves a registration behind even when the
		// quota then refuses, which counts against the partner's other entries. So
		// a publisher who met the quota is looked at without a place first.
		if _, err := a.verify(call, r, partner); err != nil {
			return book.Grant{}, err
		}
	}
	at := client.Place{Entry: r.Stream, Host: a.o.Host, Index: r.ServerIndex}
	e, err := a.o.Client.Authenticate(call, partner, at, r.Token, a.o.Application)
	if err != nil {
		return book.Grant{}, err
	}
	return a.granted(ctx, r, key, partner, e)
}

// callContext is what calls for a publisher run under. Its end with ctx looks
// to the client like a caller who gave up, also when it was a deadline: it says
// nothing of the backend.
func callContext(ctx context.Context) (context.Context, context.CancelFunc) {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	stop := context.AfterFunc(ctx, cancel)
	return call, func() { stop(); cancel() }
}

// verify asks whether the token is the entry's, and nothing else.
func (a *Authority) verify(ctx context.Context, r ingest.Request, partner int) (client.Entry, error) {
	e, err := a.o.Client.VerifyToken(ctx, partner, r.Stream, r.Token)
	if err == nil && string(e.ID) != r.Stream {
		err = errNoEntry
	}
	return e, err
}

// partner is in whose name calls for the entry are made: 0 is in our own.
func (a *Authority) partner(ctx context.Context, r ingest.Request, key book.Key) (int, error) {
	if !a.o.SaaS {
		return 0, nil
	}
	g, ok := a.o.Book.Get(key)
	if ok && a.valid(g) {
		return g.Partner, nil
	}
	if r.Partner > 0 { // below it are partners of the backend's own
		return r.Partner, nil
	}
	for _, g := range a.o.Book.Of(r.Stream) {
		if g.Partner > 0 {
			return g.Partner, nil
		}
	}
	a.mu.Lock()
	p, ok := a.partners[r.Stream]
	a.mu.Unlock()
	if ok {
		return p, nil
	}
	e, err := a.o.Client.GetEntry(ctx, 0, r.Stream)
	if err != nil {
		return 0, err
	}
	if string(e.ID) != r.Stream || e.Partner <= 0 {
		return 0, errNoEntry
	}
	a.notePartner(e)
	return int(e.Partner), nil
}

// notePartner remembers whose an entry is.
func (a *Authority) notePartner(e client.Entry) {
	if e.Partner <= 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.partners) >= maxPartners {
		clear(a.partners) // asked for again when needed
	}
	a.partners[string(e.ID)] = int(e.Partner)
}

// granted writes a new grant: the publisher is let in only when it is on the
// disk, because only then may he come back after a crash.
func (a *Authority) granted(ctx context.Context, r ingest.Request, key book.Key, partner int, e client.Entry) (book.Grant, error) {
	if string(e.ID) != r.Stream {
		return book.Grant{}, errNoEntry
	}
	now := time.Now()
	g := book.Grant{Entry: r.Stream, Index: r.ServerIndex, Partner: int(e.Partner), Snapshot: e, Authenticated: now, Seen: now}
	if g.Partner == 0 {
		g.Partner = partner
	}
	if g.Partner == 0 {
		g.Partner = a.o.Partner
	}
	g.Accept(r.Token)
	p := a.passes.find(r.Stream)
	g.Plain = p.have && p.text == ""
	g.Profile = a.profileFor(ctx, g)
	if err := a.o.Book.Put(ctx, g); err != nil {
		return book.Grant{}, err
	}
	if e.PushPublish {
		a.o.Journal.Record(stream.Event{
			Type: stream.PushUnsupported, Stream: r.Stream,
			Message: "the entry asks for its stream to be pushed to other servers, which this server does not do; switch push publishing off in the entry, or push from the encoder",
		})
	}
	return g, nil
}

// profileFor loads the conversion profile of a new grant. Without it the
// publisher is let in all the same: the profile of the last broadcast is used,
// or none, and Run loads it later.
func (a *Authority) profileFor(ctx context.Context, g book.Grant) profile.Profile {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), profileTimeout)
	defer cancel()
	p, err := profile.Load(ctx, a.o.Client, a.impersonate(g.Partner), g.Snapshot)
	if err == nil {
		return p
	}
	a.log.WarnContext(ctx, "the conversion profile of an entry could not be loaded; it is tried again", "entry", g.Entry, "profile", int(g.Snapshot.Profile), "error", err)
	for _, old := range a.o.Book.Of(g.Entry) {
		if old.Profile.ID == int(g.Snapshot.Profile) && !old.Profile.Loaded.IsZero() {
			return old.Profile
		}
	}
	return profile.Profile{}
}

// impersonate is the partner to be named in calls for entries of a partner.
func (a *Authority) impersonate(partner int) int {
	if a.o.SaaS {
		return partner
	}
	return 0
}

// Profile loads the conversion profile of an entry and keeps it in the grants
// that have none. Errors are those of the client.
func (a *Authority) Profile(ctx context.Context, partner int, entry string) (profile.Profile, error) {
	e, err := a.o.Client.GetEntry(ctx, a.impersonate(partner), entry)
	if err != nil {
		return profile.Profile{}, fmt.Errorf("read entry %s: %w", entry, err)
	}
	p, err := profile.Load(ctx, a.o.Client, a.impersonate(partner), e)
	if err != nil {
		return profile.Profile{}, err
	}
	for _, g := range a.o.Book.Of(entry) {
		if !g.Profile.Loaded.IsZero() || int(g.Snapshot.Profile) != p.ID {
			continue
		}
		if _, _, err := a.o.Book.Update(ctx, g.Key(), func(g *book.Grant) { g.Profile = p }); err != nil {
			a.log.WarnContext(ctx, "the conversion profile of an entry could not be kept", "entry", entry, "error", err)
		}
	}
	return p, nil
}

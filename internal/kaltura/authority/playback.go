package authority

import (
	"context"
	"time"

	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/book"
)

// Playback says who may watch: everybody, except for entries in preview, which
// are for bearers that v knows as viewer or admin. It answers from the book and
// never asks the backend; the lifecycle brings the book up to date with each
// keep-alive, so that going live opens an entry within a minute.
//
// An entry that the book does not know is restricted. Everything this server
// has of an entry came in by a grant, so what has none is from before the book
// was lost, or is older than grants are kept, and whether it was meant for
// everybody is not known: it must not become public by being forgotten. Live
// viewers never meet this, as grants outlive their DVR window.
func (a *Authority) Playback(v auth.Verifier) auth.Playback { return playback{a.o.Book, v} }

type playback struct {
	book     *book.Book
	verifier auth.Verifier // nil: nobody may preview
}

var _ auth.Playback = playback{}

// Restricted reports whether a stream is for bearers only.
func (p playback) Restricted(stream string) bool {
	const maxIndex = 1
	restricted := true
	var inUse, ended bool
	var end time.Time
	for i := range maxIndex + 1 {
		g, ok := p.book.Get(book.Key{Entry: stream, Index: i})
		if !ok {
			continue
		}
		// Of an entry at two indexes the one in use is up to date, the one that
		// ended is not; of two in use one may lag behind.
		preview := inPreview(g.Snapshot)
		switch {
		case g.Ended.IsZero():
			restricted = preview || inUse && restricted
			inUse = true
		case !inUse && (!ended || g.Ended.After(end)):
			restricted, ended, end = preview, true, g.Ended
		}
	}
	return restricted
}

// MayPlay implements auth.Playback.
func (p playback) MayPlay(ctx context.Context, r auth.PlayRequest) error {
	if !p.Restricted(r.Stream) {
		return nil
	}
	refused := fault.New(fault.PreviewOnly, "%.64q is in preview, or not known to be for everybody: send Authorization: Bearer TOKEN with a viewer or admin token, or wait until it goes live", r.Stream)
	token, ok := auth.BearerToken(r.Header)
	if !ok || p.verifier == nil {
		return refused
	}
	who, err := p.verifier.Verify(ctx, token)
	if err != nil {
		return refused.Because(err)
	}
	if !who.Role.Allows(auth.Viewer) {
		return refused
	}
	return nil
}

package authority

import (
	"context"

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
	grants := p.book.Of(stream)
	if len(grants) == 0 {
		return true
	}
	// Of an entry at two indexes the one in use is up to date, the one that
	// ended is not.
	preview, inUse := false, false
	for _, g := range grants {
		if g.Ended.IsZero() {
			inUse = true
			preview = preview || inPreview(g.Snapshot)
		}
	}
	if inUse {
		return preview
	}
	latest := grants[0]
	for _, g := range grants[1:] {
		if g.Ended.After(latest.Ended) {
			latest = g
		}
	}
	return inPreview(latest.Snapshot)
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

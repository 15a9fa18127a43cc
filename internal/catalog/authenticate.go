package catalog

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"strconv"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/stream"
)

// Authenticate implements stream.Authority. A right token is let in at once,
// whatever happened before; wrong ones from one address for one stream are
// answered slower and slower, so that guessing costs the guesser and nobody
// else.
func (c *Catalog) Authenticate(ctx context.Context, r ingest.Request) (stream.Grant, error) {
	found, ok := c.find(r.Stream)
	if !ok {
		return stream.Grant{}, c.unknown(ctx, r)
	}
	if r.Token == "" {
		return stream.Grant{}, fault.New(fault.MissingArgument, "the address has no token; add ?t=TOKEN behind the stream name")
	}
	if !sameSecret(r.Token, found.secrets.Token) {
		return stream.Grant{}, c.wrongToken(ctx, r, found.guessed())
	}
	if found.entry.Partner != 0 && r.Partner != 0 && r.Partner != found.entry.Partner {
		return stream.Grant{}, fault.New(fault.WrongPartner, "stream %q does not belong to partner %d", r.Stream, r.Partner)
	}
	if found.entry.Origin == stream.FromTemplate {
		if err := c.remember(found); err != nil {
			return stream.Grant{}, err
		}
	}
	return stream.Grant{Stream: r.Stream, Index: r.Index, ServerIndex: r.ServerIndex, Partner: found.entry.Partner}, nil
}

// wrongToken slows the guesser down and refuses. guessed is what the token
// opens: a stream, or all streams of a template.
func (c *Catalog) wrongToken(ctx context.Context, r ingest.Request, guessed string) error {
	if !c.slow(ctx, r, guessed) {
		return fault.New(fault.TooManyAttempts, "too many wrong tokens for stream %q from this address; check the stream key and try again in a minute", r.Stream)
	}
	return fault.New(fault.BadToken, "the token is not the one of stream %q; copy the stream key again", r.Stream)
}

// unknown slows down who asks for streams that are not there, and refuses. All
// unknown streams count as one, so that going through names is slow too.
func (c *Catalog) unknown(ctx context.Context, r ingest.Request) error {
	if !c.slow(ctx, r, "") {
		return fault.New(fault.TooManyAttempts, "no stream %q is known on this server, and this address asked for unknown streams too often; check the stream name and try again in a minute", r.Stream)
	}
	return notFound(r.Stream)
}

// slow waits as long as the guesser has earned; it reports whether the guesser
// is still within bounds.
func (c *Catalog) slow(ctx context.Context, r ingest.Request, guessed string) bool {
	wait, ok := c.throttle.failed(r.Remote.Addr().Unmap(), guessed, time.Now())
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return ok
}

// remember keeps a stream that a template made, so that lists show it.
func (c *Catalog) remember(r row) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.rows[r.entry.ID]; ok {
		return nil
	}
	n := 0
	for _, o := range c.rows {
		if o.entry.Origin == stream.FromTemplate {
			n++
		}
	}
	if n >= maxTemplated {
		return fault.New(fault.TooManyStreams, "more than %d streams were made from templates", maxTemplated).With("limit", strconv.Itoa(maxTemplated))
	}
	c.rows[r.entry.ID] = r
	c.announce()
	return nil
}

// sameSecret compares in a time that tells nothing of either secret, not even
// its length.
func sameSecret(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

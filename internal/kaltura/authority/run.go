package authority

import (
	"context"
	"time"

	"github.com/klive-media/klive/internal/kaltura/book"
)

// The periods of Run.
const (
	// seenPeriod is how often what is on air is written down as seen: so much of
	// the reconnect window a crash may cost.
	seenPeriod = 10 * time.Second
	// carePeriod is how often profiles that could not be loaded are tried again
	// and old grants are looked for.
	carePeriod = time.Minute
	// keptAfter is how long a grant is kept when its entry is no longer listed.
	keptAfter = 24 * time.Hour
	// maxReloads is how many profiles are tried at once.
	maxReloads = 10
)

// Run keeps the book until ctx ends: it notes what is on air, so that a
// publisher may come back after a crash of this server; it loads conversion
// profiles that could not be loaded before; and it deletes grants that are
// about nothing any more. It needs the store a moment longer than ctx.
func (a *Authority) Run(ctx context.Context) error {
	seen := time.NewTicker(seenPeriod)
	defer seen.Stop()
	care := time.NewTicker(carePeriod)
	defer care.Stop()
	for {
		select {
		case <-ctx.Done():
			_ = a.fetches.Stop(errStopped) // none of them fails
			a.markSeen(context.WithoutCancel(ctx))
			return nil
		case <-seen.C:
			a.markSeen(ctx)
		case <-care.C:
			a.reload(ctx)
			a.prune(ctx)
			a.passes.prune(time.Now(), a.inUse)
		}
	}
}

// markSeen notes the grants in use.
func (a *Authority) markSeen(ctx context.Context) {
	var keys []book.Key
	for _, g := range a.o.Book.List() {
		if !g.Ended.IsZero() {
			continue
		}
		if lives, _ := a.onAir(g); lives {
			keys = append(keys, g.Key())
		}
	}
	if err := a.o.Book.MarkSeen(ctx, time.Now(), keys); err != nil && ctx.Err() == nil {
		a.log.WarnContext(ctx, "what is on air could not be noted; after a crash now publishers may have to be authenticated anew", "error", err)
	}
}

// reload loads the profiles that grants in use lack.
func (a *Authority) reload(ctx context.Context) {
	tried := 0
	for _, g := range a.o.Book.List() {
		if !g.Profile.Loaded.IsZero() || !a.valid(g) {
			continue
		}
		if tried++; tried > maxReloads || ctx.Err() != nil {
			return
		}
		if _, err := a.Profile(ctx, g.Partner, g.Entry); err != nil {
			a.log.DebugContext(ctx, "the conversion profile of an entry could not be loaded", "entry", g.Entry, "error", err)
		}
	}
}

// prune deletes old grants.
func (a *Authority) prune(ctx context.Context) {
	now := time.Now()
	for _, g := range a.o.Book.List() {
		if now.Sub(g.Last()) < shownFor(g)+keptAfter || a.listed(g, now) {
			continue
		}
		if err := a.o.Book.Delete(ctx, g.Key()); err != nil {
			if ctx.Err() == nil {
				a.log.WarnContext(ctx, "an old grant could not be deleted; it is tried again", "entry", g.Entry, "error", err)
			}
			return
		}
	}
}

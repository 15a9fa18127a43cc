package lifecycle

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/profile"
	"github.com/klive-media/klive/internal/stream"
)

// ladderAgain is when a ladder is asked for again that the backend did not
// answer about.
const ladderAgain = 60 * time.Second

// sourceIngest is the ingest index whose stream the others are made of, unless
// the profile says otherwise.
const sourceIngest = 1

// ladder is what is known of what the backend wants made of the source.
type ladder struct {
	done     bool
	again    time.Time // when to ask again; zero: not
	resolved profile.Resolved
	err      error
	// missing: the profile has no such ingest; asked is when it had none.
	// Dismissed is the session that was sent away for it.
	missing   bool
	asked     time.Time
	dismissed string
}

// missingFor is how long it is believed that a profile lacks an ingest: an
// encoder that was sent away comes back every few seconds.
const missingFor = 30 * time.Second

// resolve asks once per broadcast which ladder the backend wants of the
// source, and returns when to ask again, if so.
func (k *keeper) resolve(ctx context.Context, b *stream.BroadcastStatus) time.Time {
	if k.l.opts.Resolver == nil {
		return time.Time{}
	}
	g := k.grant()
	source := sourceOf(b, g.Profile)
	if source == nil || len(source.Tracks) == 0 {
		return time.Time{}
	}
	now := time.Now()
	newcomer := k.ladder.missing && source.Session != "" && source.Session != k.ladder.dismissed
	switch {
	case newcomer && now.Before(k.ladder.asked.Add(missingFor)):
		k.dismiss(ctx, source.Session)
		return time.Time{}
	case k.ladder.done && !newcomer:
		return time.Time{}
	case now.Before(k.ladder.again):
		return k.ladder.again
	}
	side, leave := k.aside(ctx)
	if g.Profile.Loaded.IsZero() {
		if p, err := k.loadProfile(side, g); err == nil {
			g.Profile = p
		} else {
			k.log.Debug("a conversion profile could not be loaded", "error", err)
		}
	}
	r, err := k.l.opts.Resolver.Resolve(side, g.Partner, g.Snapshot, g.Profile, source.Index, profile.FactsOf(source.Tracks))
	if leave() && err != nil {
		return now // after what is more urgent
	}
	k.ladder = ladder{done: true, resolved: r, err: err}
	switch {
	case err == nil:
		k.announce(r)
	case fault.ReasonOf(err) == fault.NotInProfile:
		k.ladder.missing, k.ladder.asked = true, now
		k.dismiss(ctx, source.Session)
	case passing(err):
		k.ladder.done, k.ladder.again = false, now.Add(ladderAgain)
	}
	return k.ladder.again
}

// passing reports whether there was no answer, so that there may be one later.
func passing(err error) bool {
	_, away := errors.AsType[*client.Unavailable](err)
	return away || errors.Is(err, context.DeadlineExceeded)
}

// sourceOf is the rendition that the others are made of, or nil.
func sourceOf(b *stream.BroadcastStatus, p profile.Profile) *stream.RenditionStatus {
	index := sourceIngest
	for _, f := range p.Flavors {
		if f.Tagged("source") && f.Ingest != 0 {
			index = f.Ingest
			break
		}
	}
	for i := range b.Renditions {
		if b.Renditions[i].Index == index {
			return &b.Renditions[i]
		}
	}
	return nil
}

// loadProfile reads the entry's profile and keeps it in the book.
func (k *keeper) loadProfile(ctx context.Context, g book.Grant) (profile.Profile, error) {
	p, err := profile.Load(ctx, k.l.opts.Client, g.Partner, g.Snapshot)
	if err != nil {
		return profile.Profile{}, err
	}
	if _, _, err := k.l.opts.Book.Update(ctx, k.key, func(g *book.Grant) { g.Profile = p }); err != nil {
		k.log.Warn("a conversion profile could not be noted", "error", err)
	}
	return p, nil
}

// announce tells of a ladder.
func (k *keeper) announce(r profile.Resolved) {
	facts := k.facts()
	ids := make([]string, 0, len(r.Ladder))
	for i := range r.Ladder {
		ids = append(ids, r.Ladder[i].ID)
	}
	facts["rungs"], facts["from"] = strings.Join(ids, ","), r.From
	if r.Fallback != nil {
		facts["fallback"] = r.Fallback.Error()
	}
	k.l.opts.Journal.Record(stream.Event{
		Type: stream.LadderResolved, Stream: k.key.Entry, Message: "the backend wants these renditions of the stream", Facts: facts,
	})
}

// dismiss sends a publisher away whose ingest the profile does not have.
func (k *keeper) dismiss(ctx context.Context, session string) {
	k.ladder.dismissed = session
	if session == "" {
		return
	}
	if err := k.l.opts.Live.Disconnect(ctx, session, fault.From(k.ladder.err)); err != nil && fault.ReasonOf(err) != fault.SessionNotFound {
		k.log.Warn("a publisher whose ingest is not in the profile could not be sent away", "session", session, "error", err)
	}
}

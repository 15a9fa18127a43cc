package authority

import (
	"context"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/stream"
)

// leastListed is how long an entry is listed at least after it was on air.
const leastListed = time.Hour

// Entries is the streams as the control API shows them: the entries of the
// backend that are on air here, or were within their DVR window. They are
// changed in the backend only.
func (a *Authority) Entries() stream.Entries { return entries{a} }

type entries struct{ a *Authority }

var _ stream.Entries = entries{}

// List implements stream.Entries.
func (l entries) List(context.Context) ([]stream.Entry, error) {
	now := time.Now()
	var out []stream.Entry
	for _, g := range l.a.o.Book.List() {
		if !l.a.listed(g, now) {
			continue
		}
		if n := len(out); n > 0 && out[n-1].ID == g.Entry {
			out[n-1] = merge(out[n-1], entryOf(g))
			continue
		}
		out = append(out, entryOf(g))
	}
	return out, nil
}

// Get implements stream.Entries.
func (l entries) Get(_ context.Context, id string) (stream.Entry, error) {
	now := time.Now()
	var e stream.Entry
	for _, g := range l.a.o.Book.Of(id) {
		switch {
		case !l.a.listed(g, now):
		case e.ID == "":
			e = entryOf(g)
		default:
			e = merge(e, entryOf(g))
		}
	}
	if e.ID == "" {
		return stream.Entry{}, fault.New(fault.StreamNotFound, "entry %.64q is not on air here, nor was it lately; the backend knows all entries", id)
	}
	return e, nil
}

// listed reports whether a grant makes its entry listed.
func (a *Authority) listed(g book.Grant, now time.Time) bool {
	if now.Sub(g.Last()) < shownFor(g) {
		return true
	}
	lives, _ := a.onAir(g)
	return lives
}

// shownFor is how long an entry is listed after it was on air: as long as
// viewers may go back, and at least an hour.
func shownFor(g book.Grant) time.Duration {
	return max(PolicyOf(g.Snapshot).DVR.Window, leastListed)
}

func entryOf(g book.Grant) stream.Entry {
	return stream.Entry{
		ID: g.Entry, DisplayName: string(g.Snapshot.Name), Partner: g.Partner, Origin: stream.FromKaltura,
		Created: g.Authenticated, Updated: g.Authenticated,
	}
}

// merge makes one of an entry that is known at two server indexes; what was
// authenticated last says more.
func merge(x, y stream.Entry) stream.Entry {
	if x.Updated.After(y.Updated) {
		x, y = y, x
	}
	if x.Created.Before(y.Created) {
		y.Created = x.Created
	}
	return y
}

// Changed implements stream.Entries. That an entry is no longer listed, because
// its time is over, is no change.
func (l entries) Changed() <-chan struct{} { return l.a.o.Book.Changed() }

func managed(what string) error {
	return fault.New(fault.ManagedByKaltura, "streams are the live entries of the Kaltura backend: %s there, in the KMC or by its API", what)
}

// Create implements stream.Entries; it refuses.
func (entries) Create(context.Context, stream.Entry, stream.Secrets) (stream.Entry, stream.Secrets, error) {
	return stream.Entry{}, stream.Secrets{}, managed("create a live entry")
}

// Update implements stream.Entries; it refuses.
func (entries) Update(context.Context, stream.Entry, *string, uint64) (stream.Entry, error) {
	return stream.Entry{}, managed("change the live entry")
}

// Delete implements stream.Entries; it refuses.
func (entries) Delete(context.Context, string, uint64) error { return managed("delete the live entry") }

// RotateToken implements stream.Entries; it refuses.
func (entries) RotateToken(context.Context, string) (stream.Entry, stream.Secrets, error) {
	return stream.Entry{}, stream.Secrets{}, managed("regenerate the stream token of the live entry")
}

// Secrets implements stream.Entries; it refuses: this server keeps no token.
func (entries) Secrets(context.Context, string) (stream.Secrets, error) {
	return stream.Secrets{}, managed("read the broadcast addresses of the live entry")
}

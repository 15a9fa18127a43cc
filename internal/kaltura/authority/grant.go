package authority

import (
	"time"

	"github.com/klive-media/klive/internal/kaltura/book"
)

// accepted finds a valid grant that accepts the token.
func (a *Authority) accepted(k book.Key, token string) (book.Grant, bool) {
	g, ok := a.o.Book.Get(k)
	if !ok || !g.Accepts(token) || !a.valid(g) {
		return book.Grant{}, false
	}
	return g, true
}

// known reports whether a grant of the entry, also one that is over, accepts
// the token: such a publisher waits for no stranger.
func (a *Authority) known(entry, token string) bool {
	for _, g := range a.o.Book.Of(entry) {
		if g.Accepts(token) {
			return true
		}
	}
	return false
}

// valid reports whether publishers may still come by a grant: it was not ended,
// and its broadcast or a session at its index lives, or the reconnect window
// since then is not over.
func (a *Authority) valid(g book.Grant) bool {
	if !g.Ended.IsZero() || g.Authenticated.IsZero() {
		return false
	}
	lives, over := a.onAir(g)
	if lives {
		return true
	}
	// A time that lies ahead is of a clock that was set back since.
	return !over && time.Since(g.Last()).Abs() < a.o.ReconnectWindow
}

// onAir reports whether the broadcast of a grant lives or one of its sessions
// does; over is true when its broadcast is known to have ended.
func (a *Authority) onAir(g book.Grant) (lives, over bool) {
	live := a.o.Live()
	if live == nil {
		return false, false
	}
	status, ok := live.Status(g.Entry)
	if !ok {
		return false, false
	}
	for _, b := range status.Broadcasts {
		if b.ServerIndex != g.Index {
			continue
		}
		if b.State.Live() {
			return true, false
		}
		over = b.End.After(g.Authenticated)
	}
	for _, s := range live.Sessions(g.Entry) {
		if s.ServerIndex == g.Index && s.State.Live() {
			return true, false
		}
	}
	return false, over
}

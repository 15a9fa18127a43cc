package lifecycle

import (
	"time"

	"github.com/klive-media/klive/internal/stream"
)

// view is what is seen of an entry at one server index at a moment. It is
// immutable.
type view struct {
	sessions  []stream.SessionStatus  // that live
	broadcast *stream.BroadcastStatus // living, or the one that ended last; nil: none is known
	// authenticated is when the backend was asked last whether a publisher may,
	// which it takes for a registration as AUTHENTICATED.
	authenticated time.Time
	// lists: the addresses that the backend sends players to have something to
	// play.
	lists bool
	// silent: publishers are connected and no media came for silentAfter. Their
	// encoder may be at another host already.
	silent bool
}

// plays reports whether the backend's players find something to play.
func (v *view) plays() bool {
	b := v.living()
	return b != nil && b.State == stream.Playable && v.lists
}

// living is the broadcast that lives, or nil.
func (v *view) living() *stream.BroadcastStatus {
	if v.broadcast != nil && v.broadcast.State.Live() {
		return v.broadcast
	}
	return nil
}

// fed reports whether a publisher feeds the broadcast.
func (v *view) fed() bool {
	b := v.living()
	return b != nil && b.ReconnectDeadline.IsZero()
}

// trigger is what the view says to the machine; ended is when the last
// broadcast ended.
func (v *view) trigger(ended time.Time) Trigger {
	b := v.living()
	switch {
	case b != nil && (!v.fed() || v.silent):
		return SeenWaiting
	case v.plays():
		return SeenPlayable
	case b != nil:
		return SeenBroadcasting
	case len(v.sessions) == 0:
		return SeenNothing
	case v.authenticated.After(ended):
		return SeenNewcomer
	}
	return SeenPublisher
}

// differs reports whether the backend may have to be told something else than
// after the older view.
func (v *view) differs(older *view) bool {
	a, b := v.living(), older.living()
	if a == nil || b == nil {
		return (a == nil) != (b == nil)
	}
	return a.ID != b.ID || a.State != b.State || v.fed() != older.fed()
}

// viewsOf are the views of a stream by server index.
func viewsOf(s stream.Status, sessions []stream.SessionStatus) [serverIndexes]view {
	var out [serverIndexes]view
	for i := range s.Broadcasts {
		if n := s.Broadcasts[i].ServerIndex; n >= 0 && n < serverIndexes {
			out[n].broadcast = &s.Broadcasts[i]
		}
	}
	for _, x := range sessions {
		if n := x.ServerIndex; x.End.IsZero() && n >= 0 && n < serverIndexes {
			out[n].sessions = append(out[n].sessions, x)
		}
	}
	return out
}

// serverIndexes: primary and backup.
const serverIndexes = 2

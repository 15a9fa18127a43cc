package kaltura

import (
	"slices"
	"sync"
	"time"

	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/stream"
)

// health watches the client's calls: whether the backend answers, since when,
// and what was wrong last. It tells when that changes and passes everything on
// to whoever counts.
type health struct {
	journal stream.Journal
	next    client.Observer

	mu        sync.Mutex // guards the fields below
	available bool       // the breaker is closed and the backend has answered
	open      bool       // the breaker
	since     time.Time
	answered  time.Time
	lastError string
}

var _ client.Observer = (*health)(nil)

func newHealth(j stream.Journal, next client.Observer) *health {
	return &health{journal: j, next: next, since: time.Now()}
}

// silent are the outcomes of calls that the backend did not answer.
func silent(outcome string) bool {
	return slices.Contains([]client.Cause{client.CauseNetwork, client.CauseTimeout, client.CauseStatus, client.CauseUnreadable, client.CauseBreaker},
		client.Cause(outcome))
}

// Called implements client.Observer.
func (h *health) Called(service, action, outcome string, took time.Duration) {
	now := time.Now()
	h.mu.Lock()
	switch {
	case outcome == string(client.CauseBreaker): // says nothing new
	case silent(outcome):
		h.lastError = service + "." + action + ": no answer (" + outcome + ")"
	default:
		h.answered = now
		h.lastError = ""
		if outcome != "ok" {
			h.lastError = service + "." + action + ": " + outcome
		}
		if !h.open && !h.available {
			h.available, h.since = true, now
		}
	}
	h.mu.Unlock()
	if h.next != nil {
		h.next.Called(service, action, outcome, took)
	}
}

// BreakerChanged implements client.Observer.
func (h *health) BreakerChanged(open bool) {
	h.mu.Lock()
	h.open = open
	h.available, h.since = !open, time.Now()
	why := h.lastError
	h.mu.Unlock()
	e := stream.Event{Type: stream.BackendBack, Message: "the Kaltura backend answers again"}
	if open {
		e = stream.Event{Type: stream.BackendLost, Message: "the Kaltura backend does not answer; what is on air goes on, new broadcasts have to wait"}
		if why != "" {
			e.Facts = map[string]string{"error": why}
		}
	}
	h.journal.Record(e)
	if h.next != nil {
		h.next.BreakerChanged(open)
	}
}

// SessionRenewed implements client.Observer.
func (h *health) SessionRenewed() {
	if h.next != nil {
		h.next.SessionRenewed()
	}
}

// fill writes what is known into the status.
func (h *health) fill(s *stream.BridgeStatus) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.Available, s.Since, s.LastAnswer, s.LastError = h.available, h.since, h.answered, h.lastError
}

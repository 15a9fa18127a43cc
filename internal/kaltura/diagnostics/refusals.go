package diagnostics

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	"github.com/klive-media/klive/internal/observe"
	"github.com/klive-media/klive/internal/stream"
)

// maxRefusals is how many refusals are kept.
const maxRefusals = 100

// refusal is one refused publisher. Its key is the time in milliseconds of
// Unix, or the next that is free.
type refusal struct {
	key    int64
	answer refusalAnswer
}

// refusalAnswer is a refusal as it is told.
type refusalAnswer struct {
	ConnectionURL string `json:"ConnectionUrl"`
	Message       string `json:"message"`
	IP            string
	Time          int64 // milliseconds of Unix
}

// keep adds the refusals among the events.
func (h *Handler) keep(events []stream.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	taken := make(map[int64]bool, len(h.refusals))
	for _, r := range h.refusals {
		taken[r.key] = true
	}
	for _, e := range events {
		if e.Type != stream.PublishRefused {
			continue
		}
		key := e.Time.UnixMilli()
		for taken[key] {
			key++
		}
		taken[key] = true
		h.refusals = append(h.refusals, refusal{key, h.refusal(e)})
	}
	if n := len(h.refusals) - maxRefusals; n > 0 {
		h.refusals = slices.Delete(h.refusals, 0, n)
	}
}

// refusal is an event as it is told, without secrets. The address that the
// encoder used is not kept anywhere; what is known of it is put together.
func (h *Handler) refusal(e stream.Event) refusalAnswer {
	u := url.URL{Scheme: e.Facts["protocol"], Host: h.options.Host, Path: "/"}
	if u.Scheme == "" {
		u.Scheme = "unknown"
	}
	query := url.Values{}
	for name, value := range map[string]string{"p": e.Facts["partner"], "e": e.Stream, "i": e.Facts["server_index"]} {
		if value != "" {
			query.Set(name, value)
		}
	}
	u.RawQuery = query.Encode()
	ip := e.Facts["remote"]
	if at, err := netip.ParseAddrPort(ip); err == nil {
		ip = at.Addr().Unmap().String()
	}
	return refusalAnswer{ConnectionURL: observe.Redact(u.String()), Message: observe.Redact(e.Message), IP: ip, Time: e.Time.UnixMilli()}
}

// errors is the answer to errors: the last refusals by key.
func (h *Handler) errors() map[string]refusalAnswer {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[string]refusalAnswer, len(h.refusals))
	for _, r := range h.refusals {
		out[strconv.FormatInt(r.key, 10)] = r.answer
	}
	return out
}

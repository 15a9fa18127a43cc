package stream

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
)

// How many events refused publishers may write. Whoever is refused has proved
// nothing, and the event log keeps a bounded number of events: without these
// bounds a stranger could wash everything else out of it.
const (
	// refusalWindow is how long refusals of one kind from one address are counted
	// before they are told again, as one event.
	refusalWindow = 10 * time.Second
	// maxRefusalKinds are the kinds told apart for one address in a window; the
	// rest is one event without a stream.
	maxRefusalKinds = 4
	// maxRefusalSources bounds the addresses remembered.
	maxRefusalSources = 4096
	// refusalsPerSecond and refusalBurst bound the events of all addresses
	// together: a flood from everywhere needs more than a day to fill the log.
	refusalsPerSecond = 1
	refusalBurst      = 30
)

// refusals decides which refusals become events.
type refusals struct {
	mu      sync.Mutex // guards the fields below
	sources map[netip.Prefix]*refusalSource
	room    float64 // events that may be written now
	filled  time.Time
	untold  uint64
}

// refusalSource is one address and the kinds it was refused with since the
// beginning of its window.
type refusalSource struct {
	since time.Time
	kinds map[refusalKind]*heldRefusal
}

type refusalKind struct {
	reason fault.Reason
	stream string
}

// heldRefusal is what was not told yet of a kind: how many, and the last.
type heldRefusal struct {
	count int
	last  Event
}

func newRefusals() *refusals {
	return &refusals{sources: make(map[netip.Prefix]*refusalSource), room: refusalBurst}
}

// hear takes a refusal and reports whether it is to be recorded now; else it
// is counted.
func (l *refusals) hear(from netip.Addr, e Event) bool {
	network := customer(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sources[network]
	if s == nil {
		if len(l.sources) >= maxRefusalSources {
			l.untold++
			return false
		}
		s = &refusalSource{since: e.Time, kinds: make(map[refusalKind]*heldRefusal)}
		l.sources[network] = s
	}
	kind := refusalKind{e.Reason, e.Stream}
	held := s.kinds[kind]
	tellNow := false
	if held == nil {
		if tellNow = len(s.kinds) < maxRefusalKinds; !tellNow {
			kind, e.Stream = refusalKind{}, ""
		}
		if held = s.kinds[kind]; held == nil {
			held = new(heldRefusal)
			s.kinds[kind] = held
		}
	}
	if tellNow && l.spend(e.Time) {
		return true
	}
	held.count++
	held.last = e
	return false
}

// due are the events of windows that are over.
func (l *refusals) due(now time.Time) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Event
	for network, s := range l.sources {
		if now.Sub(s.since) < refusalWindow {
			continue
		}
		for kind, held := range s.kinds {
			if held.count > 0 && l.spend(now) {
				out = append(out, held.event(now))
				held.count = 0 // the kind stays: its next event is a window away
				continue
			}
			l.untold += uint64(held.count) //nolint:gosec // a count
			delete(s.kinds, kind)
		}
		if len(s.kinds) == 0 {
			delete(l.sources, network)
		}
		s.since = now
	}
	slices.SortFunc(out, func(a, b Event) int {
		return cmp.Or(cmp.Compare(a.Facts["remote"], b.Facts["remote"]), cmp.Compare(a.Message, b.Message))
	})
	return out
}

// event tells all that was held as one.
func (h *heldRefusal) event(now time.Time) Event {
	e := h.last
	e.Time = now
	e.Facts = maps.Clone(e.Facts)
	e.Facts["count"] = strconv.Itoa(h.count)
	if h.count > 1 {
		e.Message = fmt.Sprintf("%s (the last of %d refusals in %s)", e.Message, h.count, refusalWindow)
	}
	return e
}

// spend takes the room of one event; l.mu is held.
func (l *refusals) spend(now time.Time) bool {
	if !l.filled.IsZero() {
		l.room = min(refusalBurst, l.room+max(0, now.Sub(l.filled).Seconds())*refusalsPerSecond)
	}
	l.filled = now
	if l.room < 1 {
		return false
	}
	l.room--
	return true
}

// Untold counts the refusals that stand in no event.
func (l *refusals) Untold() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.untold
}

// customer is the network that one customer has: an IPv4 address, or a /64.
func customer(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	if err != nil { // only for an address that is none
		return netip.Prefix{}
	}
	return p
}

// Refused implements ingest.Witness.
func (r *Registry) Refused(req ingest.Request, err error) {
	if e := fault.From(err); e != nil {
		r.refused(&req, e)
	}
}

// refused counts a refusal, and records it within bounds.
func (r *Registry) refused(req *ingest.Request, e *fault.Error) {
	r.counters.refuse(e.Reason)
	facts := map[string]string{"protocol": req.Protocol, "remote": req.Remote.String()}
	if req.Encoder != "" {
		facts["encoder"] = req.Encoder[:min(len(req.Encoder), ingest.MaxEncoderName)]
	}
	if req.Partner != 0 {
		facts["partner"] = strconv.Itoa(req.Partner)
	}
	if req.Stream != "" {
		facts["server_index"] = strconv.Itoa(req.ServerIndex)
		if req.Index != 0 {
			facts["index"] = strconv.Itoa(req.Index)
		}
	}
	if code := e.Metadata["code"]; code != "" { // what a backend calls it
		facts["code"] = code
	}
	event := Event{
		Time: time.Now(), Type: PublishRefused, Stream: req.Stream, Reason: e.Reason, Message: e.Message, Facts: facts,
	}
	if r.refusals.hear(req.Remote.Addr(), event) {
		r.opts.Journal.Record(event)
	}
}

// UntoldRefusals counts the refusals that were too many for an event.
func (r *Registry) UntoldRefusals() uint64 { return r.refusals.Untold() }

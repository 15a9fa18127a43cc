package authority

import (
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
)

// How long a refusal is answered from memory. What only a person can mend holds
// for longHold, and twice as long each time it is asked for again, up to
// maxHold; what may pass by itself holds for shortHold, so that an encoder that
// tries again gets in.
const (
	longHold  = 30 * time.Second
	maxHold   = 2 * time.Minute
	shortHold = 3 * time.Second
	// forgetAfter is when a refusal that was not repeated counts no more.
	forgetAfter = 5 * time.Minute
	maxAnswers  = 16384
)

// The budget of a network for questions of strangers. A right token costs
// nothing, nor does what is answered from memory.
const (
	budgetBurst    = 64
	budgetInterval = 500 * time.Millisecond
	maxPace        = 3 * time.Second // the longest a network over its budget waits for its turn
	// maxUnknown is how many entries that do not exist a network may ask for in
	// a dirtWindow; then it has to wait before it may ask for entries that this
	// server never saw.
	maxUnknown = 10
	dirtWindow = time.Minute
	maxSources = 16384
	// sweepPeriod is how often all sources are looked through at most: a flood
	// from everywhere must not make each of its questions expensive.
	sweepPeriod = time.Second
)

// question is what was asked of the backend: one token for one entry, as the
// address names it, by one network.
type question struct {
	entry          string
	partner, index int               // server index
	token          [sha256.Size]byte // of salt and token
	from           netip.Prefix
}

// answer is a refusal.
type answer struct {
	refusal *fault.Error
	given   time.Time
	until   time.Time // it is given from memory until then
	times   int       // in a row
}

// source is what a network has done lately.
type source struct {
	since   time.Time // of the counts
	refused int
	unknown int       // of them for entries that do not exist
	paid    time.Time // until when the budget is spent
}

// memory is what the backend refused, and how much each network asks. Both are
// bounded: what is lost to a flood is asked for again.
type memory struct {
	salt [32]byte

	mu      sync.Mutex // guards the fields below
	answers map[question]answer
	sources map[netip.Prefix]*source
	swept   time.Time // when the sources were looked through last for want of room
}

func newMemory(salt [32]byte) *memory {
	return &memory{salt: salt, answers: make(map[question]answer), sources: make(map[netip.Prefix]*source)}
}

func (m *memory) question(r ingest.Request) question {
	h := sha256.New()
	h.Write(m.salt[:])
	h.Write([]byte(r.Token))
	return question{
		entry: r.Stream, partner: r.Partner, index: r.ServerIndex,
		token: [sha256.Size]byte(h.Sum(nil)), from: network(r.Remote.Addr()),
	}
}

// recall finds a refusal that still holds.
func (m *memory) recall(q question, now time.Time) (*fault.Error, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.answers[q]
	if !ok || !now.Before(a.until) {
		return nil, false
	}
	return a.refusal, true
}

// quota reports whether what was refused last was for want of quota.
func (m *memory) quota(q question) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.answers[q]
	return ok && a.refusal.Reason == fault.QuotaExceeded
}

// note remembers a refusal.
func (m *memory) note(q question, refusal *fault.Error, now time.Time) {
	hold, lasting := holdOf(refusal.Reason)
	m.mu.Lock()
	defer m.mu.Unlock()
	if hold == 0 {
		return
	}
	a, ok := m.answers[q]
	if !ok {
		m.makeRoom(now)
	}
	if now.Sub(a.given) > forgetAfter || ok && a.refusal.Reason != refusal.Reason {
		a.times = 0
	}
	if lasting {
		hold = min(hold<<min(a.times, 8), maxHold)
		s := m.source(q.from, now)
		s.refused++
		if refusal.Reason == fault.StreamNotFound {
			s.unknown++
		}
	}
	m.answers[q] = answer{refusal: refusal, given: now, until: now.Add(hold), times: a.times + 1}
}

// forget takes a refusal back: the token is right now.
func (m *memory) forget(q question) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.answers, q)
}

// makeRoom drops the answers that count no more and, when all do, some of
// them; m.mu is held.
func (m *memory) makeRoom(now time.Time) {
	if len(m.answers) < maxAnswers {
		return
	}
	for q, a := range m.answers {
		if now.Sub(a.given) > forgetAfter {
			delete(m.answers, q)
		}
	}
	for q := range m.answers { // in no order
		if len(m.answers) < maxAnswers*7/8 {
			break
		}
		delete(m.answers, q)
	}
}

// spend takes the price of one question out of the budget of a network. It
// returns how long to wait before it is asked and how often the network was
// refused lately; ok is false when the network asks too much. seen says that the
// entry was on air here before.
func (m *memory) spend(from netip.Prefix, seen bool, now time.Time) (wait time.Duration, dirt int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.source(from, now)
	if !seen && s.unknown >= maxUnknown {
		return 0, s.refused, false
	}
	if s.paid.Before(now) {
		s.paid = now
	}
	wait = s.paid.Sub(now) - budgetBurst*budgetInterval
	if wait > maxPace {
		return 0, s.refused, false
	}
	s.paid = s.paid.Add(budgetInterval)
	return max(wait, 0), s.refused, true
}

// refund gives the price of one question back.
func (m *memory) refund(from netip.Prefix) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.sources[from]; ok {
		s.paid = s.paid.Add(-budgetInterval)
	}
}

// source finds what a network has done lately; those for which there is no
// room share one. m.mu is held.
func (m *memory) source(from netip.Prefix, now time.Time) *source {
	s, ok := m.sources[from]
	if !ok {
		if len(m.sources) >= maxSources && now.Sub(m.swept).Abs() >= sweepPeriod {
			m.swept = now
			for p, s := range m.sources {
				if now.Sub(s.since) > dirtWindow && s.paid.Before(now) {
					delete(m.sources, p)
				}
			}
		}
		if len(m.sources) >= maxSources {
			from = netip.Prefix{}
		}
		if s, ok = m.sources[from]; !ok {
			s = &source{since: now}
			m.sources[from] = s
		}
	}
	if now.Sub(s.since) > dirtWindow {
		s.since, s.refused, s.unknown = now, 0, 0
	}
	return s
}

// holdOf is how long a refusal is answered from memory; lasting says that it
// does not pass by itself. 0: it is not remembered, as it was none of the
// backend's.
func holdOf(r fault.Reason) (hold time.Duration, lasting bool) {
	switch r {
	case fault.BadToken, fault.StreamNotFound, fault.WrongPartner, fault.PartnerBlocked:
		return longHold, true
	case fault.StoreUnavailable, fault.InternalError:
		return 0, false
	default:
		return shortHold, false
	}
}

package authority

import (
	"net/netip"
	"sync"
	"time"
)

// The times of what is remembered of passphrases.
const (
	// passFresh is how long a passphrase is as good as a new one.
	passFresh = 10 * time.Second
	// passGood is how long it is answered at once, while a newer one is fetched
	// for the next caller.
	passGood = time.Minute
	// passPatience bounds how long a caller waits for a newer one when there is
	// an old one that can be used instead: the backend may be away.
	passPatience = time.Second
	// passKept is how long one is kept of an entry that nobody publishes.
	passKept  = 10 * time.Minute
	maxPasses = 16384
)

// pass is what is remembered of an entry's passphrase.
type pass struct {
	have bool // the rest of this block means something
	text string
	at   time.Time // when the backend said so

	failure error         // of the last fetch; nil when it brought an answer
	hold    time.Duration // how long the failure is answered from memory
	tried   time.Time     // when the last fetch ended

	payer netip.Prefix // whose budget the last fetch was taken from; zero: nobody's
}

// failed reports whether the last fetch failed so lately that none is due.
func (p pass) failed(now time.Time) bool { return p.failure != nil && now.Sub(p.tried) < p.hold }

// flightKey names a fetch: one at a time for an entry and a network, so that
// nobody stands in the queue behind another network's guesses. Those of one
// entry have their turns one after the other, and only the first of them calls.
type flightKey struct {
	entry string
	from  netip.Prefix
	known bool
}

// flight is a fetch under way. Its fields are valid once done is closed.
type flight struct {
	done    chan struct{}
	text    string
	failure error
	answer  bool // the failure is the backend's answer about the entry
}

// passes is what is remembered of passphrases, and who fetches one. It lives
// in memory only: no record of this server holds a passphrase.
type passes struct {
	mu      sync.Mutex // guards the fields below
	entries map[string]pass
	flights map[flightKey]*flight
}

func newPasses() *passes {
	return &passes{entries: make(map[string]pass), flights: make(map[flightKey]*flight)}
}

// find is what is remembered of an entry.
func (p *passes) find(entry string) pass {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.entries[entry]
}

// join finds the fetch under way, or begins one, whose price pay takes first.
func (p *passes) join(k flightKey, pay func() error) (f *flight, begun bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f, ok := p.flights[k]; ok {
		return f, false, nil
	}
	if err := pay(); err != nil {
		return nil, false, err
	}
	f = &flight{done: make(chan struct{})}
	p.flights[k] = f
	return f, true, nil
}

// leave ends a fetch and wakes who waits for it; only the first end counts.
func (p *passes) leave(k flightKey, f *flight, text string, failure error, answer bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flights[k] != f {
		return
	}
	delete(p.flights, k)
	f.text, f.failure, f.answer = text, failure, answer
	close(f.done)
}

// keep remembers what the backend said, and who paid for the question.
func (p *passes) keep(entry, text string, payer netip.Prefix, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.makeRoom(entry)
	p.entries[entry] = pass{have: true, text: text, at: now, tried: now, payer: payer}
}

// fail remembers that a fetch brought nothing. An answer of the backend about
// the entry takes what was remembered away; silence does not.
func (p *passes) fail(entry string, failure error, answer bool, hold time.Duration, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.makeRoom(entry)
	e := p.entries[entry]
	if answer {
		e = pass{}
	}
	e.failure, e.hold, e.tried = failure, hold, now
	p.entries[entry] = e
}

// settle reports, once, whether the network paid for an entry's passphrase.
func (p *passes) settle(entry string, from netip.Prefix) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.entries[entry]
	if !ok || !e.payer.IsValid() || e.payer != from {
		return false
	}
	e.payer = netip.Prefix{}
	p.entries[entry] = e
	return true
}

// makeRoom drops failures and, when there are none, some passphrases: they are
// fetched again. p.mu is held.
func (p *passes) makeRoom(entry string) {
	if _, ok := p.entries[entry]; ok || len(p.entries) < maxPasses {
		return
	}
	for id, e := range p.entries {
		if !e.have {
			delete(p.entries, id)
		}
	}
	for id := range p.entries { // in no order
		if len(p.entries) < maxPasses*7/8 {
			return
		}
		delete(p.entries, id)
	}
}

// prune drops what is of no use any more: failures that are over, and
// passphrases of entries that are not in use.
func (p *passes) prune(now time.Time, inUse func(entry string) bool) {
	var old []string
	p.mu.Lock()
	for id, e := range p.entries {
		switch {
		case e.have && now.Sub(e.at) >= passKept:
			old = append(old, id)
		case !e.have && !e.failed(now):
			delete(p.entries, id)
		}
	}
	p.mu.Unlock()
	for _, id := range old {
		if inUse(id) {
			continue
		}
		p.mu.Lock()
		if e := p.entries[id]; now.Sub(e.at) >= passKept { // not renewed meanwhile
			delete(p.entries, id)
		}
		p.mu.Unlock()
	}
}

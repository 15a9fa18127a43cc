package catalog

import (
	"net/netip"
	"sync"
	"time"
)

// How wrong tokens are slowed down: the first freeAttempts are answered at
// once, each later one waits longer, up to maxWait; after maxAttempts within
// forgetAfter the answer is that
// there were too many.
const (
	freeAttempts = 3
	firstWait    = 250 * time.Millisecond
	maxWait      = 4 * time.Second
	maxAttempts  = 10
	forgetAfter  = time.Minute
	maxGuessers  = 16384
)

// throttle counts wrong tokens by source address and what they were a guess
// at: a stream, a template, or "" for streams that are not there. It is asked
// only about failures, so it can never lock out a right token.
type throttle struct {
	mu       sync.Mutex // guards guessers
	guessers map[guesser]attempts
}

type guesser struct {
	addr   netip.Addr
	stream string
}

type attempts struct {
	n    int
	last time.Time
}

func newThrottle() *throttle { return &throttle{guessers: make(map[guesser]attempts)} }

// failed notes a wrong token; it returns how long to wait before answering,
// and whether the guesser is still within bounds.
func (t *throttle) failed(addr netip.Addr, stream string, now time.Time) (wait time.Duration, ok bool) {
	if addr.Is6() {
		// One customer has a whole /64.
		if p, err := addr.Prefix(64); err == nil {
			addr = p.Addr()
		}
	}
	key := guesser{addr, stream}
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.guessers[key]
	if now.Sub(a.last) > forgetAfter {
		a.n = 0
	}
	if len(t.guessers) >= maxGuessers && a.n == 0 {
		t.forget(now)
	}
	a.n++
	a.last = now
	t.guessers[key] = a
	if a.n <= freeAttempts {
		return 0, true
	}
	wait = min(firstWait<<min(a.n-freeAttempts-1, 8), maxWait)
	return wait, a.n <= maxAttempts
}

// forget drops the expired and, when all are fresh, everything: a flood from
// that many addresses is not slowed by counting them.
func (t *throttle) forget(now time.Time) {
	for k, a := range t.guessers {
		if now.Sub(a.last) > forgetAfter {
			delete(t.guessers, k)
		}
	}
	if len(t.guessers) >= maxGuessers {
		clear(t.guessers)
	}
}

package client

import (
	"sync"
	"time"
)

// The breaker: after so many calls in a row without an answer the backend is
// left alone for a while; then one call tries, and the while doubles if it
// fails.
const (
	breakAfter = 5
	firstBreak = 2 * time.Second
	maxBreak   = 10 * time.Second
)

// verdict is how a call ended, as the breaker sees it.
type verdict uint8

const (
	answered verdict = iota // an error of the API is an answer
	failed
	unknown // given up by the caller, or aside
)

// breaker refuses calls while the backend is away.
//
//	closed --5 failures--> open --pause over--> trying --answered--> closed
//	                         ^---------failed-----|
type breaker struct {
	changed func(open bool)

	mu       sync.Mutex // guards the fields below
	failures int        // in a row
	until    time.Time  // open until then; zero: closed
	pause    time.Duration
	trying   bool // a call tries whether the backend is back
}

func newBreaker(changed func(bool)) *breaker { return &breaker{changed: changed} }

// pass says whether a call is the one that tries.
type pass bool

// enter asks for leave to call; leave must follow when it is given. A call
// aside never is the one that tries.
func (b *breaker) enter(now time.Time, aside bool) (p pass, allowed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.until.IsZero():
		return false, true
	case b.trying || aside || now.Before(b.until):
		return false, false
	}
	b.trying = true
	return true, true
}

// leave tells how a call ended.
func (b *breaker) leave(p pass, now time.Time, v verdict) {
	b.mu.Lock()
	wasOpen := !b.until.IsZero()
	if p {
		b.trying = false
	}
	switch v {
	case answered:
		b.failures, b.pause, b.until = 0, 0, time.Time{}
	case failed:
		b.failures++
		// Calls that began before it opened do not lengthen the pause.
		if bool(p) || !wasOpen && b.failures >= breakAfter {
			b.pause = min(max(2*b.pause, firstBreak), maxBreak)
			b.until = now.Add(b.pause)
		}
	}
	isOpen := !b.until.IsZero()
	b.mu.Unlock()
	if wasOpen != isOpen {
		b.changed(isOpen)
	}
}

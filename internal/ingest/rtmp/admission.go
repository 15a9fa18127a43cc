package rtmp

import (
	"net/netip"
	"sync"
)

// admission counts connections: all of them, and by address those that have
// not published yet. A connection that has not published yet costs some 50 kB
// and lasts at most the timeouts of the setup.
type admission struct {
	maxOpen, maxWaiting int // 0: no limit

	mu      sync.Mutex // guards the fields below
	open    int
	waiting map[netip.Addr]int
}

// place is one connection's entry in an admission.
type place struct {
	a       *admission
	addr    netip.Addr
	waiting bool
}

// enter takes a place, or reports that there is none.
func (a *admission) enter(addr netip.Addr) (*place, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.maxOpen > 0 && a.open >= a.maxOpen || a.maxWaiting > 0 && a.waiting[addr] >= a.maxWaiting {
		return nil, false
	}
	if a.waiting == nil {
		a.waiting = make(map[netip.Addr]int)
	}
	a.open++
	a.waiting[addr]++
	return &place{a: a, addr: addr, waiting: true}, true
}

// published says that the connection waits no longer.
func (p *place) published() {
	p.a.mu.Lock()
	defer p.a.mu.Unlock()
	p.stopWaiting()
}

// leave gives the place back. It is called once.
func (p *place) leave() {
	p.a.mu.Lock()
	defer p.a.mu.Unlock()
	p.stopWaiting()
	p.a.open--
}

// stopWaiting is called with the mutex held.
func (p *place) stopWaiting() {
	if !p.waiting {
		return
	}
	p.waiting = false
	if p.a.waiting[p.addr]--; p.a.waiting[p.addr] == 0 {
		delete(p.a.waiting, p.addr)
	}
}

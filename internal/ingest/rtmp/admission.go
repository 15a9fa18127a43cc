package rtmp

import (
	"net/netip"
	"sync"
)

// subnetBits of an IPv6 address name its owner's network; the rest is the
// owner's to choose anew for every connection (RFC 6177).
const subnetBits = 64

// admission counts connections: all of them, and by address those that have
// not published yet. A connection that has not published yet costs some 50 kB
// and lasts at most the timeouts of the setup.
type admission struct {
	maxOpen, maxWaiting int // 0: no limit

	mu      sync.Mutex // guards the fields below
	open    int
	waiting map[netip.Prefix]int
}

// place is one connection's entry in an admission.
type place struct {
	a       *admission
	from    netip.Prefix
	waiting bool
}

// origin is what addr is counted under: itself, or its /64 in IPv6. The zero Addr has the zero Prefix.
func origin(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = subnetBits
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: the peer is gone already
	}
	return p
}

// enter takes a place, or reports that there is none.
func (a *admission) enter(addr netip.Addr) (*place, bool) {
	from := origin(addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.maxOpen > 0 && a.open >= a.maxOpen || a.maxWaiting > 0 && a.waiting[from] >= a.maxWaiting {
		return nil, false
	}
	if a.waiting == nil {
		a.waiting = make(map[netip.Prefix]int)
	}
	a.open++
	a.waiting[from]++
	return &place{a: a, from: from, waiting: true}, true
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
	if p.a.waiting[p.from]--; p.a.waiting[p.from] == 0 {
		delete(p.a.waiting, p.from)
	}
}

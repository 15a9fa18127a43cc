package ingest

import (
	"net/netip"
	"sync"
)

// subnetBits of an IPv6 address name its owner's network; the rest is the
// owner's to choose anew for every connection (RFC 6177).
const subnetBits = 64

// Admission counts the connections of a door: all of them, and by address
// those that have not published yet. Make it with NewAdmission.
type Admission struct {
	maxOpen, maxWaiting int // 0: no limit

	mu      sync.Mutex // guards the fields below
	open    int
	waiting map[netip.Prefix]int
}

// NewAdmission makes an Admission of at most so many open connections, and so
// many of one address that have not published yet. 0 is no limit.
func NewAdmission(maxOpen, maxWaiting int) *Admission {
	return &Admission{maxOpen: maxOpen, maxWaiting: maxWaiting, waiting: make(map[netip.Prefix]int)}
}

// Place is one connection's entry in an Admission.
type Place struct {
	a       *Admission
	from    netip.Prefix
	waiting bool
	left    bool
}

// Full reports whether Enter would refuse now.
func (a *Admission) Full(addr netip.Addr) bool {
	from := origin(addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.full(from)
}

// full is called with the mutex held.
func (a *Admission) full(from netip.Prefix) bool {
	return a.maxOpen > 0 && a.open >= a.maxOpen || a.maxWaiting > 0 && a.waiting[from] >= a.maxWaiting
}

// Enter takes a place, or reports that there is none.
func (a *Admission) Enter(addr netip.Addr) (*Place, bool) {
	from := origin(addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.full(from) {
		return nil, false
	}
	a.open++
	a.waiting[from]++
	return &Place{a: a, from: from, waiting: true}, true
}

// Published says that the connection waits no longer.
func (p *Place) Published() {
	p.a.mu.Lock()
	defer p.a.mu.Unlock()
	p.stopWaiting()
}

// Leave gives the place back, once; calling it again does nothing.
func (p *Place) Leave() {
	p.a.mu.Lock()
	defer p.a.mu.Unlock()
	if p.left {
		return
	}
	p.left = true
	p.stopWaiting()
	p.a.open--
}

// stopWaiting is called with the mutex held.
func (p *Place) stopWaiting() {
	if !p.waiting {
		return
	}
	p.waiting = false
	if p.a.waiting[p.from]--; p.a.waiting[p.from] == 0 {
		delete(p.a.waiting, p.from)
	}
}

// origin is what addr is counted under: itself, or its /64 in IPv6. The zero
// Addr has the zero Prefix.
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

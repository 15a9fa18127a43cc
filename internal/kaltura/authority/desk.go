package authority

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
)

// The bounds of the desk. Strangers are publishers with a token that no grant
// of the book has accepted yet: every encoder is one at its first broadcast.
const (
	maxStrangers    = 8    // calls for strangers at once
	maxFromNetwork  = 4    // of them from one network
	maxWaiting      = 2048 // strangers that wait
	maxWaitingThere = 128  // of them from one network: a house full of encoders after a power cut
)

// errCrowded: too many strangers wait already.
var errCrowded = errors.New("too many publishers wait for an answer")

// desk decides whose question goes to the backend next. There is one question
// at a time for each entry. A publisher whose token was accepted before goes
// before all strangers and is not counted among them; of strangers those go
// first whose network was refused and served least, so that a flood of guesses
// waits behind the first broadcast of a good encoder.
type desk struct {
	mu      sync.Mutex // guards the fields below
	busy    map[string]bool
	asking  int                     // strangers
	from    map[netip.Prefix]*crowd // strangers by network
	waiting []*visitor              // in order of arrival
	strange int                     // strangers among them
}

// crowd is the strangers of one network; served counts those who had their turn
// since the first of them came.
type crowd struct{ asking, waiting, served int }

// visitor is one publisher's wait for a turn.
type visitor struct {
	entry string
	from  netip.Prefix
	known bool
	dirt  int           // refusals of its network lately
	turn  chan struct{} // closed when it has the turn
	has   bool          // guarded by desk.mu
}

func newDesk() *desk {
	return &desk{busy: make(map[string]bool), from: make(map[netip.Prefix]*crowd)}
}

// enter waits for the turn; leave must follow when it returns nil.
func (d *desk) enter(ctx context.Context, v *visitor) error {
	v.turn = make(chan struct{})
	d.mu.Lock()
	if !v.known {
		if d.strange >= maxWaiting || d.crowd(v.from).waiting >= maxWaitingThere {
			d.tidy(v.from)
			d.mu.Unlock()
			return errCrowded
		}
		d.strange++
		d.crowd(v.from).waiting++
	}
	d.waiting = append(d.waiting, v)
	d.next()
	d.mu.Unlock()
	select {
	case <-v.turn:
		return nil
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if v.has {
		d.release(v)
	} else {
		d.stopWaiting(v)
	}
	return ctx.Err()
}

// leave ends a turn.
func (d *desk) leave(v *visitor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.release(v)
}

// release ends a turn and gives the next; d.mu is held.
func (d *desk) release(v *visitor) {
	delete(d.busy, v.entry)
	if !v.known {
		d.asking--
		d.crowd(v.from).asking--
		d.tidy(v.from)
	}
	d.next()
}

// next gives turns to as many as may have one; d.mu is held.
func (d *desk) next() {
	for {
		var best *visitor
		for _, v := range d.waiting {
			if d.mayAsk(v) && (best == nil || d.before(v, best)) {
				best = v
			}
		}
		if best == nil {
			return
		}
		d.busy[best.entry] = true
		if !best.known {
			d.asking++
			c := d.crowd(best.from)
			c.asking++
			c.served++
		}
		d.stopWaiting(best)
		best.has = true
		close(best.turn)
	}
}

// before reports whether v goes before w, who came earlier; d.mu is held.
func (d *desk) before(v, w *visitor) bool {
	if v.known || w.known {
		return !w.known
	}
	return v.dirt+d.crowd(v.from).served < w.dirt+d.crowd(w.from).served
}

// mayAsk reports whether v could have the turn now; d.mu is held.
func (d *desk) mayAsk(v *visitor) bool {
	return !d.busy[v.entry] && (v.known || d.asking < maxStrangers && d.crowd(v.from).asking < maxFromNetwork)
}

// stopWaiting takes v out of those who wait; d.mu is held.
func (d *desk) stopWaiting(v *visitor) {
	if i := slices.Index(d.waiting, v); i >= 0 {
		d.waiting = slices.Delete(d.waiting, i, i+1)
	}
	if !v.known {
		d.strange--
		d.crowd(v.from).waiting--
		d.tidy(v.from)
	}
}

// crowd finds the strangers of a network; d.mu is held.
func (d *desk) crowd(from netip.Prefix) *crowd {
	c := d.from[from]
	if c == nil {
		c = new(crowd)
		d.from[from] = c
	}
	return c
}

// tidy forgets a network of which nobody is here; d.mu is held.
func (d *desk) tidy(from netip.Prefix) {
	if c := d.from[from]; c != nil && c.asking == 0 && c.waiting == 0 {
		delete(d.from, from)
	}
}

// network is what one customer has: an IPv4 address, or a /64 of IPv6.
func network(addr netip.Addr) netip.Prefix {
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

package srt

import "net/netip"

const (
	// atOnce is how many datagrams are received with one system call.
	atOnce = 64
	// mostAnswers is how many datagrams one connection sends at a time.
	mostAnswers = 8
	outboxSize  = atOnce + mostAnswers
)

// outbox gathers datagrams to be sent together: at most one for each that was
// received, or mostAnswers after a look whether it is full. It belongs to one
// goroutine.
type outbox struct {
	n     int
	bufs  [outboxSize][maxDatagram]byte
	sizes [outboxSize]int
	to    [outboxSize]netip.AddrPort
	batch batch
}

func newOutbox() *outbox { return new(outbox) }

// next gives the buffer for a datagram; append to it and hand it to done.
func (o *outbox) next(to netip.AddrPort) []byte {
	o.to[o.n] = to
	return o.bufs[o.n][:0]
}

// done takes the datagram that next began.
func (o *outbox) done(b []byte) {
	o.sizes[o.n] = len(b)
	o.n++
}

// full reports whether the next connection may find no room.
func (o *outbox) full() bool { return o.n >= atOnce }

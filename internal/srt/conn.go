package srt

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// How long a connection lasts without a word, and how often one is said.
const (
	// PeerTimeout is how long a peer may be silent, not even sending the
	// keep-alive of every second, before it is taken as lost.
	PeerTimeout = 5 * time.Second
	keepAlive   = time.Second
	// linger is how long a closed connection still says goodbye to a peer that
	// goes on sending, as it did not hear the first one.
	linger       = 3 * time.Second
	goodbyeAgain = 100 * time.Millisecond
)

// takeAtOnce is how many packets a reader takes from the buffer at a time.
const takeAtOnce = 32

// Conn is a connection that was let in. Read is for one goroutine, the rest
// for any. The owner must Close it, also after Read has failed.
type Conn struct {
	l        *Listener
	id, peer uint32 // socket ids of this side and of the peer
	remote   netip.AddrPort
	latency  time.Duration
	secured  bool

	ready chan struct{} // tells the reader to look, holds one
	gone  atomic.Bool   // the listener forgot it

	mu       sync.Mutex // guards the fields below
	buf      *buffer
	trip     roundTrip
	way      bandwidth
	rate     rate
	err      error // how it ended; nil: it did not
	closed   bool  // by Close
	closedAt int64
	heard    int64 // when the peer was last heard of; ns of the listener's clock
	sent     int64 // when it was last sent something
	acked    uint32
	ackedAt  int64
	goodbyes int64  // when the last goodbye was sent
	owed     bool   // a goodbye
	km       []byte // key material that the reader has to open
	packets  uint64
	undone   uint64 // packets that could not be decrypted

	// The rest belongs to the reader.
	keys   keyring
	unlock *unlocker // nil: not encrypted
	batch  [takeAtOnce]*packet
	taken  []*packet // of batch, not read yet
	before int       // packets missing before the message that was read last
	unread int       // the same before the one that is read next
}

// Missing is how many packets were given up, or could not be decrypted, right
// before the message that Read returned last; for the goroutine that reads.
func (c *Conn) Missing() int { return c.before }

// Remote is the peer's address.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// Encrypted reports whether the peer encrypts.
func (c *Conn) Encrypted() bool { return c.secured }

// Latency is how long missing packets are waited for, as negotiated.
func (c *Conn) Latency() time.Duration { return c.latency }

// Read waits for the next message and copies it into b, which must hold
// MaxMessage bytes. Messages come in order; where packets were given up the
// next one follows. The error is io.EOF when the peer said goodbye, ErrLost
// when it fell silent and ErrClosed after Close; all that came before is read
// first, except after Close.
func (c *Conn) Read(b []byte) (int, error) {
	for {
		for len(c.taken) > 0 {
			p := c.taken[0]
			c.taken = c.taken[1:]
			n := c.open(b, p)
			c.unread += p.missing
			p.free()
			if n > 0 {
				c.before, c.unread = c.unread, 0
				return n, nil
			}
			c.unread++
		}
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return 0, ErrClosed
		}
		c.taken = c.batch[:c.buf.take(c.batch[:])]
		km, err := c.km, c.err
		c.km = nil
		c.mu.Unlock()
		if km != nil {
			c.rekey(km)
		}
		switch {
		case len(c.taken) > 0:
		case err != nil:
			return 0, err
		default:
			<-c.ready
		}
	}
}

// open copies a packet's plain text into b; 0 when there is none.
func (c *Conn) open(b []byte, p *packet) int {
	text, key := p.payload(), p.key()
	b = b[:min(len(b), len(text))]
	switch {
	case c.unlock == nil && key == 0:
		return copy(b, text)
	case c.unlock != nil && key != 0 && c.keys.decrypt(b, text[:len(b)], key, p.sequence()):
		return len(b)
	}
	// Plain packets of an encrypted connection are not the peer's.
	c.mu.Lock()
	c.undone++
	c.mu.Unlock()
	return 0
}

// rekey takes the keys that the peer will use from some packet on, and answers
// (§6.1.6).
func (c *Conn) rekey(km []byte) {
	answer := km
	m, err := readKeyMaterial(km)
	if err == nil && c.unlock == nil {
		err = errWrongSecret
	}
	if err == nil {
		err = c.unlock.open(m, &c.keys)
	}
	if err != nil {
		const badSecret = 4 // libsrt, SRT_KM_STATE
		answer = binary.BigEndian.AppendUint32(nil, badSecret)
	}
	now := c.l.now()
	b := c.head(typeUser, 0, now).append(make([]byte, 0, headerSize+len(answer)))
	binary.BigEndian.PutUint16(b[2:], extKMResponse)
	c.l.send(append(b, answer...), c.remote)
}

// head is the header of a control packet to the peer.
func (c *Conn) head(kind uint16, info uint32, now int64) control {
	return control{kind: kind, info: info, timestamp: microseconds(now), destination: c.peer}
}

// Close says goodbye to the peer and ends Read. It may be called again.
func (c *Conn) Close() {
	now := c.l.now()
	c.mu.Lock()
	again := c.closed
	over := c.err != nil && c.err != ErrLost //nolint:errorlint // set by this package
	if !again {
		c.closed, c.closedAt, c.goodbyes = true, now, now
		c.buf.release()
		if c.err == nil {
			c.err = ErrClosed
		}
	}
	c.mu.Unlock()
	if again {
		return
	}
	c.wake()
	if !over {
		c.l.send(c.goodbye(nil, now), c.remote)
	}
}

// goodbye appends the packet that ends the connection (§3.2.7). libsrt sends
// no control packet without a word behind the header.
func (c *Conn) goodbye(b []byte, now int64) []byte {
	return append(c.head(typeShutdown, 0, now).append(b), 0, 0, 0, 0)
}

func (c *Conn) wake() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// end ends the connection from outside. The mutex is held.
func (c *Conn) end(err error) {
	if c.err == nil {
		c.err = err
		c.buf.flush()
		c.wake()
	}
}

// ConnStats are the statistics of a connection. Counts are since its
// beginning.
type ConnStats struct {
	RTT, Latency  time.Duration
	Buffered      time.Duration // stream time that is held until holes are mended or the reader comes
	Rate          int64         // bit/s received
	Bandwidth     int64         // bit/s that the way is estimated to carry; 0: not known
	Packets       uint64        // data packets, those sent again included
	Lost          uint64        // did not come by themselves: the sum of the next two
	Retransmitted uint64        // of the lost: sent again and received
	Dropped       uint64        // of the lost: given up
	Late          uint64        // came for the first time after they were mended or given up
	Undecrypted   uint64
}

// Stats takes the statistics.
func (c *Conn) Stats() ConnStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	rtt, _ := c.trip.smooth()
	return ConnStats{
		RTT: rtt, Latency: c.latency, Buffered: time.Duration(c.buf.held()), Rate: 8 * c.rate.perSecond, Bandwidth: c.way.estimate(),
		Packets: c.packets, Lost: c.buf.mended + c.buf.dropped, Retransmitted: c.buf.mended, Dropped: c.buf.dropped, Late: c.buf.late,
		Undecrypted: c.undone,
	}
}

// versionText names an SRT version as its users know it.
func versionText(v uint32) string {
	return fmt.Sprintf("SRT %d.%d.%d", v>>16&0xff, v>>8&0xff, v&0xff)
}

var _ io.Reader = (*Conn)(nil)

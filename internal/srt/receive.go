package srt

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"
)

// gather is how long the receiver waits before it looks for more: the packets
// of a millisecond are taken with one system call and one wake-up.
const gather = time.Millisecond

// receive takes datagrams until the socket is closed.
func (l *Listener) receive() {
	in := newInbox()
	out := newOutbox()
	var touched []*Conn
	for {
		n, err := l.socket.read(in, l)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // such as no memory: the next one may be read
			l.stats.Unread.Add(1)
			time.Sleep(tickEvery)
			continue
		}
		for i := range n {
			if c := l.dispatch(in, i, out); c != nil && !slices.Contains(touched, c) {
				touched = append(touched, c)
			}
		}
		for _, c := range touched {
			c.wake()
		}
		clear(touched)
		touched = touched[:0]
		l.flush(out)
		if n < len(in.packets) {
			time.Sleep(gather)
		}
	}
}

// dispatch gives a datagram to whom it is for, and a fresh buffer to its place
// when that is kept. It returns the connection whose reader has something to
// do.
func (l *Listener) dispatch(in *inbox, i int, out *outbox) *Conn {
	p, from := in.packets[i], in.from[i]
	l.stats.Datagrams.Add(1)
	if p.n < headerSize || p.n > maxDatagram {
		l.stats.Malformed.Add(1)
		return nil
	}
	id := destinationOf(p.bytes())
	if id == 0 {
		if !isControl(p.bytes()) || readControl(p.bytes()).kind != typeHandshake {
			l.stats.Malformed.Add(1)
			return nil
		}
		l.greet(p, from)
		return nil
	}
	l.mu.RLock()
	c := l.conns[id]
	l.mu.RUnlock()
	if c == nil || c.remote != from {
		l.stats.Strangers.Add(1)
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = p.at
	switch {
	case c.closed:
		c.owed = true // it did not hear the goodbye
		return nil
	case c.err != nil:
		return nil
	case isControl(p.bytes()):
		return c.control(p)
	}
	taken, grew := c.data(p, out)
	if taken {
		in.packets[i] = newPacket()
	}
	if grew {
		return c
	}
	return nil
}

// data takes a data packet. grew: there is something to read. The mutex is
// held.
func (c *Conn) data(p *packet, out *outbox) (taken, grew bool) {
	c.packets++
	c.rate.see(p.n)
	c.way.see(p)
	next := c.buf.next
	taken, hole := c.buf.put(p, c.askAgain())
	if hole > 0 {
		var report [2]uint32
		s := p.sequence()
		out.done(appendNAK(out.next(c.remote), c.head(typeNAK, 0, p.at), appendRange(report[:0], advance(s, -hole), advance(s, -1))))
		c.sent = p.at
	}
	return taken, c.buf.next != next
}

// control takes a control packet; it returns the connection when its reader
// has something to do. The mutex is held.
func (c *Conn) control(p *packet) *Conn {
	head, b := readControl(p.bytes()), p.payload()
	switch head.kind {
	case typeKeepAlive, typeACK, typeNAK: // this side sends no data
	case typeACKACK:
		c.trip.answer(head.info, p.at)
	case typeShutdown:
		c.end(io.EOF)
	case typeDropRequest:
		if len(b) < 8 {
			c.l.stats.Malformed.Add(1)
			return nil
		}
		next := c.buf.next
		c.buf.request(binary.BigEndian.Uint32(b)&sequenceMask, binary.BigEndian.Uint32(b[4:])&sequenceMask)
		if c.buf.next != next {
			return c
		}
	case typeUser:
		if head.subtype != extKMRequest || len(b) > maxKM {
			return nil
		}
		c.km = slices.Clone(b)
		return c
	default:
		c.l.stats.Malformed.Add(1)
	}
	return nil
}

// greet takes a handshake packet from somebody who has no connection (§4.3.1).
func (l *Listener) greet(p *packet, from netip.AddrPort) {
	h, err := readHandshake(p.payload())
	if err != nil {
		l.stats.Malformed.Add(1)
		return
	}
	switch h.kind {
	case handshakeInduction:
		l.stats.Inductions.Add(1)
		l.induce(h, from, p.at)
	case handshakeConclusion:
		if h.cookie != l.cookie(from, 0) && h.cookie != l.cookie(from, 1) {
			l.stats.BadCookies.Add(1)
			return
		}
		l.conclude(h, p, from)
	default:
		l.stats.Malformed.Add(1)
	}
}

// induce answers the first message. Nothing is remembered of who sent it.
func (l *Listener) induce(h handshake, from netip.AddrPort, now int64) {
	head := control{kind: typeHandshake, timestamp: microseconds(now), destination: h.socket}
	b := head.append(make([]byte, 0, headerSize+handshakeSize))
	h.version, h.encryption, h.extension = versionFive, 0, extensionMagic
	h.cookie, h.window = l.cookie(from, 0), window
	h.mtu = min(h.mtu, mtu)
	l.send(h.append(b, from.Addr()), from)
}

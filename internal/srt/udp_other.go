//go:build !linux

package srt

import (
	"net"
	"net/netip"
)

// inbox is where datagrams are received, one at a time. It belongs to one
// goroutine.
type inbox struct {
	packets [1]*packet
	from    [1]netip.AddrPort
}

func newInbox() *inbox { return &inbox{packets: [1]*packet{newPacket()}} }

// batch is what an outbox needs of the system: nothing here.
type batch struct{}

// socket sends and receives datagrams.
type socket struct{ udp *net.UDPConn }

func newSocket(udp *net.UDPConn) (*socket, error) { return &socket{udp: udp}, nil }

func (s *socket) read(in *inbox, l *Listener) (int, error) {
	p := in.packets[0]
	n, from, err := s.udp.ReadFromUDPAddrPort(p.buf[:])
	if err != nil {
		return 0, err
	}
	p.n, p.at = n, l.now()
	in.from[0] = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	return 1, nil
}

func (s *socket) write(out *outbox) (unsent int) {
	for i := range out.n {
		if _, err := s.udp.WriteToUDPAddrPort(out.bufs[i][:out.sizes[i]], out.to[i]); err != nil {
			unsent++
		}
	}
	return unsent
}

package srt

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// message is struct mmsghdr of recvmmsg(2).
type message struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// Room for the time of arrival behind each datagram.
const controlSize = 64

// inbox is where datagrams are received. It belongs to one goroutine.
type inbox struct {
	packets  [atOnce]*packet
	from     [atOnce]netip.AddrPort
	messages [atOnce]message
	vectors  [atOnce]unix.Iovec
	names    [atOnce]unix.RawSockaddrInet6 // has room for the other family
	controls [atOnce][controlSize]byte

	n    int
	err  error
	call func(fd uintptr) bool
}

func newInbox() *inbox {
	in := new(inbox)
	for i := range in.packets {
		in.packets[i] = newPacket()
	}
	in.call = in.receive
	return in
}

// receive is what RawConn.Read calls until it returns true.
func (in *inbox) receive(fd uintptr) bool {
	for i := range in.messages {
		m := &in.messages[i]
		in.vectors[i].Base = &in.packets[i].buf[0]
		in.vectors[i].SetLen(mtu)
		m.header.Name, m.header.Namelen = (*byte)(unsafe.Pointer(&in.names[i])), unix.SizeofSockaddrInet6
		m.header.Iov, m.header.Flags = &in.vectors[i], 0
		m.header.SetIovlen(1)
		m.header.Control = &in.controls[i][0]
		m.header.SetControllen(controlSize)
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&in.messages)), atOnce, unix.MSG_DONTWAIT, 0, 0)
	switch errno {
	case 0:
		in.n, in.err = int(n), nil //nolint:gosec // at most atOnce
		return true
	case unix.EAGAIN:
		return false
	case unix.EINTR, unix.ECONNREFUSED: // an answer that reached nobody
		in.n, in.err = 0, nil
		return true
	}
	in.err = errno
	return true
}

// socket sends and receives many datagrams at once.
type socket struct {
	udp *net.UDPConn
	raw syscall.RawConn
	six bool // an IPv6 socket, which may have IPv4 peers
}

func newSocket(udp *net.UDPConn) (*socket, error) {
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{udp: udp, raw: raw}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		var domain int
		if domain, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN); failed == nil { //nolint:gosec // a descriptor
			s.six = domain == unix.AF_INET6
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) //nolint:gosec // a descriptor
		}
	}); err != nil {
		return nil, err
	}
	return s, failed
}

// read waits for datagrams and tells when each arrived, by the listener's
// clock.
func (s *socket) read(in *inbox, l *Listener) (int, error) {
	if err := s.raw.Read(in.call); err != nil {
		return 0, err
	}
	if in.err != nil {
		return 0, in.err
	}
	now, wall := l.now(), time.Now().UnixNano()
	for i := range in.n {
		m, p := &in.messages[i], in.packets[i]
		p.n = int(m.length)
		if m.header.Flags&unix.MSG_TRUNC != 0 {
			p.n = mtu // is longer than any packet may be
		}
		p.at = now
		if at := arrival(in.controls[i][:min(int(m.header.Controllen), controlSize)]); at != 0 { //nolint:gosec // a length
			p.at = min(now, max(now-(wall-at), now-int64(time.Second)))
		}
		in.from[i] = addressOf(&in.names[i])
	}
	return in.n, nil
}

// arrival is the system's time of arrival in Unix nanoseconds; 0: not told.
func arrival(b []byte) int64 {
	if len(b) < unix.SizeofCmsghdr+int(unsafe.Sizeof(unix.Timespec{})) {
		return 0
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	if h.Level != unix.SOL_SOCKET || h.Type != unix.SO_TIMESTAMPNS {
		return 0
	}
	t := (*unix.Timespec)(unsafe.Pointer(&b[unix.SizeofCmsghdr]))
	return t.Nano()
}

// addressOf reads who sent a datagram. IPv4 in IPv6 is told as IPv4.
func addressOf(name *unix.RawSockaddrInet6) netip.AddrPort {
	if name.Family == unix.AF_INET {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), swapped(four.Port))
	}
	addr := netip.AddrFrom16(name.Addr).Unmap()
	if name.Scope_id != 0 && addr.Is6() {
		addr = addr.WithZone(strconv.FormatUint(uint64(name.Scope_id), 10))
	}
	return netip.AddrPortFrom(addr, swapped(name.Port))
}

// swapped is a port between the network's order and ours.
func swapped(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}

// batch is what sendmmsg(2) needs of an outbox.
type batch struct {
	messages [outboxSize]message
	vectors  [outboxSize]unix.Iovec
	names    [outboxSize]unix.RawSockaddrInet6

	first, sent int
	errno       unix.Errno
	call        func(fd uintptr) bool
}

// write sends what is in an outbox and returns how many datagrams the system
// did not take.
func (s *socket) write(out *outbox) (unsent int) {
	b := &out.batch
	if b.call == nil {
		b.call = out.transmit
	}
	for i := range out.n {
		m := &b.messages[i]
		m.header.Name, m.header.Namelen = (*byte)(unsafe.Pointer(&b.names[i])), nameOf(out.to[i], s.six, &b.names[i])
		b.vectors[i].Base = &out.bufs[i][0]
		b.vectors[i].SetLen(out.sizes[i])
		m.header.Iov = &b.vectors[i]
		m.header.SetIovlen(1)
	}
	for b.first = 0; b.first < out.n; {
		if err := s.raw.Write(b.call); err != nil {
			return unsent + out.n - b.first
		}
		switch b.errno {
		case 0:
			b.first += max(b.sent, 1)
		case unix.EINTR:
		default: // the first of them; the others may have better luck
			b.first++
			unsent++
		}
	}
	return unsent
}

// transmit is what RawConn.Write calls. What the system has no room for is
// lost, as on any network.
func (o *outbox) transmit(fd uintptr) bool {
	b := &o.batch
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.messages[b.first])), uintptr(o.n-b.first), unix.MSG_DONTWAIT, 0, 0) //nolint:gosec // a length
	b.sent, b.errno = int(n), errno                                                                                                                   //nolint:gosec // at most outboxSize, or unused
	return true
}

// nameOf writes an address as the system takes it, and returns its size.
func nameOf(to netip.AddrPort, six bool, name *unix.RawSockaddrInet6) uint32 {
	addr := to.Addr()
	if !six {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		*four = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: swapped(to.Port()), Addr: addr.As4()}
		return unix.SizeofSockaddrInet4
	}
	*name = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: swapped(to.Port()), Addr: addr.As16()}
	if zone := addr.Zone(); zone != "" {
		n, _ := strconv.ParseUint(zone, 10, 32) // addressOf wrote it
		name.Scope_id = uint32(n)
	}
	return unix.SizeofSockaddrInet6
}

//go:build srt

package srt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/haivision/srtgo"
)

// The limits of an SRT latency: what the protocol's 16 bits of milliseconds
// carry, and what is of use.
const (
	MinLatency     = 20 * time.Millisecond
	MaxLatency     = 60 * time.Second
	DefaultLatency = 120 * time.Millisecond
)

// backlog is how many connections may wait for Accept. The loop takes them at
// once, so that it is met only by a flood.
const backlog = 1024

// peerTimeout is how long a peer may be silent, not even sending the keep-alive
// of every second, before libsrt takes it as lost.
const peerTimeout = 5 * time.Second

// ListenOptions are those of a Listener.
type ListenOptions struct {
	// Latency is how long packets are held back at least so that losses can be
	// mended; a caller may ask for more. 0 is DefaultLatency.
	Latency time.Duration
}

// Listener is a bound UDP port. Callers are turned away until a Server is
// made for it. Close it, or run the Server, which does.
type Listener struct {
	socket *srtgo.SrtSocket // kept, as its finalizer closes it
	addr   *net.UDPAddr
	ask    atomic.Pointer[func(*srtgo.SrtSocket, *net.UDPAddr, string) bool]

	once sync.Once
	free sync.Once
}

// Listen binds a UDP port: "host:port", where an empty host is every address of
// both families and port 0 one that is free.
func Listen(ctx context.Context, address string, o ListenOptions) (*Listener, error) {
	addr, err := resolve(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("listen for srt on %s: %w", address, err)
	}
	if o.Latency <= 0 {
		o.Latency = DefaultLatency
	}
	srtgo.InitSRT()
	// libsrt writes of every bad handshake to standard error, as often as
	// anybody sends one.
	srtgo.SrtSetLogLevel(srtgo.SrtLogLevelCrit)
	l, err := bind(addr, o)
	if err != nil && addr.IP.Equal(net.IPv6unspecified) { // a machine without IPv6
		l, err = bind(&net.UDPAddr{IP: net.IPv4zero, Port: addr.Port}, o)
	}
	if err != nil {
		srtgo.CleanupSRT()
		return nil, fmt.Errorf("listen for srt on %s: %w", address, err)
	}
	return l, nil
}

// resolve reads an address of a listener.
func resolve(ctx context.Context, address string) (*net.UDPAddr, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return nil, err
	}
	if host == "" {
		return &net.UDPAddr{IP: net.IPv6unspecified, Port: n}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(ips[0].Unmap(), uint16(n))), nil //nolint:gosec // a port
}

func bind(addr *net.UDPAddr, o ListenOptions) (*Listener, error) {
	s := srtgo.NewSrtSocket(addr.IP.String(), uint16(addr.Port), map[string]string{ //nolint:gosec // a port
		"mode": "listener",
		// A non-blocking listener forgets callers that come together, and
		// non-blocking reads spin.
		"blocking":      "1",
		"transtype":     "live",
		"rcvlatency":    strconv.FormatInt(min(max(o.Latency, MinLatency), MaxLatency).Milliseconds(), 10),
		"peeridletimeo": strconv.FormatInt(peerTimeout.Milliseconds(), 10),
	})
	if s == nil {
		return nil, errors.New("libsrt gives no socket")
	}
	if addr.IP.To4() == nil {
		only := 1
		if addr.IP.IsUnspecified() {
			only = 0 // both families
		}
		if err := s.SetSockOptInt(optionIPv6Only, only); err != nil {
			s.Close()
			return nil, err
		}
	}
	l := &Listener{socket: s}
	s.SetListenCallback(func(s *srtgo.SrtSocket, _ int, addr *net.UDPAddr, streamID string) bool {
		if ask := l.ask.Load(); ask != nil {
			return (*ask)(s, addr, streamID)
		}
		_ = s.SetRejectReason(CodeUnavailable)
		return false
	})
	if err := s.Listen(backlog); err != nil {
		return nil, errors.New(strings.ToLower(err.Error())) // srtgo closed the socket
	}
	port := boundPort(int(s.GetSocket()))
	if port < 0 {
		s.Close()
		return nil, errors.New("libsrt does not tell the port")
	}
	l.addr = &net.UDPAddr{IP: addr.IP, Port: port}
	return l, nil
}

// Addr is the bound address.
func (l *Listener) Addr() net.Addr { return l.addr }

// Close unbinds the port once the last connection is gone; new callers are
// turned away at once. It may be called again.
func (l *Listener) Close() { l.once.Do(l.socket.Close) }

// release gives libsrt back when the last connection is gone. With the last
// listener of the process libsrt ends its threads: they must not run any more
// when the process ends and what they use is taken down.
func (l *Listener) release() { l.free.Do(srtgo.CleanupSRT) }

// accept waits for the next connection. ok is false when the listener is no
// longer one; an error with ok is about one caller.
func (l *Listener) accept(handle srtgo.SrtSocket) (s *socket, err error, ok bool) { //nolint:revive // ok says what the error is about
	accepted, addr, err := handle.Accept()
	if err != nil {
		state, stateErr := handle.GetSockOptInt(srtgo.SRTO_STATE)
		return nil, err, stateErr == nil && state == stateListening
	}
	return newSocket(accepted, remoteOf(addr)), nil, true
}

// remoteOf is a peer's address. A listener for both families gives IPv4
// addresses in IPv6 form.
func remoteOf(a *net.UDPAddr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

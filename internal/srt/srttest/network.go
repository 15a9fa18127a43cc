package srttest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/run"
)

// Conditions are those of a Network.
type Conditions struct {
	// Loss is how many datagrams of each direction are lost, from 0 to 1.
	Loss float64
	// Jitter delays each by up to so much, so that they overtake each other.
	Jitter time.Duration
	// Twice is how many datagrams come twice, from 0 to 1.
	Twice float64
	// Seed makes the same losses again.
	Seed uint64
}

// Network is a way to a server that loses datagrams, delays them and lets them
// overtake each other. Callers call its address instead of the server's.
type Network struct {
	to   net.Addr
	in   *net.UDPConn
	c    Conditions
	dark atomic.Bool
	ways *run.Group

	carried, lost atomic.Uint64

	mu      sync.Mutex // guards the fields below
	rand    *rand.Rand
	callers map[netip.AddrPort]*net.UDPConn
	closed  bool
	timers  sync.WaitGroup
}

// OpenNetwork makes a way to a server. It ends with Close.
func OpenNetwork(to net.Addr, c Conditions) (*Network, error) {
	in, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	_ = in.SetReadBuffer(4 << 20)
	n := &Network{
		to: to, in: in, c: c, rand: rand.New(rand.NewPCG(c.Seed, c.Seed)), //nolint:gosec // the same each time, on purpose
		callers: make(map[netip.AddrPort]*net.UDPConn), ways: run.New(context.Background()),
	}
	return n, n.ways.Go("network callers", func(context.Context) error {
		n.receive()
		return nil
	})
}

// Addr is what callers call.
func (n *Network) Addr() net.Addr { return n.in.LocalAddr() }

// Darken lets nothing through any more, or everything but what Conditions take.
func (n *Network) Darken(dark bool) { n.dark.Store(dark) }

// Counts are the datagrams that came through and those that did not.
func (n *Network) Counts() (carried, lost uint64) { return n.carried.Load(), n.lost.Load() }

// Close ends the way and waits until nothing of it is left.
func (n *Network) Close() error {
	n.mu.Lock()
	n.closed = true
	err := n.in.Close()
	for _, c := range n.callers {
		err = errors.Join(err, c.Close())
	}
	n.mu.Unlock()
	n.timers.Wait()
	return errors.Join(err, n.ways.Wait())
}

// receive carries what callers send.
func (n *Network) receive() {
	buf := make([]byte, 2048)
	for {
		size, from, err := n.in.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		out := n.wayOf(from)
		if out == nil {
			return
		}
		n.carry(buf[:size], func(b []byte) { _, _ = out.Write(b) })
	}
}

// wayOf is the socket that stands for a caller at the server; nil: closed.
func (n *Network) wayOf(from netip.AddrPort) *net.UDPConn {
	n.mu.Lock()
	defer n.mu.Unlock()
	if out := n.callers[from]; out != nil || n.closed {
		return out
	}
	to, ok := n.to.(*net.UDPAddr)
	if !ok {
		return nil
	}
	out, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: to.Port})
	if err != nil {
		return nil
	}
	n.callers[from] = out
	back := func(context.Context) error {
		buf := make([]byte, 2048)
		for {
			size, err := out.Read(buf)
			switch {
			case errors.Is(err, net.ErrClosed):
				return nil
			case err == nil: // else the server is not there now
				n.carry(buf[:size], func(b []byte) { _, _ = n.in.WriteToUDPAddrPort(b, from) })
			}
		}
	}
	if err := n.ways.Go("network "+from.String(), back); err != nil {
		return nil
	}
	return out
}

// carry delivers a datagram, or not.
func (n *Network) carry(b []byte, deliver func([]byte)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	times := 1
	if n.dark.Load() || n.rand.Float64() < n.c.Loss {
		times = 0
	} else if n.rand.Float64() < n.c.Twice {
		times = 2
	}
	if times == 0 {
		n.lost.Add(1)
		return
	}
	n.carried.Add(1)
	own := append([]byte(nil), b...)
	for range times {
		delay := time.Duration(n.rand.Float64() * float64(n.c.Jitter))
		n.timers.Add(1)
		time.AfterFunc(delay, func() {
			defer n.timers.Done()
			deliver(own)
		})
	}
}

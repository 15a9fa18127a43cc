package srt

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/run"
)

// The limits of a latency: what the protocol's 16 bits of milliseconds carry,
// and what is of use.
const (
	MinLatency     = 20 * time.Millisecond
	MaxLatency     = 60 * time.Second
	DefaultLatency = 120 * time.Millisecond
)

const (
	// backlog is how many callers may wait for Accept.
	backlog = 1024
	// maxCalls bounds callers who wait for an answer, have a connection, or were
	// turned away in the last seconds.
	maxCalls = 16384
	// socketBuffer is what the system is asked to hold for this side, in bytes.
	socketBuffer = 8 << 20
)

// Options are those of a Listener.
type Options struct {
	// Latency is how long a missing packet is waited for at least; a caller may
	// ask for more. 0 is DefaultLatency.
	Latency time.Duration
}

// Stats is what a listener counts. A collector of metrics reads it.
type Stats struct {
	Datagrams  atomic.Uint64 // received
	Malformed  atomic.Uint64 // of those: not SRT
	Strangers  atomic.Uint64 // of those: for no connection, or not from its peer
	BadCookies atomic.Uint64 // of those: handshakes whose sender may be forged
	Inductions atomic.Uint64 // first messages of callers
	Rejected   atomic.Uint64 // callers the listener itself turned away
	Unsent     atomic.Uint64 // datagrams that the system did not take
	Unread     atomic.Uint64 // times that the system could not give datagrams
}

// Listener is a bound UDP port. Serve answers callers; until then, and when
// Serve has ended, nobody hears of it. Accept hands callers out.
type Listener struct {
	o      Options
	socket *socket
	start  time.Time
	secret [16]byte // of cookies
	stats  Stats

	queue    chan *Call
	over     chan struct{} // closed by Close
	busy     chan struct{} // wakes tick when somebody came
	refusing atomic.Int64  // a code; 0: callers are let in

	mu     sync.RWMutex // guards the fields below
	conns  map[uint32]*Conn
	calls  map[callKey]*Call
	closed bool
	idle   bool // tick sleeps
	sweep  int  // counts looks for answers to forget
}

// Listen binds a UDP port: "host:port", where an empty host is every address of
// both families and port 0 one that is free.
func Listen(ctx context.Context, address string, o Options) (*Listener, error) {
	if o.Latency <= 0 {
		o.Latency = DefaultLatency
	}
	o.Latency = min(max(o.Latency, MinLatency), MaxLatency)
	var config net.ListenConfig
	conn, err := config.ListenPacket(ctx, "udp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for srt on %s: %w", address, err)
	}
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("listen for srt on %s: not a UDP socket", address), conn.Close())
	}
	_ = udp.SetReadBuffer(socketBuffer) // the system may give less
	_ = udp.SetWriteBuffer(socketBuffer)
	s, err := newSocket(udp)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for srt on %s: %w", address, err), conn.Close())
	}
	l := &Listener{
		o: o, socket: s, start: time.Now(), queue: make(chan *Call, backlog), over: make(chan struct{}), busy: make(chan struct{}, 1),
		conns: make(map[uint32]*Conn), calls: make(map[callKey]*Call),
	}
	_, _ = rand.Read(l.secret[:]) // never fails
	return l, nil
}

// Addr is the bound address.
func (l *Listener) Addr() net.Addr { return l.socket.udp.LocalAddr() }

// Stats are the listener's counts, which go on changing.
func (l *Listener) Stats() *Stats { return &l.stats }

// Latency is what connections have that ask for less.
func (l *Listener) Latency() time.Duration { return l.o.Latency }

// Serve answers until ctx ends or the socket breaks, and closes the listener
// then. Connections that are open are told goodbye.
func (l *Listener) Serve(ctx context.Context) error {
	g := run.New(ctx)
	stop := context.AfterFunc(g.Context(), l.Close)
	defer stop()
	err := errors.Join(
		g.Go("srt receive", func(context.Context) error {
			l.receive()
			return nil
		}),
		g.Go("srt tick", l.tick),
	)
	if ctx.Err() != nil {
		err = nil // over before it began
	}
	select {
	case <-g.Context().Done():
	case <-l.over:
	}
	l.Close()
	return errors.Join(err, g.Stop(ErrListenerClosed))
}

// Refuse turns all further callers away with a code.
func (l *Listener) Refuse(code int) { l.refusing.Store(int64(code)) }

// Accept waits for the next caller. The error is that of ctx, or
// ErrListenerClosed.
func (l *Listener) Accept(ctx context.Context) (*Call, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.over:
		return nil, ErrListenerClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TryAccept is Accept without waiting; false: there is no caller.
func (l *Listener) TryAccept() (*Call, bool) {
	select {
	case c := <-l.queue:
		return c, true
	default:
		return nil, false
	}
}

// Close frees the port. Connections end with ErrListenerClosed. It may be
// called again.
func (l *Listener) Close() {
	l.mu.Lock()
	again := l.closed
	l.closed = true
	all := make([]*Conn, 0, len(l.conns))
	for _, c := range l.conns {
		all = append(all, c)
	}
	l.mu.Unlock()
	if again {
		return
	}
	close(l.over)
	for _, c := range all {
		c.mu.Lock()
		over := c.err != nil
		c.end(ErrListenerClosed)
		c.mu.Unlock()
		if !over {
			l.send(c.goodbye(nil, l.now()), c.remote)
		}
	}
	_ = l.socket.udp.Close()
}

// now is the listener's clock in nanoseconds; it never stands at 0.
func (l *Listener) now() int64 { return int64(time.Since(l.start)) + 1 }

// microseconds is the clock as packets carry it: it wraps every 71 minutes.
func microseconds(now int64) uint32 { return uint32(now / int64(time.Microsecond)) } //nolint:gosec // wraps on purpose

// cookie proves that a caller gets what is sent to his address. It changes
// every minute; age 1 is the one before.
func (l *Listener) cookie(from netip.AddrPort, age int64) uint32 {
	var b [16 + 16 + 2 + 8]byte
	addr := from.Addr().As16()
	copy(b[:], l.secret[:])
	copy(b[16:], addr[:])
	binary.BigEndian.PutUint16(b[32:], from.Port())
	binary.BigEndian.PutUint64(b[34:], uint64(l.now()/int64(time.Minute)-age)) //nolint:gosec // only has to differ
	sum := sha256.Sum256(b[:])
	return binary.BigEndian.Uint32(sum[:]) | 1 // 0 means none
}

// send sends one datagram.
func (l *Listener) send(b []byte, to netip.AddrPort) {
	if _, err := l.socket.udp.WriteToUDPAddrPort(b, to); err != nil {
		l.stats.Unsent.Add(1)
	}
}

// flush sends what an outbox holds and empties it.
func (l *Listener) flush(out *outbox) {
	if out.n == 0 {
		return
	}
	l.stats.Unsent.Add(uint64(l.socket.write(out))) //nolint:gosec // a length
	out.n = 0
}

// list appends all connections to all.
func (l *Listener) list(all []*Conn) []*Conn {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, c := range l.conns {
		all = append(all, c)
	}
	return all
}

// forgetEvery is how often answers that nobody asks for are looked for.
const forgetEvery = 50

// forget lets go of connections that are over (nil ones are not), and of
// answers. With none it reports whether there is nothing left to look after.
func (l *Listener) forget(over []*Conn) (idle bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	gone := false
	for _, c := range over {
		if c != nil {
			delete(l.conns, c.id)
			c.gone.Store(true)
			gone = true
		}
	}
	now := l.now()
	if l.sweep++; gone || l.sweep%forgetEvery == 0 || len(l.conns) == 0 {
		for k, c := range l.calls {
			if c.over(now) {
				delete(l.calls, k)
			}
		}
	}
	l.idle = len(l.conns) == 0 && len(l.calls) == 0
	return l.idle
}

// stir wakes tick.
func (l *Listener) stir() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stirLocked()
}

func (l *Listener) stirLocked() {
	if l.idle {
		l.idle = false
		select {
		case l.busy <- struct{}{}:
		default:
		}
	}
}

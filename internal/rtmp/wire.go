// Package rtmp is the RTMP wire (Adobe, "Real-Time Messaging Protocol (RTMP)
// specification" 1.0): sessions of a server that takes publications and of a
// client that makes them. Its layers stand in folders that can be read and
// tested alone: handshake, chunk, amf, message, flv.
//
// ServerConn and ClientConn are the types to read first. Neither starts a
// goroutine nor logs; every read and write has a bound in time, in bytes or in
// the caller's hand.
package rtmp

import (
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/rtmp/chunk"
	"github.com/klive-media/klive/internal/rtmp/handshake"
	"github.com/klive-media/klive/internal/rtmp/message"
)

// Sizes and windows of a connection, in bytes.
const (
	// WindowSize is the acknowledgement window we announce, and the peer's as
	// long as it says none (section 5.4.4).
	WindowSize = 2_500_000
	// minWindow keeps a peer that announces a tiny window from getting an
	// acknowledgement for each message.
	minWindow = 16 << 10
	// OutChunkSize is the chunk size of what we send.
	OutChunkSize = 4096
	// BeforePublish is how many bytes a peer may send before publish is granted.
	BeforePublish = 32 << 10

	serverBuffer = 4 << 10
	clientBuffer = 16 << 10
)

// The default bounds in time.
const (
	DefaultHandshakeTimeout = 10 * time.Second
	DefaultSetupTimeout     = 10 * time.Second
	DefaultWriteTimeout     = 10 * time.Second
)

// deadlineGrain is how old a write deadline may get before it is set anew:
// setting one for each write would cost more than the write.
const deadlineGrain = time.Second

// Options are the bounds of a connection. Zero values are the defaults.
type Options struct {
	HandshakeTimeout time.Duration // until the handshake is done
	SetupTimeout     time.Duration // then until publish is asked for (server) or answered (client)
	WriteTimeout     time.Duration // for each write
	// Offer is what the server's end answers to a peer that speaks of Enhanced
	// RTMP in connect. Others get the plain answer.
	Offer Enhanced
	// Allocator gives the memory of media and data messages; nil: one
	// allocation each.
	Allocator chunk.Allocator
}

func (o Options) withDefaults() Options {
	if o.HandshakeTimeout <= 0 {
		o.HandshakeTimeout = DefaultHandshakeTimeout
	}
	if o.SetupTimeout <= 0 {
		o.SetupTimeout = DefaultSetupTimeout
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = DefaultWriteTimeout
	}
	if o.Allocator == nil {
		o.Allocator = heap{}
	}
	return o
}

// heap is the Allocator that allocates.
type heap struct{}

func (heap) Alloc(n int) []byte { return make([]byte, n) }

// wire is what both ends of a connection share: messages both ways, protocol
// control, acknowledgements, deadlines. One goroutine uses it, except for
// Interrupt.
type wire struct {
	nc  net.Conn
	o   Options
	r   *chunk.Reader
	w   *chunk.Writer
	src *source

	aggregate message.Aggregate
	window    uint64 // the peer's, in bytes
	acked     uint64 // of r.Received()

	interrupted atomic.Bool
}

func newWire(nc net.Conn, o Options, bufferSize int) *wire {
	o = o.withDefaults()
	c := &wire{nc: nc, o: o, window: WindowSize}
	c.w = chunk.NewWriter(&sink{nc: nc, timeout: o.WriteTimeout}, bufferSize)
	c.src = &source{nc: nc, w: c.w}
	c.r = chunk.NewReader(c.src, o.Allocator)
	return c
}

// source reads the connection. Before it waits for the peer it sends what is
// held back: so replies to pipelined commands share a write and none is ever
// left behind.
type source struct {
	nc net.Conn
	w  *chunk.Writer // nil: somebody else writes
}

func (s *source) Read(p []byte) (int, error) {
	if s.w != nil && s.w.Buffered() > 0 {
		if err := s.w.Flush(); err != nil {
			return 0, err
		}
	}
	return s.nc.Read(p)
}

// sink writes the connection under a deadline.
type sink struct {
	nc      net.Conn
	timeout time.Duration
	set     time.Time // when the deadline was set last
}

func (s *sink) Write(p []byte) (int, error) {
	if now := time.Now(); now.Sub(s.set) >= deadlineGrain {
		// The grain is added so that each write has the whole timeout.
		if err := s.nc.SetWriteDeadline(now.Add(s.timeout + deadlineGrain)); err != nil {
			return 0, err
		}
		s.set = now
	}
	return s.nc.Write(p)
}

// readBefore bounds the time of all reads from now on; 0 lifts the bound. A
// connection that was interrupted stays so.
func (c *wire) readBefore(d time.Duration) error {
	at := time.Time{}
	if d > 0 {
		at = time.Now().Add(d)
	}
	err := c.nc.SetReadDeadline(at)
	if c.interrupted.Load() {
		return os.ErrDeadlineExceeded
	}
	return err
}

// Interrupt makes the reader of the connection return with
// os.ErrDeadlineExceeded, now and from then on, so that it can say goodbye. It
// may be called from any goroutine, more than once.
func (c *wire) Interrupt() {
	c.interrupted.Store(true)
	_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed connection, whose reader is woken already
}

// Received is how many bytes came from the peer. Only the reading goroutine
// may call it.
func (c *wire) Received() uint64 { return c.r.Received() }

// next puts the next audio, video, data or command message into m, or the next
// message inside an aggregate. Control messages are obeyed, unknown ones
// skipped.
func (c *wire) next(m *message.Message) error {
	for {
		if more, err := c.aggregate.Next(m); err != nil {
			return err
		} else if more {
			if class := m.Type.Class(); class == message.ClassMedia || class == message.ClassData {
				return nil
			}
			continue
		}
		if err := c.r.ReadMessage(m); err != nil {
			return err
		}
		if c.r.Received()-c.acked >= c.window/2 {
			if err := c.acknowledge(); err != nil {
				return err
			}
		}
		switch m.Type.Class() {
		case message.ClassMedia:
			if m.Type != message.TypeAggregate {
				return nil
			}
			c.aggregate = message.NewAggregate(m)
		case message.ClassData, message.ClassCommand:
			return nil
		case message.ClassControl:
			if err := c.control(m); err != nil {
				return err
			}
		case message.ClassUnknown:
		}
	}
}

// acknowledge tells the peer how much was received (section 5.4.3): at half
// its window, so that it never has to stop and wait.
func (c *wire) acknowledge() error {
	if c.src.w == nil {
		return nil // the writing goroutine does, see ClientConn
	}
	c.acked = c.r.Received()
	m := message.NewUint32(message.TypeAcknowledgement, uint32(c.acked)) //nolint:gosec // wraps, as section 5.4.3 has it
	return c.w.WriteMessage(chunk.StreamControl, &m)
}

// control obeys a protocol control message.
func (c *wire) control(m *message.Message) error {
	switch m.Type {
	case message.TypeWindowAckSize:
		v, err := message.Uint32(m)
		if err != nil {
			return err
		}
		c.window = max(uint64(v), minWindow)
	case message.TypeUserControl:
		event, data, err := message.UserControl(m)
		if err != nil || event != message.EventPingRequest || len(data) < 4 || c.src.w == nil {
			return err
		}
		pong := message.Message{Type: message.TypeUserControl, Payload: append([]byte{0, byte(message.EventPingResponse)}, data[:4]...)}
		return c.w.WriteMessage(chunk.StreamControl, &pong)
	}
	// Acknowledgements and Set Peer Bandwidth concern what we send, which TCP
	// paces well enough.
	return nil
}

// command queues a command on chunk stream 3.
func (c *wire) command(streamID uint32, cmd message.Command) error {
	m, err := message.NewCommand(streamID, cmd)
	if err != nil {
		return err
	}
	return c.w.WriteMessage(chunk.StreamCommand, &m)
}

// send queues a control message on chunk stream 2.
func (c *wire) send(m message.Message) error { return c.w.WriteMessage(chunk.StreamControl, &m) }

// Close ends the connection at once; what is held back is lost.
func (c *wire) Close() error { return c.nc.Close() }

// skipC2 reads the end of the handshake.
func (c *wire) skipC2() error { return handshake.SkipC2(c.r) }

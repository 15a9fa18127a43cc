package encoder

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/klive-media/klive/internal/rtmp"
	"github.com/klive-media/klive/internal/rtmp/chunk"
	"github.com/klive-media/klive/internal/rtmp/message"
)

// Address is where to publish.
type Address struct {
	Host string // host:port
	App  string // with the query: "kLive?t=TOKEN"
	Name string // "lobby_1"
}

// Catalog is the address of a stream of the server's own catalog.
func Catalog(host, id, token string) Address {
	return Address{Host: host, App: "kLive?t=" + token, Name: id + "_1"}
}

// Conn is one publication. One goroutine sends.
type Conn struct {
	nc    net.Conn
	rtmp  *rtmp.ClientConn // nil: raw
	raw   *chunk.Writer
	name  string
	Shift time.Duration // added to the time of every tag

	ended chan struct{}
	once  sync.Once
	err   error // how the server ended it; valid when ended is closed
}

// Dial connects, does the handshake and publishes. A refusal is an *rtmp.StatusError.
func Dial(ctx context.Context, a Address) (*Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", a.Host)
	if err != nil {
		return nil, err
	}
	return Wrap(ctx, nc, a)
}

// Wrap publishes over a connection that exists, which it owns from then on.
func Wrap(ctx context.Context, nc net.Conn, a Address) (*Conn, error) {
	c := &Conn{nc: nc, name: a.Name, ended: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	c.rtmp = rtmp.NewClientConn(nc, rtmp.Options{})
	err := c.rtmp.Connect(rtmp.Connect{App: a.App, TcURL: "rtmp://" + a.Host + "/" + a.App, FlashVer: "FMLE/3.0 (compatible; bench)"})
	if err == nil {
		err = c.rtmp.Publish(a.Name)
	}
	stop()
	if err != nil {
		nc.Close()
		return nil, err
	}
	go func() {
		c.err = c.rtmp.Serve()
		close(c.ended)
	}()
	return c, nil
}

// rawStream is the message stream that servers give first.
const rawStream = 1

// DialRaw connects to a program that only reads: the same bytes follow, without a handshake.
func DialRaw(ctx context.Context, host string) (*Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	c := &Conn{nc: nc, raw: chunk.NewWriter(nc, 16<<10), ended: make(chan struct{})}
	go func() {
		_, c.err = io.Copy(io.Discard, nc)
		close(c.ended)
	}()
	return c, c.raw.SetSize(rtmp.OutChunkSize)
}

// Queue puts a tag, its time shifted, behind what waits for Flush.
func (c *Conn) Queue(t Tag) error {
	m := message.Message{Type: t.Type, Timestamp: uint32((t.Time + c.Shift).Milliseconds()), Payload: t.Payload} //nolint:gosec // wraps as RTMP has it
	if c.rtmp != nil {
		return c.rtmp.Write(&m)
	}
	m.StreamID = rawStream
	id := chunk.StreamAudio
	if t.Type == message.TypeVideo {
		id = chunk.StreamVideo
	}
	return c.raw.WriteMessage(id, &m)
}

// Flush sends what was queued.
func (c *Conn) Flush() error {
	if c.rtmp != nil {
		return c.rtmp.Flush()
	}
	return c.raw.Flush()
}

// Send queues and flushes.
func (c *Conn) Send(tags ...Tag) error {
	for _, t := range tags {
		if err := c.Queue(t); err != nil {
			return err
		}
	}
	return c.Flush()
}

// Play sends the clip in real time, again and again, until ctx ends, the server ends it, or `until` of the clip's time
// was sent (0: for ever). Each tag is sent at start plus its time, as an encoder does. sent, when not nil, is told the
// number of every picture just sent.
func (c *Conn) Play(ctx context.Context, clip *Clip, start time.Time, until time.Duration, sent func(frame int)) error {
	if err := c.Send(clip.Setup...); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	frame, base := 0, c.Shift
	for round := 0; ; round++ {
		offset := time.Duration(round) * clip.Length
		c.Shift = base + offset
		for _, t := range clip.Media {
			if until > 0 && offset+t.Time >= until {
				return nil
			}
			if wait := time.Until(start.Add(offset + t.Time)); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-ctx.Done():
					return nil
				case <-c.ended:
					return fmt.Errorf("the server ended the publication: %w", c.err)
				}
			}
			if err := c.Send(t); err != nil {
				return err
			}
			if t.Type == message.TypeVideo {
				if sent != nil {
					sent(frame)
				}
				frame++
			}
		}
	}
}

// Ended is closed when the server has ended the connection; Err then says how.
func (c *Conn) Ended() <-chan struct{} { return c.ended }

// Err is how the server ended the connection.
func (c *Conn) Err() error { return c.err }

// Close says goodbye and ends the connection.
func (c *Conn) Close() {
	c.once.Do(func() {
		if c.rtmp != nil {
			_ = c.rtmp.Unpublish(c.name) // the server may be gone
		}
		c.nc.Close()
		<-c.ended
	})
}

// Abort ends the connection without a goodbye.
func (c *Conn) Abort() {
	c.once.Do(func() {
		c.nc.Close()
		<-c.ended
	})
}

package srt

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/ingest/srt/ts"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/run"
	wire "github.com/klive-media/klive/internal/srt"
)

// badEvery is how often a connection logs what it dropped.
const badEvery = 10 * time.Second

// conn is one connection, from the caller who waits for an answer to its end.
// Its goroutine does all of its reading.
type conn struct {
	s     *Server
	call  *wire.Call
	entry sync.Once  // answers the caller
	sock  *wire.Conn // nil: not let in
	place *ingest.Place
	peers *run.Group
	log   *slog.Logger
	slab  media.Slab

	counters *ingest.Counters
	lastRead atomic.Int64 // Unix time in nanoseconds of the newest message, or of the beginning
	idle     atomic.Bool  // ended because nothing came

	lookMu  sync.Mutex // guards counted
	counted totals     // of counters.Link, as the door has counted them

	badSince  uint64 // dropped since the last line in the log
	badLogged time.Time
}

func newConn(s *Server, call *wire.Call, place *ingest.Place, peers *run.Group) *conn {
	c := &conn{s: s, call: call, place: place, peers: peers, counters: new(ingest.Counters), log: s.log.With("remote", call.Remote())}
	c.lastRead.Store(time.Now().UnixNano())
	return c
}

// run is the whole life of the connection.
func (c *conn) run(ctx context.Context) error {
	defer func() { // also behind a panic
		c.entry.Do(func() {}) // whoever answers him now comes too late
		if c.sock != nil {
			c.sock.Close()
		}
	}()
	cause := c.serve(ctx)
	level := slog.LevelInfo
	if _, refused := errors.AsType[refusedError](cause); refused { // it is an event
		level = slog.LevelDebug
	}
	link := &c.counters.Link
	c.log.Log(ctx, level, "closed: "+describe(cause), "bytes_in", c.counters.BytesIn.Load(),
		"lost", link.Lost.Load(), "dropped", link.Dropped.Load(), "discontinuities", link.Discontinuities.Load())
	return nil
}

// refusedError marks an end before the publication began.
type refusedError struct{ reason *fault.Error }

func (r refusedError) Error() string { return r.reason.Error() }
func (r refusedError) Unwrap() error { return r.reason }

// serve opens, feeds and closes the publication. The error is why the
// connection ends.
func (c *conn) serve(ctx context.Context) error {
	pub, r, err := c.enter(ctx)
	if err != nil {
		return err
	}
	c.s.join(c)
	defer c.s.part(c)
	c.s.stats.Publications.Add(1)
	defer c.s.stats.Publications.Add(-1)
	cause := error(fault.New(fault.InternalError, "the connection of the encoder met an error of the server"))
	defer func() { pub.Close(fault.From(cause)) }() // also behind a panic
	// The end of the server wakes the reader. SRT's goodbye has no words.
	stop := context.AfterFunc(ctx, c.sock.Close)
	defer stop()

	c.place.Published()
	c.s.stats.link(c, LinkInfo{Stream: r.Stream, Index: r.Index, ServerIndex: r.ServerIndex, Remote: r.Remote, Link: &c.counters.Link})
	defer c.s.stats.unlink(c)
	defer c.sample()
	c.log = c.log.With("stream", r.Name(), "server_index", r.ServerIndex)
	c.log.Info("publishing", "encoder", r.Encoder, "encrypted", c.sock.Encrypted())
	cause = c.feed(ctx, pub, r)
	return cause
}

// open asks the gate, in turn with other connections.
func (c *conn) open(ctx context.Context, r ingest.Request) (ingest.Publication, error) {
	ctx, cancel := context.WithTimeout(ctx, c.s.o.OpenTimeout)
	defer cancel()
	select {
	case c.s.opening <- struct{}{}:
		defer func() { <-c.s.opening }()
	case <-ctx.Done():
		return nil, fault.New(fault.LimitExceeded, "too many encoders come at once; try again in a moment").Because(ctx.Err())
	}
	return c.s.o.Gate.Open(ctx, r)
}

// feed maps messages to packets until the publication ends. The error is why.
func (c *conn) feed(ctx context.Context, pub ingest.Publication, r ingest.Request) (cause error) {
	cause = fault.New(fault.InternalError, "the connection of the encoder met an error of the server")
	opening, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	more := c.furtherTracks(opening, r, ended)
	defer func() { // also behind a panic
		cancel()
		more.finish(fault.From(cause))
		close(ended)
	}()
	// A dismissal must reach a peer that sends nothing.
	err := c.peers.Detach("srt dismissal "+c.sock.Remote().String(), func(context.Context) error {
		select {
		case <-pub.Done():
			c.sock.Close()
		case <-ended:
		}
		return nil
	}, nil)
	if err != nil {
		return c.why(ctx, pub, err)
	}
	now := time.Now()
	c.lastRead.Store(now.UnixNano())
	f := newFeeder(pub, more, now)
	d := ts.New(ts.Options{Sink: f, Slab: &c.slab, Start: now, Bad: c.bad})
	buf := make([]byte, wire.MaxMessage)
	for {
		n, err := c.sock.Read(buf)
		if err != nil {
			if e := f.end(d); e != nil {
				return e
			}
			return c.why(ctx, pub, err)
		}
		now = time.Now()
		c.lastRead.Store(now.UnixNano())
		c.count(n)
		if m := c.sock.Missing(); m > 0 {
			d.Missing(m * wire.MaxMessage / ts.PacketSize)
		}
		if err := f.write(d, buf[:n], now); err != nil {
			return c.why(ctx, pub, err)
		}
		c.counters.Link.Discontinuities.Store(d.Stats().ContinuityErrors)
	}
}

// furtherTracks is how the tracks behind the first picture and sound get their
// places: beside the reading, as the gate may wait for a backend.
func (c *conn) furtherTracks(ctx context.Context, r ingest.Request, ended <-chan struct{}) *further {
	return &further{
		index: r.Index,
		open: func(index int) <-chan opening {
			own := r
			own.Index, own.Counters = index, new(ingest.Counters)
			answer := make(chan opening)
			ask := func(context.Context) error {
				pub, err := c.open(ctx, own)
				select {
				case answer <- opening{pub, err}:
				case <-ended:
					if pub != nil {
						pub.Close(fault.New(fault.Unpublished, "the encoder ended the publication"))
					}
				}
				return nil
			}
			if err := c.peers.Detach("srt track "+own.Name()+" "+c.sock.Remote().String(), ask, nil); err != nil {
				return nil // shutting down; the connection is, too
			}
			return answer
		},
		taken: func(n int64) { c.s.stats.FurtherTracks.Add(n) },
		refused: func(t *media.Track, err error) {
			c.s.stats.RefusedTracks.Add(1)
			c.log.Warn("a further track is not carried", "track", t.String(), "reason", describe(err))
		},
	}
}

// count keeps the statistics after each message.
func (c *conn) count(n int) {
	c.counters.BytesIn.Add(uint64(n)) //nolint:gosec // a length
	c.counters.Messages.Add(1)
	c.s.stats.BytesIn.Add(uint64(n)) //nolint:gosec // a length
	c.s.stats.Messages.Add(1)
}

// bad counts what was dropped and samples the log.
func (c *conn) bad(err error) {
	c.s.stats.BadMessages.Add(1)
	c.counters.BadMessages.Add(1)
	c.badSince++
	if now := time.Now(); now.Sub(c.badLogged) >= badEvery {
		c.log.Warn("the transport stream is damaged", "count", c.badSince, "last", err)
		c.badSince, c.badLogged = 0, now
	}
}

// look takes the statistics and ends a connection that is silent.
func (c *conn) look(now time.Time, limit time.Duration) {
	c.sample()
	if limit > 0 && now.UnixNano()-c.lastRead.Load() >= int64(limit) {
		c.idle.Store(true)
		c.sock.Close()
	}
}

// sample takes the statistics of the connection, and counts them for the door.
func (c *conn) sample() {
	c.lookMu.Lock()
	defer c.lookMu.Unlock()
	st, l := c.sock.Stats(), &c.counters.Link
	l.RTT.Store(int64(st.RTT))
	l.Latency.Store(int64(st.Latency))
	l.Buffered.Store(int64(st.Buffered))
	l.Rate.Store(st.Rate)
	l.Bandwidth.Store(st.Bandwidth)
	l.Packets.Store(st.Packets)
	l.Lost.Store(st.Lost)
	l.Retransmitted.Store(st.Retransmitted)
	l.Dropped.Store(st.Dropped)
	l.Undecrypted.Store(st.Undecrypted)
	now := totalsOf(&c.counters.Link)
	c.s.stats.add(c.counted, now)
	c.counted = now
}

// why finds the reason behind an error of the connection: the server's end, a
// dismissal and idleness close the socket, so they come first.
func (c *conn) why(ctx context.Context, pub ingest.Publication, err error) error {
	if cause := pub.Cause(); cause != nil {
		return cause
	}
	switch {
	case ctx.Err() != nil:
		return errDraining()
	case c.idle.Load():
		return fault.New(fault.Idle, "nothing came for %s", c.s.o.IdleTimeout)
	case fault.ReasonOf(err) != "":
		return err
	case errors.Is(err, io.EOF):
		return fault.New(fault.Unpublished, "the encoder ended the publication")
	}
	return fault.New(fault.ConnectionLost, "the connection to the encoder broke").Because(err)
}

// describe is the cause in one line of the log.
func describe(cause error) string {
	e := fault.From(cause)
	if under := e.Unwrap(); under != nil {
		return string(e.Reason) + ": " + e.Message + ": " + under.Error()
	}
	return string(e.Reason) + ": " + e.Message
}

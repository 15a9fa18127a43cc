//go:build srt

package srt

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/ingest/srt/ts"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/run"
)

const (
	// badEvery is how often a connection logs what it dropped.
	badEvery = 10 * time.Second
	// maxMessage is more than a message of live mode can have: 1456 bytes.
	maxMessage = 2 << 10
	// goodbyeWithin tells a goodbye from a loss, which libsrt reports alike: a
	// peer is taken as lost only after peerTimeout without a word.
	goodbyeWithin = peerTimeout / 2
	// settle is how old a connection must be before it is closed from this side:
	// a caller to whom the goodbye comes before the handshake is through hears
	// it not, and hangs until it takes us as lost.
	settle = 250 * time.Millisecond
)

// conn is one connection. Its goroutine does all of its reading.
type conn struct {
	s     *Server
	sock  *socket
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

func newConn(s *Server, sock *socket, place *ingest.Place, peers *run.Group) *conn {
	c := &conn{s: s, sock: sock, place: place, peers: peers, counters: new(ingest.Counters), log: s.log.With("remote", sock.remote)}
	c.lastRead.Store(time.Now().UnixNano())
	return c
}

// run is the whole life of the connection.
func (c *conn) run(ctx context.Context) error {
	defer c.sock.Close() // also behind a panic; a second time otherwise
	// The end of the server wakes the reader. SRT's goodbye has no words.
	stop := context.AfterFunc(ctx, c.sock.Close)
	defer stop()

	began := time.Now()
	cause := c.serve(ctx)
	pause(ctx, settle-time.Since(began))
	c.sample() // before the socket is gone
	c.sock.Close()
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
	id, err := c.sock.streamID()
	if err != nil {
		return fault.New(fault.ConnectionLost, "the connection to the encoder broke at once").Because(err)
	}
	a, err := c.s.o.Grammar.SRT(id)
	if err != nil {
		return c.refuse(id, err) // the handshake asked the same
	}
	r := a.Request
	r.Remote, r.Encoder, r.Counters = c.sock.remote, c.sock.peer(), c.counters
	c.counters.Link.Encrypted.Store(c.sock.secured())
	if err := c.unsafely(a); err != nil {
		return c.refuse(id, err)
	}
	pub, err := c.open(ctx, r)
	if err != nil {
		return c.refuse(id, err)
	}
	c.s.stats.Publications.Add(1)
	defer c.s.stats.Publications.Add(-1)
	cause := error(fault.New(fault.InternalError, "the connection of the encoder met an error of the server"))
	defer func() { pub.Close(fault.From(cause)) }() // also behind a panic

	c.place.Published()
	c.s.stats.link(c, LinkInfo{Stream: r.Stream, Index: r.Index, ServerIndex: r.ServerIndex, Remote: r.Remote, Link: &c.counters.Link})
	defer c.s.stats.unlink(c)
	c.log = c.log.With("stream", r.Name(), "server_index", r.ServerIndex)
	c.log.Info("publishing", "encoder", r.Encoder, "encrypted", c.counters.Link.Encrypted.Load())
	cause = c.feed(ctx, pub, r)
	return cause
}

// unsafely refuses a connection that is not encrypted though it must be.
// libsrt has seen to it in the handshake; a passphrase may have come since.
func (c *conn) unsafely(a ingest.SRTAddress) error {
	want, err := c.s.passphrase(a)
	if err != nil || want == "" || c.counters.Link.Encrypted.Load() {
		return err
	}
	return fault.New(fault.BadToken, "the stream has a passphrase and the encoder does not encrypt; set the passphrase in the encoder")
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

// refuse counts a refusal and keeps it for the caller's next try.
func (c *conn) refuse(streamID string, err error) error {
	e := fault.From(err)
	c.s.stats.refuse(e.Reason)
	c.s.refused.keep(c.sock.remote.Addr(), streamID, e, time.Now())
	return refusedError{e}
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
	err := c.peers.Detach("srt dismissal "+c.sock.remote.String(), func(context.Context) error {
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
	buf := make([]byte, maxMessage)
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
			if err := c.peers.Detach("srt track "+own.Name()+" "+c.sock.remote.String(), ask, nil); err != nil {
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
	c.sock.sample(&c.counters.Link)
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
	silent := time.Since(time.Unix(0, c.lastRead.Load()))
	switch {
	case ctx.Err() != nil:
		return errDraining()
	case c.idle.Load():
		return fault.New(fault.Idle, "nothing came for %s", c.s.o.IdleTimeout)
	case fault.ReasonOf(err) != "":
		return err
	case silent < goodbyeWithin:
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

package rtmp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/media"
	wire "github.com/klive-media/klive/internal/rtmp"
	"github.com/klive-media/klive/internal/rtmp/message"
	"github.com/klive-media/klive/internal/run"
)

// badEvery is how often a connection logs what it dropped.
const badEvery = 10 * time.Second

// conn is one connection. Its goroutine does all of its reading and writing.
type conn struct {
	s     *Server
	wire  *wire.ServerConn
	place *ingest.Place
	peers *run.Group
	log   *slog.Logger
	slab  media.Slab

	remote   netip.AddrPort
	counters *ingest.Counters
	address  wire.Connect
	spoke    bool // the peer has sent connect

	asked atomic.Bool // the peer is to be asked to reconnect
	moved bool        // it was

	badSince  uint64 // messages dropped since the last line in the log
	badLogged time.Time
}

func newConn(s *Server, nc net.Conn, remote netip.AddrPort, p *ingest.Place, peers *run.Group) *conn {
	c := &conn{s: s, place: p, peers: peers, remote: remote, counters: new(ingest.Counters), log: s.log.With("remote", remote)}
	o := s.wireOptions()
	o.Allocator = &c.slab
	c.wire = wire.NewServerConn(nc, o)
	return c
}

// run is the whole life of the connection.
func (c *conn) run(ctx context.Context) error {
	defer func() { _ = c.wire.Close() }() // also behind a panic; a second time otherwise
	// The end of the server wakes the reader, which then says goodbye.
	stop := context.AfterFunc(ctx, c.wire.Interrupt)
	defer stop()

	cause := c.serve(ctx)
	var said error
	if goodbye := c.goodbye(cause); goodbye != nil {
		if goodbye.Reason == fault.ServerDraining {
			said = c.requestReconnect()
		}
		said = errors.Join(said, c.wire.Dismiss(refusalCode(goodbye), goodbye.Message))
	}
	if errors.Is(cause, errSilent) {
		said = c.wire.Close()
	} else if said == nil {
		said = c.wire.CloseGently()
	}
	level := slog.LevelInfo
	_, told := errors.AsType[refused](cause)
	if !c.spoke || told { // port scanners and health checks of load balancers; a refusal is an event
		level = slog.LevelDebug
	}
	attrs := []any{"bytes_in", c.wire.Received()}
	if said != nil {
		attrs = append(attrs, "unsaid", true)
	}
	c.log.Log(ctx, level, "closed: "+describe(cause), attrs...)
	return nil
}

// errSilent marks the end of a peer that gets no answer: it is gone, or it
// never spoke RTMP.
var errSilent = errors.New("no answer is due")

// refused marks an end whose reason the peer has been told.
type refused struct{ reason *fault.Error }

func (r refused) Error() string { return r.reason.Error() }
func (r refused) Unwrap() error { return r.reason }

// serve leads the peer through the session, publication after publication.
// The error is why the connection ends.
func (c *conn) serve(ctx context.Context) error {
	if err := c.connect(ctx); err != nil {
		return err
	}
	for published := false; ; published = true {
		p, err := c.wire.ReadPublish()
		if published && err != nil && fault.ReasonOf(err) == "" && ctx.Err() == nil {
			return errors.Join(errSilent, publicCause(wire.ErrUnpublished)) // it hung up, or has no more to say
		}
		if err != nil {
			return c.why(ctx, nil, err)
		}
		if err := c.publication(ctx, p); !errors.Is(err, wire.ErrUnpublished) {
			return err
		}
		c.log.Info("unpublished")
	}
}

// connect does the handshake and answers connect.
func (c *conn) connect(ctx context.Context) (err error) {
	if err := c.wire.Handshake(); err != nil {
		return errors.Join(errSilent, c.why(ctx, nil, err))
	}
	if c.address, err = c.wire.ReadConnect(); err != nil {
		return errors.Join(errSilent, c.why(ctx, nil, err))
	}
	c.spoke = true
	c.log = c.log.With("encoder", clip(c.address.FlashVer))
	// The name is still to come. What can be refused without it is refused
	// here, as some encoders show the description of connect only.
	_, err = c.s.o.Grammar.RTMP(ingest.RTMPAddress{App: c.address.App, TCURL: c.address.TcURL})
	if e := fault.From(err); e != nil && (e.Reason == fault.UnknownApplication || e.Reason == fault.BadAddress) {
		c.s.stats.refuse(e.Reason)
		c.testify(e)
		if err := c.wire.RejectConnect(wire.ConnectRejected, e.Message); err != nil {
			return errors.Join(errSilent, refused{e}, err)
		}
		return refused{e}
	}
	return c.wire.AcceptConnect()
}

// publication opens, feeds and closes one publication.
func (c *conn) publication(ctx context.Context, p wire.Publish) error {
	r, err := c.s.o.Grammar.RTMP(ingest.RTMPAddress{App: c.address.App, TCURL: c.address.TcURL, Name: p.Name})
	if err != nil {
		c.testify(err)
		return c.refuse(err)
	}
	r.Protocol, r.Remote, r.Encoder, r.Counters = c.s.o.Protocol, c.remote, clip(c.address.FlashVer), c.counters
	pub, err := c.open(ctx, r)
	if err != nil {
		return c.refuse(err)
	}
	c.s.stats.Publications.Add(1)
	defer c.s.stats.Publications.Add(-1)
	cause := error(fault.New(fault.InternalError, "the connection of the encoder met an error of the server"))
	defer func() { pub.Close(publicCause(cause)) }() // also behind a panic

	c.place.Published()
	c.log.Info("publishing", "stream", r.Name(), "server_index", r.ServerIndex)
	if err := c.wire.AcceptPublish(); err != nil {
		cause = c.why(ctx, pub, err)
		return cause
	}
	cause = c.feed(ctx, pub, r)
	return cause
}

// open asks the gate. A gate that takes too long is an error of the server,
// told to the peer like any other refusal.
func (c *conn) open(ctx context.Context, r ingest.Request) (ingest.Publication, error) {
	ctx, cancel := context.WithTimeout(ctx, c.s.o.OpenTimeout)
	defer cancel()
	return c.s.o.Gate.Open(ctx, r)
}

// refuse tells the peer why it may not publish.
func (c *conn) refuse(err error) error {
	e := fault.From(err)
	c.s.stats.refuse(e.Reason)
	if err := c.wire.RejectPublish(refusalCode(e), e.Message); err != nil {
		return errors.Join(errSilent, refused{e}, err)
	}
	return refused{e}
}

// testify tells the witness of a refusal that the gate does not know of.
func (c *conn) testify(err error) {
	if w := c.s.o.Witness; w != nil {
		w.Refused(ingest.Request{
			Protocol: c.s.o.Protocol, Remote: c.remote, Encoder: clip(c.address.FlashVer), Counters: c.counters,
		}, err)
	}
}

// feed maps messages to packets until the publication ends. The error is why.
func (c *conn) feed(ctx context.Context, pub ingest.Publication, r ingest.Request) (cause error) {
	cause = fault.New(fault.InternalError, "the connection of the encoder met an error of the server")
	opening, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	d := newDemuxer(pub, &c.slab, time.Now(), c.badMessage)
	d.more = c.furtherTracks(opening, r, ended)
	defer func() { // also behind a panic
		cancel()
		d.more.finish(publicCause(cause))
		close(ended)
	}()
	if err := c.peers.Detach("rtmp dismissal "+c.remote.String(), c.interrupter(pub, ended), nil); err != nil {
		return c.why(ctx, pub, err)
	}
	var m message.Message
	for {
		if err := c.wire.ReadMedia(&m); err != nil {
			if e := d.finish(); e != nil {
				err = e
			}
			return c.why(ctx, pub, err)
		}
		c.count()
		if err := d.message(&m, time.Now()); err != nil {
			return c.why(ctx, pub, err)
		}
		if c.asked.Load() && !c.moved {
			if err := c.requestReconnect(); err != nil {
				return c.why(ctx, pub, err)
			}
		}
	}
}

// interrupter wakes the reader when the publication is dismissed, as the peer
// may send nothing, and lets it know when the server begins to drain.
func (c *conn) interrupter(pub ingest.Publication, ended <-chan struct{}) func(context.Context) error {
	return func(context.Context) error {
		draining := c.s.o.Draining
		for {
			select {
			case <-pub.Done():
				c.wire.Interrupt()
				return nil
			case <-draining:
				c.asked.Store(true)
				draining = nil
			case <-ended:
				return nil
			}
		}
	}
}

// requestReconnect asks the peer to go elsewhere, once, if it knows how.
func (c *conn) requestReconnect() error {
	if c.moved {
		return nil
	}
	c.moved = true
	told, err := c.wire.RequestReconnect("the server is about to stop; please connect again")
	if told {
		c.log.Info("asked the encoder to reconnect")
	}
	return err
}

// furtherTracks are the tracks that a multitrack encoder sends beside the
// publication r. Their places are asked for while the connection goes on.
func (c *conn) furtherTracks(ctx context.Context, r ingest.Request, ended <-chan struct{}) *tracks {
	refusals := 0
	return &tracks{
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
						pub.Close(publicCause(wire.ErrUnpublished))
					}
				}
				return nil
			}
			if err := c.peers.Detach("rtmp track "+own.Name()+" "+c.remote.String(), ask, nil); err != nil {
				return nil // shutting down; the connection is, too
			}
			return answer
		},
		taken: func(n int64) { c.s.stats.FurtherTracks.Add(n) },
		refused: func(k media.Kind, id uint8, err error) {
			c.s.stats.RefusedTracks.Add(1)
			if refusals++; refusals <= maxCompanions+1 {
				c.log.Warn("a further track is not carried", "kind", k, "track", id, "reason", describe(err))
			}
		},
	}
}

// count keeps the statistics after each message.
func (c *conn) count() {
	n := c.wire.Received()
	c.s.stats.BytesIn.Add(n - c.counters.BytesIn.Swap(n))
	c.s.stats.Messages.Add(1)
	c.counters.Messages.Add(1)
}

// badMessage counts a message that was dropped and samples the log.
func (c *conn) badMessage(err error) {
	c.s.stats.BadMessages.Add(1)
	c.counters.BadMessages.Add(1)
	c.badSince++
	if now := time.Now(); now.Sub(c.badLogged) >= badEvery {
		c.log.Warn("dropped bad messages", "count", c.badSince, "last", err)
		c.badSince, c.badLogged = 0, now
	}
}

// why finds the reason behind an error of the connection: the server's end and
// a dismissal interrupt the reader, so they come first.
func (c *conn) why(ctx context.Context, pub ingest.Publication, err error) error {
	if pub != nil {
		if cause := pub.Cause(); cause != nil {
			return cause
		}
	}
	switch {
	case ctx.Err() != nil:
		return fault.New(fault.ServerDraining, "the server is shutting down; try again in a moment")
	case errors.Is(err, wire.ErrUnpublished), fault.ReasonOf(err) != "":
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fault.New(fault.ProtocolError, "the encoder took too long to say what it wants to publish")
	case errors.Is(err, io.EOF):
		return errors.Join(errSilent, fault.New(fault.ConnectionLost, "the encoder hung up without a goodbye"))
	}
	return errors.Join(errSilent, fault.New(fault.ConnectionLost, "the connection to the encoder broke").Because(err))
}

// goodbye is what the peer is still to be told; nil: nothing.
func (c *conn) goodbye(cause error) *fault.Error {
	if _, told := errors.AsType[refused](cause); told || errors.Is(cause, errSilent) {
		return nil
	}
	return fault.From(cause)
}

// publicCause is the cause in the words of ingest.Publication.Close.
func publicCause(cause error) error {
	if errors.Is(cause, wire.ErrUnpublished) {
		return fault.New(fault.Unpublished, "the encoder ended the publication")
	}
	return fault.From(cause)
}

// describe is the cause in one line of the log.
func describe(cause error) string {
	e := fault.From(cause)
	if under := e.Unwrap(); under != nil {
		return string(e.Reason) + ": " + e.Message + ": " + under.Error()
	}
	return string(e.Reason) + ": " + e.Message
}

// clip bounds what a peer says of itself.
func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), ingest.MaxEncoderName)], "?")
}

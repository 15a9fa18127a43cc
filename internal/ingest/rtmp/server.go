// Package rtmp is the RTMP door: it listens, speaks with encoders through
// internal/rtmp, and turns what they send into packets.
//
// Server is the type to read first; conn.go is the life of one connection,
// demux.go the mapping from messages to packets.
package rtmp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec"
	wire "github.com/klive-media/klive/internal/rtmp"
	"github.com/klive-media/klive/internal/run"
)

// DefaultOpenTimeout is how long the gate may take.
const DefaultOpenTimeout = 15 * time.Second

// How long the door waits after an Accept that failed, which mostly means that
// the process is out of file descriptors.
const (
	minAcceptDelay = 5 * time.Millisecond
	maxAcceptDelay = time.Second
)

// Options is all that a door needs.
type Options struct {
	// Listener is where peers come in; Run closes it. A tls.Listener makes the
	// door RTMPS.
	Listener net.Listener
	// Protocol is what sessions say they came by: "rtmp", the default, or
	// "rtmps".
	Protocol string
	Gate     ingest.Gate
	Grammar  ingest.Grammar
	Log      *slog.Logger // nil: no log
	Stats    *Stats       // nil: a new one
	// Witness hears of publishers whose address could not be read; nil: nobody.
	Witness ingest.Witness
	// MaxConnections bounds open connections, MaxWaiting those of one address
	// that have not published yet. Above them connections are closed without a
	// word. 0: no limit.
	MaxConnections, MaxWaiting int
	// Draining is closed when the server begins to drain: encoders that know how
	// are asked to reconnect. nil: they are asked when Run ends.
	Draining <-chan struct{}
	// OpenTimeout bounds the gate; 0 is DefaultOpenTimeout.
	OpenTimeout time.Duration
	// HandshakeTimeout, SetupTimeout and WriteTimeout bound the connection until
	// publish and its writes; 0 are the wire's defaults.
	HandshakeTimeout, SetupTimeout, WriteTimeout time.Duration
}

// Server is the door. It implements ingest.Server.
type Server struct {
	o      Options
	log    *slog.Logger
	stats  *Stats
	places *ingest.Admission
	offer  wire.Enhanced
}

var _ ingest.Server = (*Server)(nil)

// New makes a door. It listens already, through o.Listener; it serves with Run.
func New(o Options) *Server {
	if o.OpenTimeout <= 0 {
		o.OpenTimeout = DefaultOpenTimeout
	}
	if o.Protocol == "" {
		o.Protocol = "rtmp"
	}
	if o.Stats == nil {
		o.Stats = new(Stats)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{o: o, log: o.Log, stats: o.Stats, offer: offer(),
		places: ingest.NewAdmission(o.MaxConnections, o.MaxWaiting)}
}

// Run serves until ctx ends, then says goodbye to every peer and returns when
// the last is gone. It returns an error only when the listener breaks.
func (s *Server) Run(ctx context.Context) error {
	peers := run.New(ctx)
	stop := context.AfterFunc(ctx, func() { _ = s.o.Listener.Close() }) // Accept returns the error
	err := s.accept(ctx, peers)
	stop()
	_ = s.o.Listener.Close() // a second time where ctx ended it
	return errors.Join(err, peers.Stop(fault.New(fault.ServerDraining, "the server is shutting down; try again in a moment")))
}

// accept is the loop of the listener.
func (s *Server) accept(ctx context.Context, peers *run.Group) error {
	delay := time.Duration(0)
	for {
		nc, err := s.o.Listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = nc.Close() // came too late
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept rtmp: %w", err)
		case err != nil:
			delay = min(max(2*delay, minAcceptDelay), maxAcceptDelay)
			s.log.Warn("an RTMP connection could not be accepted", "error", err, "retry_in", delay)
			pause(ctx, delay)
			continue
		}
		delay = 0
		s.admit(nc, peers)
	}
}

// admit starts the life of a connection.
func (s *Server) admit(nc net.Conn, peers *run.Group) {
	s.stats.Accepted.Add(1)
	remote := remoteOf(nc)
	place, ok := s.places.Enter(remote.Addr())
	if !ok {
		s.stats.refuse(fault.LimitExceeded)
		_ = nc.Close() // no words: they would cost what the limit saves
		return
	}
	s.stats.Connections.Add(1)
	leave := func() {
		place.Leave()
		s.stats.Connections.Add(-1)
	}
	c := newConn(s, nc, remote, place, peers)
	err := peers.Detach("rtmp "+remote.String(), c.run, func(err error) {
		leave()
		if p, ok := errors.AsType[*run.PanicError](err); ok {
			s.stats.Panics.Add(1)
			c.log.Error("an RTMP connection ended by an error of the server", "panic", p.Value, "stack", string(p.Stack))
		}
	})
	if err != nil {
		leave()
		_ = nc.Close() // shutting down
	}
}

// remoteOf is the peer's address; the zero value when it has none.
func remoteOf(nc net.Conn) netip.AddrPort {
	a, ok := nc.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	// A listener for both families gives IPv4 addresses in IPv6 form.
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// wireOptions are the bounds of a connection.
func (s *Server) wireOptions() wire.Options {
	return wire.Options{HandshakeTimeout: s.o.HandshakeTimeout, SetupTimeout: s.o.SetupTimeout, WriteTimeout: s.o.WriteTimeout,
		Offer: s.offer}
}

// offer is what the door says of Enhanced RTMP: the codecs that can be carried
// to players, and what it understands.
func offer() wire.Enhanced {
	e := wire.Enhanced{Caps: wire.CapReconnect | wire.CapMultitrack | wire.CapModEx | wire.CapNanoOffset}
	for c := media.H264; c.Kind() != media.UnknownKind; c++ {
		info := c.Info()
		if info.FourCC == "" || codec.FormatOf(c) == nil {
			continue
		}
		e.List = append(e.List, info.FourCC)
		own := wire.FourCCInfo{Name: info.FourCC, Mask: wire.CanForward}
		if info.Kind == media.Video {
			e.Video = append(e.Video, own)
		} else {
			e.Audio = append(e.Audio, own)
		}
	}
	return e
}

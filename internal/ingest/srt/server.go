// Package srt is the SRT door: it listens through internal/srt, asks who comes,
// and turns the transport streams of encoders into packets.
//
// Server is the type to read first; door.go is what a caller is answered in the
// handshake, conn.go the life of one connection, and the room ts the mapping
// from bytes to packets.
package srt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/run"
	wire "github.com/klive-media/klive/internal/srt"
)

const (
	// DefaultOpenTimeout is how long the gate may take.
	DefaultOpenTimeout = 15 * time.Second
	// DefaultMaxOpening is how many connections may ask the gate at once.
	DefaultMaxOpening = 512
)

// lookEvery is how often the connections are looked at: their statistics are
// taken and silent ones ended. One timer does it for all.
const lookEvery = time.Second

// Options is all that a door needs.
type Options struct {
	// Listener is where peers come in; Run serves and closes it.
	Listener *wire.Listener
	Gate     ingest.Gate
	Grammar  ingest.Grammar
	Log      *slog.Logger // nil: no log
	Stats    *Stats       // nil: a new one
	// Witness hears of publishers who were turned away before the gate was
	// asked: their address could not be read, or their passphrase is wrong; nil:
	// nobody.
	Witness ingest.Witness
	// MaxConnections bounds open connections, MaxWaiting those of one address
	// that do not publish yet. Above them callers get CodeOverloaded. 0: no limit.
	MaxConnections, MaxWaiting int
	// MaxOpening bounds how many connections ask the gate at once; the others
	// wait for their turn. 0 is DefaultMaxOpening.
	MaxOpening int
	// OpenTimeout bounds the gate, the wait for the turn included; 0 is
	// DefaultOpenTimeout.
	OpenTimeout time.Duration
	// IdleTimeout ends connections that have sent nothing for so long; 0: the
	// gate sees to it.
	IdleTimeout time.Duration

	// ServerPassphrase is wanted of every caller whose stream has none of its
	// own; "" lets them in without encryption.
	ServerPassphrase string
	// Passphrase gives the one of the stream that a caller asks for; "" when it
	// has none of its own. It may take as long as ctx, and an error is told to
	// the caller: one with BackendUnavailable asks him to try again. nil: no
	// stream has one.
	Passphrase func(ctx context.Context, r ingest.Request) (string, error)
	// SealKey and SealVector open the passphrase that a Kaltura backend sealed
	// into the stream id (ep=), see ingest.Unseal.
	SealKey, SealVector string
}

// Server is the door. It implements ingest.Server.
type Server struct {
	o        Options
	log      *slog.Logger
	stats    *Stats
	places   *ingest.Admission
	refused  *refusals
	opening  chan struct{} // a slot for each connection that asks the gate
	deriving chan struct{} // the slot of who derives a key

	mu    sync.Mutex // guards conns
	conns map[*conn]struct{}
}

var _ ingest.Server = (*Server)(nil)

// New makes a door. The port is bound already, through o.Listener; it serves
// with Run.
func New(o Options) *Server {
	if o.OpenTimeout <= 0 {
		o.OpenTimeout = DefaultOpenTimeout
	}
	if o.MaxOpening <= 0 {
		o.MaxOpening = DefaultMaxOpening
	}
	if o.Stats == nil {
		o.Stats = new(Stats)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		o: o, log: o.Log, stats: o.Stats,
		places:   ingest.NewAdmission(o.MaxConnections, o.MaxWaiting),
		refused:  newRefusals(),
		opening:  make(chan struct{}, o.MaxOpening),
		deriving: make(chan struct{}, 1),
		conns:    make(map[*conn]struct{}),
	}
}

// errDraining is what callers and peers hear when the server ends.
func errDraining() *fault.Error {
	return fault.New(fault.ServerDraining, "the server is shutting down; try again in a moment")
}

// Run serves until ctx ends, then says goodbye to every peer and returns when
// the last is gone. It returns an error only when the listener breaks.
func (s *Server) Run(ctx context.Context) error {
	// The engine outlives ctx: it carries the goodbyes.
	engine := run.New(context.WithoutCancel(ctx))
	peers := run.New(ctx)
	err := errors.Join(
		engine.Go("srt engine", s.o.Listener.Serve),
		engine.Go("srt look", s.look),
	)
	if err == nil {
		err = s.accept(ctx, peers)
	}
	s.o.Listener.Refuse(CodeUnavailable)
	err = errors.Join(err, peers.Stop(errDraining()))
	for { // those who still wait for an answer
		call, ok := s.o.Listener.TryAccept()
		if !ok {
			break
		}
		call.Reject(CodeUnavailable)
	}
	return errors.Join(err, engine.Stop(errDraining()))
}

// accept is the loop of the listener.
func (s *Server) accept(ctx context.Context, peers *run.Group) error {
	for {
		call, err := s.o.Listener.Accept(ctx)
		switch {
		case ctx.Err() != nil:
			if err == nil {
				call.Reject(CodeUnavailable) // came too late
			}
			return nil
		case err != nil:
			return fmt.Errorf("accept srt: %w", err)
		}
		s.admit(call, peers)
	}
}

// admit starts the life of a connection. Until it is answered the caller holds
// a place, too.
func (s *Server) admit(call *wire.Call, peers *run.Group) {
	s.stats.Handshakes.Add(1)
	place, ok := s.places.Enter(call.Remote().Addr())
	if !ok {
		s.overloaded(call)
		return
	}
	c := newConn(s, call, place, peers)
	err := peers.Detach("srt "+call.Remote().String(), c.run, func(err error) {
		place.Leave()
		if p, ok := errors.AsType[*run.PanicError](err); ok {
			s.stats.Panics.Add(1)
			call.Reject(CodeInternal) // in case he has no answer
			c.log.Error("an SRT connection ended by an error of the server", "panic", p.Value, "stack", string(p.Stack))
		}
	})
	if err != nil {
		place.Leave()
		call.Reject(CodeUnavailable) // shutting down
	}
}

// join makes a connection known to look, and counts it.
func (s *Server) join(c *conn) {
	s.stats.Accepted.Add(1)
	s.stats.Connections.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
}

func (s *Server) part(c *conn) {
	s.stats.Connections.Add(-1)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// look looks at every connection each second.
func (s *Server) look(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var all []*conn
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			all = all[:0]
			s.mu.Lock()
			for c := range s.conns {
				all = append(all, c)
			}
			s.mu.Unlock()
			for _, c := range all {
				c.look(now, s.o.IdleTimeout)
			}
			clear(all)
		}
	}
}

//go:build srt

// Package srt is the SRT door: it listens through libsrt, asks who comes, and
// turns the transport streams of encoders into packets.
//
// Server is the type to read first; door.go is what is decided in the
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
)

const (
	// DefaultOpenTimeout is how long the gate may take.
	DefaultOpenTimeout = 15 * time.Second
	// DefaultMaxOpening is how many connections may ask the gate at once.
	DefaultMaxOpening = 512
)

// How long the door waits after an Accept that failed.
const (
	minAcceptDelay = 5 * time.Millisecond
	maxAcceptDelay = time.Second
)

// maxTestimonies bounds the refusals that wait for the witness; those above
// are not told.
const maxTestimonies = 64

// lookEvery is how often the connections are looked at: their statistics are
// taken and silent ones ended. One timer does it for all.
const lookEvery = time.Second

// Options is all that a door needs. Passphrase and Check are called on the
// thread that receives for the whole port: they answer from memory, at once.
type Options struct {
	// Listener is where peers come in; Run closes it.
	Listener *Listener
	Gate     ingest.Gate
	Grammar  ingest.Grammar
	Log      *slog.Logger // nil: no log
	Stats    *Stats       // nil: a new one
	// Witness hears of publishers who were turned away in the handshake, because
	// their address could not be read or by Check; nil: nobody.
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
	// Passphrase gives that of the stream a caller asks for. ok is false when
	// the stream has none, or none is known: then ServerPassphrase holds. nil: no
	// stream has one.
	Passphrase func(ingest.Request) (passphrase string, ok bool)
	// SealKey and SealVector open the passphrase that a Kaltura backend sealed
	// into the stream id (ep=), see ingest.Unseal.
	SealKey, SealVector string
	// Check says in the handshake what memory has against a caller, so that he
	// is told in SRT's own code; nil error: nothing. It only turns away: who
	// passes is still asked about at the gate. A backend that has to be asked
	// first can refuse with BackendUnavailable, which callers take as "try
	// again". Whoever guesses tokens here is not slowed down by the gate: Check
	// has to count him. nil: refusals come behind the handshake, and their code
	// with the next try.
	Check func(ingest.Request) error
}

// Server is the door. It implements ingest.Server.
type Server struct {
	o       Options
	log     *slog.Logger
	stats   *Stats
	places  *ingest.Admission
	refused *refusals
	opening chan struct{} // a slot for each connection that asks the gate
	told    chan testimony

	mu    sync.Mutex // guards conns
	conns map[*conn]struct{}
}

var _ ingest.Server = (*Server)(nil)

// New makes a door. The port is bound already, through o.Listener, and callers
// are answered from now on; it serves with Run.
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
	s := &Server{
		o: o, log: o.Log, stats: o.Stats,
		places:  ingest.NewAdmission(o.MaxConnections, o.MaxWaiting),
		refused: newRefusals(),
		opening: make(chan struct{}, o.MaxOpening),
		told:    make(chan testimony, maxTestimonies),
		conns:   make(map[*conn]struct{}),
	}
	ask := s.decide
	o.Listener.ask.Store(&ask)
	return s
}

// errDraining is what callers and peers hear when the server ends.
func errDraining() *fault.Error {
	return fault.New(fault.ServerDraining, "the server is shutting down; try again in a moment")
}

// Run serves until ctx ends, then says goodbye to every peer and returns when
// the last is gone. It returns an error only when the listener breaks.
func (s *Server) Run(ctx context.Context) error {
	peers := run.New(ctx)
	helpers := errors.Join(
		peers.Go("srt look", s.look),
		peers.Go("srt witness", s.testify),
	)
	stop := context.AfterFunc(ctx, s.o.Listener.Close) // accept returns the error
	err := s.accept(ctx, peers)
	stop()
	s.o.Listener.ask.Store(nil)
	s.o.Listener.Close() // a second time where ctx ended it
	if ctx.Err() != nil {
		helpers = nil // they were not started because it is over already
	}
	defer s.o.Listener.release()
	return errors.Join(err, helpers, peers.Stop(errDraining()))
}

// accept is the loop of the listener.
func (s *Server) accept(ctx context.Context, peers *run.Group) error {
	handle := *s.o.Listener.socket // Close of srtgo writes to what it closes
	delay := time.Duration(0)
	for ctx.Err() == nil {
		sock, err, listening := s.o.Listener.accept(handle)
		switch {
		case ctx.Err() != nil:
			if sock != nil {
				sock.Close() // came too late
			}
			return nil
		case !listening:
			return fmt.Errorf("accept srt: %w", err)
		case err != nil: // mostly a caller that went away in the middle
			delay = min(max(2*delay, minAcceptDelay), maxAcceptDelay)
			s.log.Debug("an SRT connection could not be accepted", "error", err, "retry_in", delay)
			pause(ctx, delay)
			continue
		}
		delay = 0
		s.admit(sock, peers)
	}
	return nil
}

// admit starts the life of a connection.
func (s *Server) admit(sock *socket, peers *run.Group) {
	s.stats.Accepted.Add(1)
	place, ok := s.places.Enter(sock.remote.Addr())
	if !ok {
		s.stats.refuse(fault.LimitExceeded)
		sock.Close()
		return
	}
	s.stats.Connections.Add(1)
	c := newConn(s, sock, place, peers)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		place.Leave()
		s.stats.Connections.Add(-1)
	}
	err := peers.Detach("srt "+sock.remote.String(), c.run, func(err error) {
		leave()
		if p, ok := errors.AsType[*run.PanicError](err); ok {
			s.stats.Panics.Add(1)
			c.log.Error("an SRT connection ended by an error of the server", "panic", p.Value, "stack", string(p.Stack))
		}
	})
	if err != nil {
		leave()
		sock.Close() // shutting down
	}
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

// testimony is a refusal that the gate does not know of.
type testimony struct {
	request ingest.Request
	err     error
}

// testify tells the witness of refusals, away from the thread that receives.
func (s *Server) testify(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case t := <-s.told:
			if s.o.Witness != nil {
				s.o.Witness.Refused(t.request, t.err)
			}
		}
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

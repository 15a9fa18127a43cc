package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/klive-media/klive/internal/run"
)

// part is something that runs. Parts start in the order of the list and stop
// in its reverse, each when the ones behind it are gone.
type part struct {
	name string
	run  func(ctx context.Context) error

	group *run.Group
}

// parts is the order of life: what others need comes before them. So at the
// end the doors say goodbye first, then the streams close what they cut, and
// the control API, which shows it all, goes nearly last.
func (s *Server) parts() []*part {
	list := []*part{
		{name: "event log", run: s.events.Run},
		{name: "control", run: s.control.Run},
		{name: "media http", run: s.media.Run},
		{name: "segment store", run: s.shelves.Run},
		{name: "recordings", run: s.recorder.Serve},
		{name: "streams", run: s.registry.Run},
	}
	if s.bridged() {
		list = append(list, &part{name: "kaltura bridge", run: s.runBridge})
	}
	for _, d := range s.doors {
		list = append(list, &part{name: d.name, run: d.server.Run})
	}
	return list
}

// stopTimeout bounds how long the server waits for its parts at the end.
const stopTimeout = 20 * time.Second

// drainPoll is how often a drain looks whether the last publisher left.
const drainPoll = 100 * time.Millisecond

// Run runs the server until ctx ends, drains it and stops it. It returns nil
// after a stop in good order, else what broke.
func (s *Server) Run(ctx context.Context) error {
	defer s.store.Close()
	s.closers = nil // from here on each part closes its own
	broken := make(chan error, 1)
	parts := s.parts()
	for _, p := range parts {
		p.group = run.New(context.WithoutCancel(ctx))
		if err := p.group.Go(p.name, s.guard(p, broken)); err != nil {
			return fmt.Errorf("start %s: %w", p.name, err)
		}
	}
	// The addresses are printed once, so also when a stop was asked for already.
	if err := s.announce(context.WithoutCancel(ctx)); err != nil {
		broken <- err
	}
	s.health.Started()
	s.log.Info("the server is ready", "version", s.opts.Version, "configuration", s.opts.Config.File, "data_dir", s.cfg.DataDir)

	var cause error
	select {
	case <-ctx.Done():
		s.log.Info("stopping", "publishers", s.registry.Publishers(), "drain_timeout", s.cfg.Limits.DrainTimeout)
		s.drain()
	case cause = <-broken:
		s.log.Error("a part of the server broke; stopping", "error", cause)
		s.beginDrain()
	}
	return errors.Join(cause, s.stop(parts))
}

// guard reports a part that ends before it was asked to.
func (s *Server) guard(p *part, broken chan<- error) func(context.Context) error {
	return func(ctx context.Context) error {
		err := run.Protect(p.name, func() error { return p.run(ctx) })
		if ctx.Err() == nil {
			if err == nil {
				err = errors.New("ended by itself")
			}
			select {
			case broken <- fmt.Errorf("%s: %w", p.name, err):
			default:
			}
			return nil // reported already
		}
		return err
	}
}

// beginDrain lets nobody new in and turns readiness off.
func (s *Server) beginDrain() {
	s.registry.Drain(errDrain)
	s.health.Drain()
}

// drain waits until the publishers have left by themselves, at most
// limits.drain_timeout; a second signal hurries.
func (s *Server) drain() {
	s.beginDrain()
	deadline := time.NewTimer(s.cfg.Limits.DrainTimeout)
	defer deadline.Stop()
	poll := time.NewTicker(drainPoll)
	defer poll.Stop()
	for s.registry.Publishers() > 0 {
		select {
		case <-deadline.C:
			return
		case <-s.opts.Hurry:
			return
		case <-poll.C:
		}
	}
}

// stop ends the parts in reverse order, within stopTimeout.
func (s *Server) stop(parts []*part) error {
	deadline := time.NewTimer(stopTimeout)
	defer deadline.Stop()
	s.recorder.Leave() // pieces of broadcasts that ended just now are not waited for
	var errs []error
	for i := len(parts) - 1; i >= 0; i-- {
		p := parts[i]
		p.group.Cancel(ErrStopped)
		done := make(chan error, 1)
		waiter := run.New(context.Background())
		if err := waiter.Go("wait for "+p.name, func(context.Context) error { done <- p.group.Wait(); return nil }); err != nil {
			return err
		}
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, ErrStopped) {
				errs = append(errs, fmt.Errorf("stop %s: %w", p.name, err))
			}
		case <-deadline.C:
			return errors.Join(append(errs, fmt.Errorf("stop %s: not within %s; still running: %v", p.name, stopTimeout, p.group.Living()))...)
		}
	}
	s.log.Info("stopped")
	return errors.Join(errs...)
}

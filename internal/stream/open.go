package stream

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/segment"
)

// Open implements ingest.Gate: it asks the authority, then gives the publisher
// its place.
func (r *Registry) Open(ctx context.Context, req ingest.Request) (ingest.Publication, error) {
	// A listener on both families sees IPv4 peers as IPv6 ones.
	req.Remote = netip.AddrPortFrom(req.Remote.Addr().Unmap(), req.Remote.Port())
	s, superseded, err := r.admit(ctx, &req)
	if err != nil {
		r.refused(&req, fault.From(err))
		return nil, err
	}
	if superseded != nil {
		r.log.Warn("a silent publisher lost its place", "stream", s.shelf.Stream, "session", superseded.id, "newcomer", s.id)
	}
	r.opts.Journal.Record(Event{
		Type: SessionStarted, Stream: s.shelf.Stream, Session: s.id,
		Message: fmt.Sprintf("%s publishes %s by %s", req.Remote, req.Name(), req.Protocol),
		Facts: map[string]string{
			"protocol": req.Protocol, "remote": req.Remote.String(), "encoder": s.req.Encoder,
			"index": strconv.Itoa(s.index), "server_index": strconv.Itoa(s.shelf.ServerIndex),
		},
	})
	return s, nil
}

func (r *Registry) admit(ctx context.Context, req *ingest.Request) (s, superseded *session, err error) {
	// Before the authority is asked: a backend takes a question about a publisher
	// for the beginning of a broadcast. So whoever names a stopped stream is told
	// that it is, with any token.
	r.mu.Lock()
	err = r.closedTo(req.Stream, time.Now())
	r.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	grant, err := r.opts.Authority.Authenticate(ctx, *req)
	if err != nil {
		return nil, nil, fault.From(err)
	}
	req.Token = "" // nobody behind the authority needs it
	if grant.Partner != 0 {
		req.Partner = grant.Partner
	}
	called, err := calledBy(&grant)
	if err != nil {
		return nil, nil, err
	}

	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.closedTo(grant.Stream, now); err != nil { // meanwhile, or the authority calls it otherwise
		return nil, nil, err
	}
	at := place{segment.ShelfID{Stream: grant.Stream, ServerIndex: grant.ServerIndex}, grant.Index}
	if old := r.places[at]; old != nil {
		silent := now.Sub(old.lastMedia())
		if silent < r.opts.Limits.TakeoverAfter {
			return nil, nil, fault.New(fault.StreamBusy,
				"%s is already being published and its encoder is alive; stop that one first", req.Name())
		}
		superseded = old
	} else if err := r.roomFor(grant.Stream); err != nil {
		return nil, nil, err
	}
	if err := r.claim(at, called); err != nil {
		return nil, nil, err
	}
	s = newSession(r, at, req, now)
	s.called, s.intention = called, intendedOf(&grant)
	if superseded != nil {
		superseded.dismiss(fault.New(fault.Superseded,
			"no media came for %s and another encoder took the place", now.Sub(superseded.lastMedia()).Round(100*time.Millisecond)))
		r.leave(superseded, superseded.dismissal(), now)
	}
	r.places[at] = s
	r.sessions[s.id] = s
	r.counters.Admitted.Add(1)
	r.touch(grant.Stream)
	return s, superseded, nil
}

// closedTo is why nobody may publish a stream now, or nil; r.mu is held.
func (r *Registry) closedTo(stream string, now time.Time) error {
	if r.draining != nil {
		return r.draining
	}
	stop, ok := r.stopped[stream]
	switch {
	case !ok || !now.Before(stop.until):
		return nil
	case stop.cause.Reason == fault.StoppedByOperator:
		return fault.New(fault.StreamStopped, "%s was stopped by an operator; it may return in %s", stream, stop.until.Sub(now).Round(time.Second))
	}
	return stop.cause
}

// roomFor checks Limits.MaxStreams; r.mu is held.
func (r *Registry) roomFor(stream string) error {
	if r.opts.Limits.MaxStreams <= 0 {
		return nil
	}
	on := map[string]bool{stream: true}
	for p := range r.places {
		on[p.shelf.Stream] = true
	}
	for id := range r.broadcasts {
		on[id.Stream] = true
	}
	if len(on) > r.opts.Limits.MaxStreams {
		return fault.New(fault.TooManyStreams, "this server carries at most %d streams and is full; use another server or try later", r.opts.Limits.MaxStreams)
	}
	return nil
}

// leave takes a session out of its place and keeps it among the ended; r.mu is
// held. It does nothing the second time.
func (r *Registry) leave(s *session, cause error, now time.Time) {
	if !s.end.IsZero() {
		return
	}
	s.finish(cause, now)
	delete(r.sessions, s.id)
	if r.places[s.place()] == s {
		delete(r.places, s.place())
	}
	r.ended = append(r.ended, s)
	if b := s.broadcast; b != nil {
		b.left(s, now)
	}
	r.touch(s.shelf.Stream)
}

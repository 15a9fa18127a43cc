package observe

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// SampleInterval is how often a repeated event is reported.
const SampleInterval = 10 * time.Second

// maxSampled bounds the different events one Sampler tells apart; what comes beyond is counted
// together. Events are constants of the program, so that the bound is met only by mistake.
const maxSampled = 64

// otherEvents names what is counted together.
const otherEvents = "further events"

// Sampler logs the first of equal events at once and the rest as a count every SampleInterval. It is
// for what a hostile or broken peer can cause as often as it likes: bad packets, refused connections.
// A Sampler may be used by many goroutines at once.
type Sampler struct {
	log   *slog.Logger
	level slog.Level

	mu     sync.Mutex // guards events; never held while logging
	events map[string]*sample
}

// sample is one event since it was last reported.
type sample struct {
	since time.Time // of the last report
	count int       // since then
	last  error     // newest of them
}

// NewSampler makes a sampler that writes to log at the level given. Put what the events have in common
// (stream, session) into the logger.
func NewSampler(log *slog.Logger, level slog.Level) *Sampler {
	return &Sampler{log: log, level: level, events: make(map[string]*sample)}
}

// Count counts one event. The event is a constant text; err, which may be nil, says what happened this time.
func (s *Sampler) Count(event string, err error) {
	now := time.Now()
	s.mu.Lock()
	e := s.events[event]
	if e == nil {
		if len(s.events) >= maxSampled {
			event = otherEvents
			e = s.events[event]
		}
		if e == nil {
			e = &sample{}
			s.events[event] = e
		}
	}
	e.count++
	e.last = err
	if now.Sub(e.since) < SampleInterval {
		s.mu.Unlock()
		return
	}
	count := e.count
	e.since, e.count, e.last = now, 0, nil
	s.mu.Unlock()
	s.report(event, count, err)
}

// Flush reports what was counted and not yet reported. Call it when the events can no longer come.
func (s *Sampler) Flush() { s.flush(0) }

// Run reports counts whose interval is over until ctx ends, then everything: for samplers that live as
// long as the server. Others need only Flush.
func (s *Sampler) Run(ctx context.Context) error {
	tick := time.NewTicker(SampleInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.flush(SampleInterval)
		case <-ctx.Done():
			s.Flush()
			return nil
		}
	}
}

// flush reports the events that were last reported at least age ago and have a count.
func (s *Sampler) flush(age time.Duration) {
	type due struct {
		event string
		sample
	}
	var reports []due
	now := time.Now()
	s.mu.Lock()
	for event, e := range s.events {
		if e.count > 0 && now.Sub(e.since) >= age {
			reports = append(reports, due{event, *e})
			e.since, e.count, e.last = now, 0, nil
		}
	}
	s.mu.Unlock()
	for _, r := range reports {
		s.report(r.event, r.count, r.last)
	}
}

func (s *Sampler) report(event string, count int, err error) {
	attrs := make([]slog.Attr, 0, 2)
	if count > 1 {
		attrs = append(attrs, slog.Int("count", count))
	}
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	s.log.LogAttrs(context.Background(), s.level, event, attrs...)
}

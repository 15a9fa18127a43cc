package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/klive-media/klive/internal/store"
)

// queueBound is how many events may wait for the disk; a burst beyond it is
// counted and told as one line in the log, as Record must not wait.
const queueBound = 4096

// EventLog is the durable log of events. Record hands an event to the
// goroutine that runs Run, which writes it; readers read what is written.
type EventLog struct {
	entries *store.Journal
	logger  *slog.Logger
	queue   chan Event

	mu      sync.Mutex // guards the fields below
	last    uint64
	changed chan struct{}
	dropped uint64
}

var _ Journal = (*EventLog)(nil)

// NewEventLog makes the log over a journal of the store.
func NewEventLog(ctx context.Context, entries *store.Journal, logger *slog.Logger) (*EventLog, error) {
	last, err := entries.LastSeq(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the newest event: %w", err)
	}
	return &EventLog{
		entries: entries, logger: logger, queue: make(chan Event, queueBound),
		last: last, changed: make(chan struct{}),
	}, nil
}

// Run writes events until ctx ends and the queue is empty.
func (l *EventLog) Run(ctx context.Context) error {
	for {
		select {
		case e := <-l.queue:
			l.write(ctx, e)
		case <-ctx.Done():
			for {
				select {
				case e := <-l.queue:
					l.write(context.WithoutCancel(ctx), e)
				default:
					return nil
				}
			}
		}
	}
}

func (l *EventLog) write(ctx context.Context, e Event) {
	l.logger.LogAttrs(ctx, slog.LevelInfo, "event", e.attrs()...)
	value, err := json.Marshal(e)
	if err == nil {
		var seq uint64
		if seq, err = l.entries.Append(context.WithoutCancel(ctx), value); err == nil {
			l.mu.Lock()
			l.last = seq
			close(l.changed)
			l.changed = make(chan struct{})
			l.mu.Unlock()
			return
		}
	}
	l.drop()
	l.logger.Error("an event could not be written", "type", e.Type, "error", err)
}

// attrs are what a line of the log says of the event: what there is.
func (e *Event) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.String("type", string(e.Type))}
	for _, a := range []slog.Attr{
		slog.String("stream", e.Stream), slog.String("session", e.Session),
		slog.String("reason", string(e.Reason)), slog.String("message", e.Message),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	if len(e.Facts) > 0 {
		facts := make([]any, 0, len(e.Facts))
		for _, key := range slices.Sorted(maps.Keys(e.Facts)) {
			facts = append(facts, slog.String(key, e.Facts[key]))
		}
		attrs = append(attrs, slog.Group("facts", facts...))
	}
	return attrs
}

func (l *EventLog) drop() {
	l.mu.Lock()
	l.dropped++
	l.mu.Unlock()
}

// Dropped counts the events that could not be written.
func (l *EventLog) Dropped() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

// Record implements Journal. An event without a time gets the present one.
func (l *EventLog) Record(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	select {
	case l.queue <- e:
	default:
		l.drop()
	}
}

// Last implements Journal.
func (l *EventLog) Last() (uint64, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last, l.changed
}

// Read implements Journal.
func (l *EventLog) Read(ctx context.Context, after uint64, n int) ([]Event, bool, error) {
	first, err := l.entries.FirstSeq(ctx)
	if err != nil {
		return nil, false, err
	}
	rows, err := l.entries.Read(ctx, after+1, n)
	if err != nil {
		return nil, false, err
	}
	events := make([]Event, 0, len(rows))
	var bad error
	for _, row := range rows {
		var e Event
		if err := json.Unmarshal(row.Value, &e); err != nil {
			bad = errors.Join(bad, fmt.Errorf("read event %d: %w", row.Seq, err))
			continue
		}
		e.Sequence = row.Seq
		events = append(events, e)
	}
	if bad != nil {
		l.logger.Warn("events that cannot be read were passed over", "error", bad)
	}
	return events, first > after+1, nil
}

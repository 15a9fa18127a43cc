package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/pipeline"
	"github.com/klive-media/klive/internal/run"
	"github.com/klive-media/klive/internal/segment"
)

// This file is how outputs get their broadcasts: each runs in a goroutine of
// its own from the beginning of a broadcast until some time after its end, and
// nothing of the broadcast waits for it.

var _ egress.Broadcast = (*broadcast)(nil)

// Info implements egress.Broadcast.
func (b *broadcast) Info() egress.Info {
	return egress.Info{
		Stream: b.shelf.Stream, ServerIndex: b.shelf.ServerIndex, Broadcast: b.id, Partner: b.intended.Partner,
		Start: b.start, Policy: b.intended.Policy, RecordingSince: b.intended.recordingSince(), Continued: b.continued,
	}
}

// Renditions implements egress.Broadcast.
func (b *broadcast) Renditions() (list []pipeline.Rendition, changed <-chan struct{}) {
	b.reg.mu.Lock()
	defer b.reg.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	for _, rd := range b.renditions {
		list = append(list, renditionOf(rd))
	}
	return list, b.changed
}

// Recording implements egress.Broadcast.
func (b *broadcast) Recording() (mode egress.RecordingMode, changed <-chan struct{}) {
	b.reg.mu.Lock()
	defer b.reg.mu.Unlock()
	return b.recording, b.recordChanged
}

// policy is what holds now; Registry.mu is held.
func (b *broadcast) policy() egress.Policy {
	p := b.intended.Policy
	p.Recording = b.recording
	return p
}

// SetRecording says whether and how a stream's broadcast at a server index is
// recorded from now on, also after a restart of the server. It does nothing
// when there is none, or when it is so already.
func (r *Registry) SetRecording(stream string, index int, mode egress.RecordingMode) error {
	r.mu.Lock()
	b := r.broadcasts[segment.ShelfID{Stream: stream, ServerIndex: index}]
	if b == nil || b.leaving || b.recording == mode {
		r.mu.Unlock()
		return nil
	}
	b.recording = mode
	close(b.recordChanged)
	b.recordChanged = make(chan struct{})
	kept := b.intended
	kept.Policy, kept.Since = b.policy(), time.Now().UnixMilli()
	r.touch(stream)
	r.mu.Unlock()
	<-b.ready
	if b.err != nil { // it never began
		return nil
	}
	if err := b.cutter.Note(kept.note()); err != nil {
		return fmt.Errorf("keep the wish to record %s: %w", stream, err)
	}
	return nil
}

// renditionsChanged wakes who waits for Renditions; Registry.mu is held.
func (b *broadcast) renditionsChanged() {
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// output starts the outputs of a broadcast whose cutter is there. They belong
// to the registry's group, which Run waits for; b.leave ends their context.
func (r *Registry) output(g *run.Group, b *broadcast) {
	if len(r.opts.Outputs) == 0 {
		return
	}
	ctx, leave := context.WithCancelCause(g.Context())
	b.leave = leave
	for _, o := range r.opts.Outputs {
		err := g.Detach("output "+o.Name()+" of "+b.shelf.Stream, func(context.Context) error {
			return o.Run(ctx, b)
		}, func(err error) { r.outputDone(ctx, b, o.Name(), err) })
		if err != nil {
			r.outputDone(ctx, b, o.Name(), err)
		}
	}
}

// outputDone tells how an output ended, if not well.
func (r *Registry) outputDone(ctx context.Context, b *broadcast, name string, err error) {
	ended := ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, egress.ErrEnded) || errors.Is(err, egress.ErrLeaving))
	if err == nil || ended {
		return
	}
	attrs := []any{"output", name, "stream", b.shelf.Stream, "broadcast", b.id, "error", err}
	if p, ok := errors.AsType[*run.PanicError](err); ok {
		attrs = append(attrs, "stack", string(p.Stack))
	}
	r.log.Error("an output of a broadcast failed", attrs...)
	e := Event{
		Type: OutputFailed, Stream: b.shelf.Stream,
		Message: "the output " + name + " failed; the broadcast goes on without it", Facts: b.facts(),
	}
	e.Facts["output"], e.Facts["error"] = name, err.Error()
	r.opts.Journal.Record(e)
}

package record

import (
	"context"
	"slices"
	"time"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/run"
	"github.com/klive-media/klive/internal/segment"
)

const (
	// tendEvery is how often recordings that nobody writes are looked after.
	tendEvery = 10 * time.Second
	// graceOf is how long a broadcast that can be continued may take to be.
	graceOf = 30 * time.Second
)

// Serve ends the recordings whose broadcasts did not come back after a restart,
// finishes what could not be finished before, and deletes recordings whose
// retention is over and of which no piece is held. It returns nil when ctx ends.
func (r *Recorder) Serve(ctx context.Context) error {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		r.retire() // first, as what else is done may wait for room on the disk
		for _, c := range r.orphans(time.Now()) {
			if err := run.Protect("conclude recording", func() error { return r.conclude(ctx, c) }); err != nil && ctx.Err() == nil {
				r.failed(c, "", err) // one recording; the others go on
			}
			r.retire()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// orphans takes up the recordings that are to be ended or finished.
func (r *Recorder) orphans(now time.Time) (out []*recording) {
	open := make(map[string]bool)
	for _, i := range r.opts.Store.Interrupted() {
		open[i.Broadcast.ID] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.all {
		if c.active || c.left || c.deleting || !c.end.IsZero() {
			continue
		}
		if c.closing.IsZero() && c.awaited {
			if c.idle.IsZero() || open[c.info.Broadcast] {
				c.idle = now
			}
			if now.Sub(c.idle) < graceOf {
				continue
			}
		}
		c.active = true
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *recording) int { return a.began.Compare(b.began) })
	return out
}

// conclude ends a recording whose broadcast is over. What the shelf still has
// of it is copied first.
func (r *Recorder) conclude(ctx context.Context, c *recording) error {
	s := r.newSession(c.info, c)
	s.whole = true
	g := run.New(ctx)
	if err := s.start(g); err != nil {
		return g.Stop(err) // the server is stopping; the next run goes on
	}
	s.resume()
	r.mu.Lock()
	closed := !c.closing.IsZero()
	r.mu.Unlock()
	if !closed {
		if !s.lookLast(ctx, nil) {
			s.keep()
			return g.Wait()
		}
	}
	s.close()
	s.noMore()
	return g.Wait()
}

// retire deletes the recordings whose retention is over.
func (r *Recorder) retire() {
	for _, c := range r.expired(time.Now()) {
		r.remove(c)
	}
}

// expired takes up the recordings whose retention is over.
func (r *Recorder) expired(now time.Time) (out []*recording) {
	r.mu.Lock()
	var old []*recording
	for _, c := range r.all {
		over := r.opts.Retention > 0 && !c.end.IsZero() && now.Sub(c.end) >= r.opts.Retention
		if !c.active && (over || c.deleting) {
			old = append(old, c)
		}
	}
	r.mu.Unlock()
	for _, c := range old {
		if !r.held(c) {
			out = append(out, c)
		}
	}
	return out
}

// held reports whether a piece of the recording must not be deleted.
func (r *Recorder) held(c *recording) bool {
	type key struct {
		rendition string
		number    int
	}
	var list []key
	r.mu.Lock()
	for _, d := range c.renditions {
		for _, p := range d.pieces {
			list = append(list, key{d.id, p.number})
		}
	}
	r.mu.Unlock()
	return slices.ContainsFunc(list, func(k key) bool { return r.opts.Held(c.id, k.rendition, k.number) })
}

// remove deletes a recording. That it is to be deleted is written down first,
// so that a crash does not leave half of it.
func (r *Recorder) remove(c *recording) {
	r.mu.Lock()
	c.deleting = true
	r.touch()
	r.mu.Unlock()
	err := r.save(c)
	if err == nil {
		err = removeAll(c)
	}
	if err != nil {
		r.counters.errors.Add(1)
		r.log.Error("a recording whose retention is over could not be deleted; it is tried again", "recording", c.id, "error", err)
		return
	}
	r.mu.Lock()
	delete(r.all, c.id)
	r.touch()
	r.mu.Unlock()
	r.log.Info("a recording was deleted: its retention is over", "stream", c.info.Stream, "recording", c.id)
}

// shelfOf names a broadcast's shelf.
func shelfOf(i *egress.Info) segment.ShelfID {
	return segment.ShelfID{Stream: i.Stream, ServerIndex: i.ServerIndex}
}

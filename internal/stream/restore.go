package stream

import (
	"time"

	"github.com/klive-media/klive/internal/run"
	"github.com/klive-media/klive/internal/segment"
)

// restore continues the broadcasts that were on air when the server ended:
// each waits for its publisher for the reconnect window, with the same
// timeline and numbers. It runs before anybody is let in.
func (r *Registry) restore(g *run.Group) {
	for _, i := range r.opts.Store.Interrupted() {
		b := r.newBroadcast(i.Broadcast.ID, i.ID, i.Broadcast.Start, intendedBy(i.Broadcast.Note))
		b.restored, b.continued = i.End, true
		b.group = run.New(g.Context())
		cutter, err := r.opts.Store.Begin(i.ID, i.Broadcast, func(e segment.Event) { r.observe(b, e) })
		if err != nil {
			r.log.Error("an interrupted broadcast cannot be continued", "stream", i.ID.Stream, "error", err)
			r.opts.Store.EndInterrupted(i.ID)
			continue
		}
		b.cutter = cutter
		close(b.ready)
		now := time.Now()
		b.deadline = now.Add(r.opts.Limits.ReconnectWindow)
		if shelf, ok := r.opts.Store.Shelf(i.ID); ok {
			if rows, _ := shelf.Renditions(); len(rows) > 0 {
				b.state, b.playableAt = step(b.state, CanPlay), now
			}
		}
		r.output(g, b)
		r.mu.Lock()
		r.broadcasts[i.ID] = b
		r.touch(i.ID.Stream)
		r.mu.Unlock()
		r.opts.Journal.Record(Event{
			Type: BroadcastWaiting, Time: now, Stream: i.ID.Stream,
			Message: "the server was restarted; the stream waits for its publisher until " + b.deadline.UTC().Format(time.RFC3339),
			Facts:   b.facts(),
		})
	}
}

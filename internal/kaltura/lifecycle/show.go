package lifecycle

import (
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/stream"
)

// show puts what is so now into the snapshot for the API.
func (k *keeper) show(v *view) {
	c := &k.calls
	s := stream.Registration{
		Stream: k.key.Entry, ServerIndex: k.key.Index, Partner: k.grant().Partner, Broadcast: k.broadcast,
		State: stateOf(c.told), Since: c.since, LastTold: c.at, Attempts: c.attempts, TakenOver: k.state == TakenOver,
		RecordedEntry: c.recorded, Preview: c.preview,
	}
	if s.Since.IsZero() {
		s.Since = v.authenticated
	}
	if k.state.Tells() {
		s.Next = c.due
	}
	if k.state == Ending {
		s.State, s.Since, s.EndBy = stream.Stopped, k.ended, k.ended.Add(tellEndBy)
	}
	if c.err != nil {
		s.Error = c.err.Error()
	}
	s.Ladder, s.LadderFrom = k.ladder.resolved.Ladder, k.ladder.resolved.From
	if k.ladder.err != nil {
		s.LadderError = k.ladder.err.Error()
	}
	s.Streams = shownStreams(k.streams.told)
	k.mu.Lock()
	k.shown = s
	k.mu.Unlock()
}

func shownStreams(told []client.Stream) []stream.RegisteredStream {
	out := make([]stream.RegisteredStream, 0, len(told))
	for _, s := range told {
		out = append(out, stream.RegisteredStream{
			Rendition: s.Flavor, Bitrate: s.Bitrate, Width: s.Width, Height: s.Height,
			Codec: s.Codec, FrameRate: s.FrameRate, Language: s.Language,
		})
	}
	return out
}

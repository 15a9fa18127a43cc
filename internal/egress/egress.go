// Package egress is the door out: what every output shares. Each output has
// one folder below this one and reads a Broadcast; it never learns which
// protocol the packets came in by.
package egress

import (
	"context"
	"time"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/pipeline"
)

// Info is what an output may know of a broadcast.
type Info struct {
	Stream      string    // stream id
	ServerIndex int       // 0 primary, 1 backup
	BroadcastID string    // unique per broadcast
	Start       time.Time // wall clock of stream time 0
}

// Broadcast is one stream at one server index on air, across reconnects.
type Broadcast interface {
	Info() Info
	// Renditions is a snapshot in order of ingest index; the channel is closed
	// at the next change.
	Renditions() ([]pipeline.Rendition, <-chan struct{})
	// Derive makes a rendition in another codec on demand and shares it with
	// who asks for the same; it ends with the last ctx. Without a transcoder
	// the error is fault.UnsupportedCodec.
	Derive(ctx context.Context, c media.Codec) (pipeline.Rendition, error)
}

// Output is one way out. Run is called once per broadcast, in a goroutine of
// its own, and owns all that it starts.
type Output interface {
	Name() string
	Run(ctx context.Context, b Broadcast) error
}

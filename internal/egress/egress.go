// Package egress is the door out: what every output shares on its way from a
// stream to whoever reads it. Each output has one folder below this one.
//
// Output is the type to read first. The server runs every output once for each
// broadcast; outputs that answer requests instead (HLS) read shelves and need
// nothing of this package.
package egress

import (
	"context"
	"errors"
	"time"

	"github.com/klive-media/klive/internal/pipeline"
)

// Broadcast is one stream at one server index on air, across the reconnects of
// its publishers.
type Broadcast interface {
	// Info does not change while the broadcast lives.
	Info() Info
	// Renditions is a snapshot, ordered by ingest index; changed is closed at the
	// next change. A rendition stays when its publisher leaves. Its Source ends
	// when the broadcast does.
	Renditions() (list []pipeline.Rendition, changed <-chan struct{})
	// Recording is whether and how it is to be recorded now: a producer may
	// begin and end a recording in the middle. It begins as the Policy says;
	// changed is closed at the next change.
	Recording() (mode RecordingMode, changed <-chan struct{})
}

// Output is something that is done with every broadcast.
type Output interface {
	// Name is for logs, such as "record".
	Name() string
	// Run is called once per broadcast, and again for a broadcast that a restart
	// of the server continues. It owns all it starts. ctx ends when there is
	// nothing more to come, with the cause ErrEnded or ErrLeaving; all that was
	// sent is on the shelf then, and Run still finishes its work. The server
	// waits for it when it stops, within its patience.
	Run(ctx context.Context, b Broadcast) error
}

// Why the context of an output ends.
var (
	// ErrEnded: the broadcast is over and will not be continued.
	ErrEnded = errors.New("the broadcast has ended")
	// ErrLeaving: the server stops; it may continue the broadcast when it is back.
	ErrLeaving = errors.New("the server is stopping")
)

// Info is what is known of a broadcast.
type Info struct {
	Stream      string
	ServerIndex int    // 0 primary, 1 backup
	Broadcast   string // id, unique for good
	Partner     int    // 0: none
	Start       time.Time
	Policy      Policy
	// RecordingSince is, of a broadcast that is Continued, when Policy.Recording
	// was wished for; zero: the broadcast began with it.
	RecordingSince time.Time
	// Continued: a restart of the server lies between its start and now.
	Continued bool
}

// Policy is what the authority wishes for a broadcast. It is fixed when the
// broadcast begins. The zero Policy asks for nothing.
type Policy struct {
	// SegmentDuration of HLS; 0: the server's own.
	SegmentDuration time.Duration `json:"segment_duration,omitempty"`
	DVR             DVR           `json:"dvr,omitzero"`
	Recording       RecordingMode `json:"recording,omitempty"`
	// LowLatency: the stream was made for low latency. A wish, not a switch.
	LowLatency bool `json:"low_latency,omitempty"`
}

// DVR is how far back viewers may go while a broadcast lives.
type DVR struct {
	Enabled bool          `json:"enabled,omitempty"`
	Window  time.Duration `json:"window,omitempty"` // 0: the server's own
}

// RecordingMode is whether and how a broadcast is recorded.
type RecordingMode string

// The modes.
const (
	RecordOff        RecordingMode = ""            // not at all
	RecordAppended   RecordingMode = "appended"    // broadcasts of a stream make one recording
	RecordPerSession RecordingMode = "per_session" // each broadcast makes one
)

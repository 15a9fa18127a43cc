package stream

import (
	"net/netip"
	"time"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

// Status is a snapshot of a stream that is, or lately was, on air. Snapshots
// are immutable.
type Status struct {
	Stream string
	// State is the furthest of the stream's living broadcasts and sessions; when
	// none lives, that of the broadcast that ended last.
	State      State
	Broadcasts []BroadcastStatus // by server index; at most one each
	// Version grows with every change of this stream within a server run.
	Version uint64
}

// BroadcastStatus is a snapshot of one broadcast.
type BroadcastStatus struct {
	ID          string
	ServerIndex int
	State       State
	Start       time.Time // wall clock of stream time 0
	End         time.Time // zero while it lives
	// ReconnectDeadline is set while no publisher is there: until then one may
	// come back and continue.
	ReconnectDeadline time.Time
	// Playable is when it became PLAYABLE first in this run of the server; zero
	// before.
	Playable        time.Time
	Policy          egress.Policy
	Renditions      []RenditionStatus // by ingest index
	Discontinuities uint64
}

// RenditionStatus is a snapshot of one rendition of a broadcast.
type RenditionStatus struct {
	ID       string // ingest index in decimal, or what the authority calls it
	Index    int    // ingest index
	Tracks   []*media.Track
	Playable bool
	// Session is the session that feeds it, "" when none does now.
	Session string
	// LogBytes and LogSpan are what its packet log holds; LogLaps counts readers
	// that were lapped.
	LogBytes int64
	LogSpan  time.Duration
	LogLaps  uint64
}

// SessionStatus is a snapshot of one session.
type SessionStatus struct {
	ID          string // unique for good
	Stream      string
	Broadcast   string // broadcast id; "" before the first announcement
	Index       int    // ingest index
	ServerIndex int
	Protocol    string
	Remote      netip.AddrPort
	Encoder     string
	State       State
	// Reason and Message say why the session ended; "" while it lives.
	Reason  fault.Reason
	Message string
	Start   time.Time
	End     time.Time // zero while it lives
	Tracks  []*media.Track

	Bytes           uint64 // media payload
	WireBytes       uint64
	Packets         uint64
	Bitrate         int // bit/s of media over the last seconds
	Discontinuities uint64
	TimeRepairs     uint64
	BadMessages     uint64
	// Offset is how far the session's wire clock was moved to join the stream's
	// timeline; OffsetMethod says by what: "first", "wire-clock", "wall-clock".
	Offset       time.Duration
	OffsetMethod string
	LastMedia    time.Time
	// Link is nil where the door tells nothing of the network.
	Link *LinkStatus
}

// LinkStatus is a snapshot of the network between a publisher and its door, as
// of a second ago; of an ended session as it was last. The fields are those of
// ingest.Link.
type LinkStatus struct {
	RTT       time.Duration
	Latency   time.Duration // that missing packets are waited for, as negotiated
	Buffered  time.Duration // media received and held back behind a hole
	Rate      int64         // bit/s received
	Bandwidth int64         // bit/s the way is estimated to carry

	Packets         uint64 // received, those sent again included
	Lost            uint64 // did not come by themselves: the sum of the next two
	Retransmitted   uint64 // of the lost: sent again and received
	Dropped         uint64 // of the lost: given up, too late to be played
	Undecrypted     uint64 // received but not readable
	Discontinuities uint64 // places where the media shows that data is missing
	Encrypted       bool   // the peer encrypts
}

// Event is one line of the event log.
type Event struct {
	// Sequence is the resume token's number; it never repeats, also across
	// restarts of the server. 0 until the event is stored.
	Sequence uint64            `json:"-"`
	Time     time.Time         `json:"time"`
	Type     EventType         `json:"type"`
	Stream   string            `json:"stream,omitempty"`
	Session  string            `json:"session,omitempty"`
	Reason   fault.Reason      `json:"reason,omitempty"`
	Message  string            `json:"message,omitempty"`
	Facts    map[string]string `json:"facts,omitempty"`
}

// EventType is what an event tells.
type EventType string

// The types of events.
const (
	StreamCreated     EventType = "STREAM_CREATED"
	StreamUpdated     EventType = "STREAM_UPDATED"
	StreamDeleted     EventType = "STREAM_DELETED"
	TokenRotated      EventType = "TOKEN_ROTATED"
	AddressesShown    EventType = "PUBLISH_ADDRESSES_SHOWN"
	PublishRefused    EventType = "PUBLISH_REFUSED"
	SessionStarted    EventType = "SESSION_STARTED"
	SessionEnded      EventType = "SESSION_ENDED"
	BroadcastStarted  EventType = "BROADCAST_STARTED"
	BroadcastPlayable EventType = "BROADCAST_PLAYABLE"
	BroadcastDark     EventType = "BROADCAST_NOT_PLAYABLE"
	BroadcastWaiting  EventType = "BROADCAST_WAITING" // for a reconnect
	BroadcastResumed  EventType = "BROADCAST_RESUMED"
	BroadcastEnded    EventType = "BROADCAST_ENDED"
	TimelineRepaired  EventType = "TIMELINE_REPAIRED"
	OffsetFound       EventType = "RENDITION_OFFSET" // above one frame
	MediaGap          EventType = "MEDIA_GAP"
	CutForced         EventType = "CUT_WITHOUT_KEY_FRAME"
	DiskRefused       EventType = "DISK_WRITE_FAILED"
	NodeDraining      EventType = "NODE_DRAINING"

	RecordingStarted EventType = "RECORDING_STARTED"
	RecordingEnded   EventType = "RECORDING_ENDED"
	PieceFinished    EventType = "RECORDING_PIECE_FINISHED"
	RecordingFailed  EventType = "RECORDING_FAILED"
	OutputFailed     EventType = "OUTPUT_FAILED"

	BackendLost     EventType = "BACKEND_LOST"       // the backend does not answer
	BackendBack     EventType = "BACKEND_BACK"       // it does again
	NodeRegistered  EventType = "NODE_REGISTERED"    // the backend knows this server
	EntryRegistered EventType = "ENTRY_REGISTERED"   // the backend was told a new state
	EntryRefused    EventType = "ENTRY_REFUSED"      // the backend refused a registration
	EntryLeft       EventType = "ENTRY_UNREGISTERED" // the backend was told the end, or found out by itself: fact given_up
	EntryTakenOver  EventType = "ENTRY_TAKEN_OVER"   // another host has the entry
	LadderResolved  EventType = "LADDER_RESOLVED"
	PushUnsupported EventType = "PUSH_PUBLISH_UNSUPPORTED" // the entry asks for it
	PieceDelivered  EventType = "RECORDING_PIECE_DELIVERED"
	DeliveryDoubted EventType = "RECORDING_DELIVERY_IN_DOUBT"
	DeliveryFailed  EventType = "RECORDING_DELIVERY_REFUSED"
	CuePointSent    EventType = "CUE_POINT_FORWARDED"
)

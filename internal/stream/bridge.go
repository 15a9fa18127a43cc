package stream

import (
	"context"
	"time"

	"github.com/klive-media/klive/internal/transcode"
)

// Bridge is what the control API needs of the bridge to a backend.
type Bridge interface {
	// Status is a snapshot.
	Status() BridgeStatus
	// Resync tells the backend again what is on air, reads its entries anew and
	// tries what waits, at once. It does not wait for the answers.
	Resync(ctx context.Context) error
}

// BridgeStatus is the bridge to a backend, at one moment.
type BridgeStatus struct {
	Mode        string // "saas", "ecdn"
	URL         string
	Partner     int
	Host        string // as the backend knows this server
	Application string
	// Available: the backend answered the last call that reached it. Since is
	// when that changed last; LastAnswer when it answered last.
	Available         bool
	Since, LastAnswer time.Time
	LastError         string
	Node              BridgeNode
	Registrations     []Registration // by stream and server index
}

// BridgeNode is this server as the backend has it.
type BridgeNode struct {
	ID         int64 // 0: not known yet
	Registered bool
	LastReport time.Time // the last heartbeat that was answered
	Error      string    // why it is not registered; "" when it is
}

// Registration is an entry at one server index, as the backend was told last.
type Registration struct {
	Stream      string
	ServerIndex int
	Partner     int
	Broadcast   string // "" before the first
	// State is AUTHENTICATED, BROADCASTING, PLAYABLE, or STOPPED when the end is
	// known here and not told yet.
	State     State
	Since     time.Time // of State
	LastTold  time.Time // the last registration that was answered
	Next      time.Time // of the next keep-alive; zero: none
	EndBy     time.Time // until when the end is told at the latest; zero while on air
	TakenOver bool      // another host has the entry at this index
	Attempts  int       // failed in a row
	Error     string    // the last; "" when the last call was answered
	// RecordedEntry is what the backend makes of the recording; "" when none.
	RecordedEntry string
	Preview       bool // only who may preview sees it
	// Ladder is what the backend wants made of the source; LadderFrom is
	// "template" or "flavors", LadderError why there is none.
	Ladder      transcode.Ladder
	LadderFrom  string
	LadderError string
	// Streams are the renditions as the backend was told last.
	Streams []RegisteredStream
}

// RegisteredStream is a rendition as the backend was told.
type RegisteredStream struct {
	Rendition     string
	Bitrate       int // bit/s
	Width, Height int
	Codec         string
	FrameRate     float64
	Language      string
}

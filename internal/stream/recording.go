package stream

import (
	"context"
	"time"

	"github.com/klive-media/klive/internal/egress"
)

// Recording is what was recorded of one broadcast: for each rendition a row of
// pieces that, joined, are the whole.
type Recording struct {
	ID          string // 128 random bits; knowing it is enough to fetch the recording
	Stream      string
	ServerIndex int
	Broadcast   string
	Partner     int
	Mode        egress.RecordingMode
	Start       time.Time // wall clock of its first picture or sound
	End         time.Time // zero while more may come
	// Pieces by rendition, then number. The last of a rendition may still grow.
	Pieces []Piece
	// Err says what went wrong last; "" when nothing did.
	Err string
}

// Finished reports whether nothing more will come.
func (r *Recording) Finished() bool { return !r.End.IsZero() }

// Piece is one file of a recording: an MP4 that begins with a key frame.
type Piece struct {
	Rendition string
	Number    int           // from 1; without holes, unless a file of it cannot be read
	Start     time.Time     // wall clock of its first sample
	Offset    time.Duration // stream time of its first sample
	Duration  time.Duration
	Size      int64 // bytes; 0 while it grows
	// Finished: File is complete and will not change.
	Finished bool
	// Last: no piece of this rendition follows.
	Last bool
	// File is where the piece is, on this machine. Never shown by the API.
	File string
}

// Recordings is what others need of the recorder.
type Recordings interface {
	// List returns a stream's recordings, newest first; "" means all streams.
	// Snapshots are the caller's own.
	List(stream string) []Recording
	// Get finds one by id.
	Get(id string) (Recording, bool)
	// Changed is closed at the next change of any recording: a piece finished, a
	// recording began, ended or went.
	Changed() <-chan struct{}
	// Split closes the pieces that grow now, at the next key frame, so that what
	// was recorded so far can be used; it returns how many renditions it asked.
	// Errors are *fault.Error: NotRecording when nothing is recorded.
	Split(ctx context.Context, stream string) (int, error)
	// Join writes all finished pieces of a rendition into one MP4 at path, which
	// must not exist, and returns how long it is.
	Join(ctx context.Context, id, rendition, path string) (time.Duration, error)
}

// DeliveryState is how far a piece is on its way to the backend.
type DeliveryState uint8

// The states.
const (
	DeliveryUnspecified DeliveryState = iota
	DeliveryQueued                    // waits for its turn or for the backend
	DeliverySending                   // under way
	DeliveryDelivered                 // the backend has it, or somebody accepted it
	// DeliveryInDoubt: the answer was lost. It counts as delivered until somebody
	// retries it, as sending it twice would double it in the recording, or
	// accepts it.
	DeliveryInDoubt
	// DeliveryRefused: the backend does not want it; it waits for somebody, and
	// what is behind it waits too.
	DeliveryRefused
)

var deliveryNames = [...]string{"UNSPECIFIED", "QUEUED", "SENDING", "DELIVERED", "IN_DOUBT", "REFUSED"}

// String is the state's name in the API.
func (s DeliveryState) String() string {
	if int(s) < len(deliveryNames) {
		return deliveryNames[s]
	}
	return deliveryNames[0]
}

// Delivery is a piece on its way to the backend.
type Delivery struct {
	Recording            string
	Rendition            string
	Number               int
	Stream               string
	ServerIndex, Partner int
	Asset                string // the backend's id of the rendition; "" while it is not known
	Duration             time.Duration
	Size                 int64
	Last                 bool
	State                DeliveryState
	Attempts             int
	Queued               time.Time
	Tried                time.Time // last
	Next                 time.Time // of the next try; zero when none is planned
	Done                 time.Time
	Code                 string // the backend's code of the last error; "" when there was none
	Error                string // the last error in a sentence
	// Accepted is what State was when somebody said that the piece counts as
	// delivered: DeliveryInDoubt, or DeliveryRefused when it was given up. Unspecified:
	// nobody did.
	Accepted   DeliveryState
	AcceptedBy string // who that was; "" when the caller has no name
}

// Deliveries is what others need of the queue that delivers recordings.
type Deliveries interface {
	// Of lists the deliveries of a recording, by rendition and number.
	Of(recording string) []Delivery
	// Open lists everything that is not delivered, oldest first: queued, being
	// sent, in doubt, refused.
	Open() []Delivery
	// Retry sends pieces that are in doubt or refused again; a queued one at
	// once. Rendition "" is all of the recording, number 0 all of the rendition.
	// It returns how many it took up. Errors are *fault.Error.
	Retry(ctx context.Context, recording, rendition string, number int) (int, error)
	// Accept says of pieces that are in doubt that the backend has them: they
	// are delivered from then on, and nothing holds their files any more.
	// Rendition and number are as in Retry. A refused piece is accepted only
	// when it is named by both: the backend does not have it, so it is given up,
	// and those behind it go on. It cannot be taken back. The caller's
	// auth.Principal is noted. It returns how many it accepted. Errors are
	// *fault.Error.
	Accept(ctx context.Context, recording, rendition string, number int) (int, error)
	// Changed is closed at the next change.
	Changed() <-chan struct{}
}

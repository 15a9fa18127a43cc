// Package ingest is the door in: what every protocol shares on its way from a
// peer to a stream. Each protocol has one folder below this one.
//
// Gate is the type to read first. A door reads a broadcast address into a
// Request (address.go), asks the Gate to open a Publication, announces its
// tracks and writes packets. It never learns what a stream is.
package ingest

import (
	"context"
	"net/netip"
	"time"

	"github.com/klive-media/klive/internal/media"
)

// Request is a publisher's wish, in no protocol's words.
type Request struct {
	Protocol string // "rtmp", "srt", "whip"
	// Stream is the stream id: the entry, without the ingest index.
	Stream string
	// Index is the ingest index: 1 is the source, 2 and 3 further bitrates of
	// the same event, 1000 and above further audio languages.
	Index int
	// ServerIndex is 0 for the primary and 1 for the backup.
	ServerIndex int
	// Partner is the partner in the address; 0 when it has none.
	Partner int
	// Token is the secret of the address. Never logged, never shown.
	Token string
	// Remote is where the peer is.
	Remote netip.AddrPort
	// Application and Hostname are as the peer addressed us; "" when the
	// protocol does not say.
	Application, Hostname string
	// Encoder is what the peer calls itself, such as RTMP's flashVer; "" when
	// it does not say. Untrusted: at most MaxEncoderName bytes of it are kept.
	Encoder string
	// Counters is where the door counts what only it can see; the session reads
	// it. Never nil.
	Counters *Counters
}

// MaxEncoderName bounds Request.Encoder.
const MaxEncoderName = 128

// Name is the stream name: <stream>_<index>.
func (r *Request) Name() string { return StreamName(r.Stream, r.Index) }

// Gate lets publishers in. Errors are *fault.Error.
type Gate interface {
	// Open authenticates r and gives it the place it asks for, which may mean
	// to supersede a silent publisher. It may take as long as a backend takes;
	// ctx bounds it. The caller must Close the Publication.
	Open(ctx context.Context, r Request) (Publication, error)
}

// Witness hears of publishers that a door turned away by itself, before it
// could ask the Gate: their address could not be read.
type Witness interface {
	// Refused tells who was refused and why. Protocol, Remote and Encoder of r
	// are set, the rest as far as it is known. It does not wait.
	Refused(r Request, err error)
}

// Publication is one publisher's way to write. Announce, Write and Close are
// called by one goroutine at a time, Close once or more; Done and Cause by any.
type Publication interface {
	// Announce declares the tracks; the first one puts the stream on air. It is
	// called again when a track comes late or changes. It does not wait: a door
	// that was promised a track (by metadata) announces when the track's
	// configuration is there or AnnounceWait has passed since the first.
	// Track IDs are 0-based numbers within the kind as the door sees them;
	// the publication makes them unique in the stream. Packets point to the
	// announced tracks themselves. An error is a dismissal or says why these
	// tracks cannot be carried (fault.UnsupportedCodec, UnsupportedLayout).
	Announce(tracks []*media.Track) error
	// Write adds one packet, in wire time unwrapped by the door. It never
	// blocks. Non-nil means: you were dismissed, hang up with this reason. The
	// packet's payload is owned by the pipeline from here on.
	Write(p media.Packet) error
	// Done is closed when the publication was dismissed; Cause says why.
	Done() <-chan struct{}
	// Cause is the reason of the dismissal, nil before it.
	Cause() error
	// Close ends the publication. cause is nil or fault.Unpublished for a
	// goodbye in good order, else what broke.
	Close(cause error)
}

// AnnounceWait is how long a door waits for a track that the peer's metadata
// promised before it announces without it.
const AnnounceWait = 500 * time.Millisecond

// Server is a door: it listens until ctx ends, then says goodbye to its peers
// and returns when the last is gone.
type Server interface {
	Run(ctx context.Context) error
}

package auth

import "context"

// PlayRequest is a viewer who wants to watch.
type PlayRequest struct {
	Stream string // the stream's id
	Remote string // the viewer's address: IP and port
	Header string // the Authorization header, may be empty
}

// Playback says who may watch. It is asked for each playlist, init section,
// segment and part, and for each WHEP offer, and must answer from memory.
type Playback interface {
	// MayPlay returns nil, or a *fault.Error that says why not.
	MayPlay(ctx context.Context, r PlayRequest) error
	// Restricted reports whether MayPlay depends on who asks. What is sent of a
	// restricted stream is kept by no shared cache.
	Restricted(stream string) bool
}

// OpenPlayback lets everybody watch.
type OpenPlayback struct{}

var _ Playback = OpenPlayback{}

// MayPlay returns nil.
func (OpenPlayback) MayPlay(context.Context, PlayRequest) error { return nil }

// Restricted returns false.
func (OpenPlayback) Restricted(string) bool { return false }

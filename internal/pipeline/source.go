package pipeline

import "github.com/klive-media/klive/internal/media"

// Source is all that a reader of packets ever sees of where they come from.
type Source interface {
	// Tracks is the set of tracks in force, audio and video first. The slice and
	// the tracks are immutable; a change gives another slice.
	Tracks() []*media.Track
	// Subscribe makes a cursor over the packets of all tracks, interleaved in
	// the order of arrival.
	Subscribe(From) *Cursor[media.Packet]
}

// Rendition is one version of a stream's picture and sound.
type Rendition struct {
	// ID is the ingest index "1".."9999", "1~RID" for a simulcast layer, a
	// ladder rung's name or a flavor params id.
	ID     string
	Source Source
}

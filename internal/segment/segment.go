// Package segment cuts packets into CMAF parts and segments, once, onto a
// shelf. Live playback, and later DVR and recordings, are ways of reading the
// same shelf.
//
// Words: a Store holds shelves; a Shelf is one stream at one server index and
// survives broadcasts and restarts of the server; on it stands, for every
// rendition and kind of track, a row of numbered segments made of parts. All
// tracks of a rendition are cut at the same instants: segment n of the picture
// and segment n of the sound cover the same time, so that a multiplexed
// segment is the one's bytes followed by the other's.
//
// Index is the type to read first: an immutable snapshot of one row.
package segment

import (
	"time"

	"github.com/klive-media/klive/internal/media"
)

// ShelfID names a shelf.
type ShelfID struct {
	Stream      string // stream id
	ServerIndex int    // 0 primary, 1 backup
}

// RowID names a row on a shelf.
type RowID struct {
	Rendition string // pipeline.Rendition.ID
	Kind      media.Kind
}

// Index is an immutable snapshot of one row. Snapshots share memory with their
// predecessors; nothing in them is ever written.
type Index struct {
	Row RowID
	// Targets are the same in all rows of the shelf and fixed before the first
	// Index exists.
	Targets Targets
	// Track is the newest description of the row's track.
	Track *media.Track
	// Closed are the listed, finished segments, oldest first, numbers without
	// holes.
	Closed []Segment
	// Open is the segment that still grows, with at least one part; nil when
	// there is none just now. Its number follows the last closed one's.
	Open *Segment
	// Ended: the broadcast is over and nothing will be added to it
	// (EXT-X-ENDLIST). A later broadcast continues the row without it.
	Ended bool
	// PeakBitrate and AverageBitrate in bit/s, over the listed segments;
	// PeakBitrate does not go down within a broadcast once half a target duration
	// was measured; before that it is what the sender announced or a guess from
	// the first parts.
	PeakBitrate, AverageBitrate int
	// FrameRate as measured, in frames per second; 0 for sound.
	FrameRate float64

	// Next is where the next part will be put: what a preload hint names.
	Next PartID

	changed <-chan struct{} // of an index that NewIndex made
	row     *row            // of one that a row of ours made
}

// NewIndex makes the snapshot x, whose Changed is changed. It is for those who
// implement Shelf.
func NewIndex(x Index, changed <-chan struct{}) *Index {
	x.changed, x.row = changed, nil
	return &x
}

// Changed is closed when a newer Index exists. The channel is made when
// somebody asks, so that a row nobody waits for costs nothing; of an Index that
// is outdated already it is closed.
func (x *Index) Changed() <-chan struct{} {
	if x.row == nil {
		return x.changed
	}
	return x.row.changedSince(x)
}

// Targets are what a playlist promises about durations.
type Targets struct {
	// Segment is EXT-X-TARGETDURATION in whole seconds: no EXTINF rounds to more.
	Segment time.Duration
	// Part is PART-TARGET: no part is longer, and every part but the last of a
	// segment is at least 85 % of it.
	Part time.Duration
}

// Segment is one segment of a row.
type Segment struct {
	// Number is the media sequence number.
	Number uint64
	// Discontinuity is the discontinuity sequence number the segment belongs
	// to; where it differs from the segment before, EXT-X-DISCONTINUITY stands.
	Discontinuity uint64
	// Start is stream time; Duration is the time until the next segment starts
	// or, before a gap, until its last sample ends. Of the open segment it is
	// what its parts cover.
	Start, Duration time.Duration
	// Time is the wall clock of Start (EXT-X-PROGRAM-DATE-TIME).
	Time time.Time
	// Independent: it begins with a key frame.
	Independent bool
	// Gap: there is no content (EXT-X-GAP).
	Gap bool
	// Run and Init name the init section. Run is the run of the server that made
	// the segment; within it no two init sections of a stream have one number.
	Run  string
	Init int
	// Size is the content's length in bytes; of the open segment, so far.
	Size int64
	// Parts are there while the segment is recent: at least in the newest three
	// target durations, usually somewhat longer (a reader that lists parts decides
	// itself where to begin); nil later and after a restart of the server. They
	// can be opened as long as they are there.
	Parts []Part
}

// Part is one part of a segment: a CMAF chunk.
type Part struct {
	Duration    time.Duration
	Independent bool  // it begins with a key frame
	Offset      int64 // in the segment
	Size        int64
}

// PartID names a part for good: Run differs in each run of the server.
type PartID struct {
	Run     string
	Segment uint64
	Part    int
}

// RenditionInfo is what a multivariant playlist says of a rendition.
type RenditionInfo struct {
	ID string
	// Rows in order video, audio: those that have at least one playable part in
	// this broadcast.
	Rows []*Index
	// Listed: it belongs into the multivariant playlist: it is on air or stopped
	// for less than the reconnect window.
	Listed bool
}

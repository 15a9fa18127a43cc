package segment

import (
	"context"
	"io"
	"time"

	"github.com/klive-media/klive/internal/pipeline"
)

// Store holds the shelves of a server.
type Store interface {
	// Shelf finds a shelf; ok is false when it was never used or its retention
	// ended.
	Shelf(id ShelfID) (s Shelf, ok bool)
	// Begin starts a broadcast on a shelf, which it makes when there is none, or
	// continues one that was interrupted by a restart when b.ID is the same.
	Begin(id ShelfID, b Broadcast, o Observer) (Cutter, error)
	// Interrupted lists the broadcasts that were on air when the server ended
	// without a goodbye. Each is continued by Begin or ended by EndInterrupted.
	Interrupted() []Interrupted
	EndInterrupted(id ShelfID)
	// Stats are gauges of all shelves.
	Stats() Stats
}

// Broadcast is what a shelf keeps about a broadcast.
type Broadcast struct {
	ID    string
	Start time.Time // wall clock of stream time 0
	// SegmentDuration is this broadcast's own; 0 is the store's.
	SegmentDuration time.Duration
	// Window is how much of the past its rows list, where that is more than the
	// store's; at most MaxWindow.
	Window time.Duration
	// Note is kept with the broadcast and given back by Interrupted; at most
	// MaxNote bytes.
	Note []byte
}

// MaxWindow bounds Broadcast.Window: what viewers may go back, every playlist
// lists.
const MaxWindow = 24 * time.Hour

// MaxNote bounds Broadcast.Note.
const MaxNote = 16 << 10

// Interrupted is a broadcast found on disk at start.
type Interrupted struct {
	ID        ShelfID
	Broadcast Broadcast
	End       time.Duration // stream time up to which segments exist
}

// Cutter cuts the renditions of one broadcast.
type Cutter interface {
	// Run reads the rendition from its oldest packet and cuts it until its log
	// ends or ctx does; the open segment is closed then, and the error is nil. It
	// may be called again for the same rendition ID (a publisher that returns)
	// when the call before has returned, and goes on in the same rows.
	Run(ctx context.Context, r pipeline.Rendition) error
	// Note replaces Broadcast.Note.
	Note(note []byte) error
	// End ends the broadcast: all rows say Ended. Every Run has returned.
	End()
}

// Shelf is the read side, for any number of readers.
type Shelf interface {
	// Renditions is a snapshot in order of ID; changed is closed when a
	// rendition or row comes or goes (not when a part does).
	Renditions() (list []RenditionInfo, changed <-chan struct{})
	// Index is the row's newest snapshot, or nil.
	Index(row RowID) *Index
	// Init opens an init section; for a run and number that an Index names.
	Init(row RowID, run string, n int) ([]byte, error)
	// MuxInit is one init section for picture and sound of a rendition, fit for
	// the segments that have these init sections.
	MuxInit(rendition string, run string, video, audio int) ([]byte, error)
	// Open opens a closed segment, or a part when part ≥ 0. Unknown, expired and
	// not yet finished ones are fault.NotPlayable.
	Open(row RowID, run string, number uint64, part int) (*Content, error)
}

// Content is immutable media bytes: in memory as Buffers, or in a file.
type Content struct {
	Size int64
	// Buffers, when not nil, are shared with every other reader and must not be
	// written.
	Buffers [][]byte
	// File, when not nil, is a reader of this caller's own positioned at the
	// start; if it is an *os.File, it holds just this content from Offset on.
	File   io.ReadSeekCloser
	Offset int64
}

// Close releases the file, if any.
func (c *Content) Close() error {
	if c.File != nil {
		return c.File.Close()
	}
	return nil
}

// Observer is told what happens while cutting. It is called from the cutting
// goroutines, must not block, and may be nil.
type Observer func(Event)

// EventKind is what happened.
type EventKind uint8

// The kinds of events.
const (
	// Playable: the rendition has its first playable part in this broadcast.
	Playable EventKind = iota + 1
	// Unplayable: the rendition has no listed segment left.
	Unplayable
	// ForcedCut: a segment had to begin without a key frame.
	ForcedCut
	// Gap: media is missing for Duration from At on.
	Gap
	// WriteFailed: the disk refused; Err says how. Live goes on from memory.
	WriteFailed
)

// Event is one thing that happened to a rendition.
type Event struct {
	Kind      EventKind
	Rendition string
	At        time.Duration // stream time
	Duration  time.Duration
	Err       error
}

// Stats are gauges of a Store.
type Stats struct {
	Shelves, Rows   int
	MemoryBytes     int64 // held by parts in memory
	DiskBytes       int64
	Segments, Parts uint64 // made since start
	ForcedCuts      uint64
	WriteFailures   uint64
}

package segment

import (
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/segment/fmp4"
)

// Options configure a DiskStore. A zero field means its default.
type Options struct {
	// Dir is where shelves are kept: <Dir>/<stream>/<server index>/…
	Dir string
	// SegmentDuration is the longest segment where key frames allow it; 4 s.
	SegmentDuration time.Duration
	// PartDuration is what PART-TARGET is made from: a whole number of frames near
	// it, up to a quarter longer, that segments can be divided by evenly, so that
	// no splinter of a part is left at their end; 250 ms.
	PartDuration time.Duration
	// Window is how much of the past a row lists, at least MinSegments segments;
	// 30 s and 6.
	Window      time.Duration
	MinSegments int
	// EndedRetention is how long a shelf can be read after its broadcast ended;
	// 60 s.
	EndedRetention time.Duration
	// ReconnectWindow is how long a rendition that stopped stays listed; 30 s.
	ReconnectWindow time.Duration
	// TrackWait is how long, in stream time, one track of a rendition is waited
	// for by the other; 1 s. At the start it is half of it.
	TrackWait time.Duration
	// MemoryParts is how long parts stay in memory; 2.5 s.
	MemoryParts time.Duration
	// FallbackBytes bounds what a row keeps in memory of segments the disk
	// refused; 8 MiB.
	FallbackBytes int64
	// HeldBytes bounds what is held of a rendition that is not published yet:
	// packets before the first segment, sound that waits for the picture, parts
	// that grow. Time does not bound these, as it is the publisher who makes it. A
	// publisher who passes the bound is refused; 32 MiB, at most 1 GiB. Parts in
	// memory of a row are bounded by it, too.
	HeldBytes int64
	// Mark, when not nil, gives the payload, such as an ID3 tag, of a message
	// that stands in front of a segment: in the first part of each segment of a
	// rendition's leading row, which is the picture's, or the sound's when there
	// is no picture. at is the wall clock of the segment's start. It is called
	// from the cutting goroutines, once a segment, and must not block; the bytes
	// are copied. nil, or more than MaxMark bytes, is no message.
	Mark func(shelf ShelfID, row RowID, number uint64, at time.Time) []byte
	// Jobs bounds the queue of finished segments that wait for fsync with their
	// files open; 256. Those that do not fit are queued again later.
	Jobs int
}

// MaxMark bounds what Options.Mark gives.
const MaxMark = fmp4.MaxEventData

// The defaults of Options.
const (
	defaultSegment   = 4 * time.Second
	defaultPart      = 250 * time.Millisecond
	defaultWindow    = 30 * time.Second
	defaultSegments  = 6
	defaultRetention = 60 * time.Second
	defaultReconnect = 30 * time.Second
	defaultTrackWait = time.Second
	defaultMemory    = 2500 * time.Millisecond
	defaultFallback  = 8 << 20
	defaultHeld      = 32 << 20
	defaultJobs      = 256

	mostHeld = 1 << 30 // the length of mdat has 32 bits
)

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&o.SegmentDuration, defaultSegment)
	set(&o.PartDuration, defaultPart)
	set(&o.Window, defaultWindow)
	set(&o.EndedRetention, defaultRetention)
	set(&o.ReconnectWindow, defaultReconnect)
	set(&o.TrackWait, defaultTrackWait)
	set(&o.MemoryParts, defaultMemory)
	if o.MinSegments <= 0 {
		o.MinSegments = defaultSegments
	}
	if o.FallbackBytes <= 0 {
		o.FallbackBytes = defaultFallback
	}
	if o.HeldBytes <= 0 {
		o.HeldBytes = defaultHeld
	}
	o.HeldBytes = min(o.HeldBytes, mostHeld)
	if o.Jobs <= 0 {
		o.Jobs = defaultJobs
	}
	return o
}

// notPlayable is the answer to who asks for what is not there.
func notPlayable(what string) error {
	return fault.New(fault.NotPlayable, "%s is not there: it was never made, is not finished yet or has expired", what)
}

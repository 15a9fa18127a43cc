// Package media holds the nouns every room speaks of: Packet, Track, Codec and
// time. It has no goroutine, does no I/O and logs nothing.
//
// Packet is the type to read first: every protocol is turned into packets at
// its door and every output is made from them.
package media

import (
	"strings"
	"time"
)

// Flags say what is special about a packet.
type Flags uint8

// The flags of a packet.
const (
	// Key: decoding can start here. Every audio packet of a codec without
	// inter-frame dependency carries it.
	Key Flags = 1 << iota
	// Discontinuity: the timeline of the track was repaired, or coded data was
	// lost, between the packet before and this one.
	Discontinuity
	// NewConfig: Track differs from that of the packet before.
	NewConfig
	// Droppable: no other packet needs this one to be decoded.
	Droppable
)

// Has reports whether all flags of f are set.
func (f Flags) Has(g Flags) bool { return f&g == g }

// String lists the flags, for logs and tests.
func (f Flags) String() string {
	var out []string
	for i, name := range [...]string{"key", "discontinuity", "newconfig", "droppable"} {
		if f&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return strings.Join(out, "|")
}

// Packet is one coded access unit of one track. It is immutable once appended
// to a Log: neither the struct nor the payload is written again, and readers
// may keep both for as long as they like (the garbage collector owns them).
//
// Payload is exactly what an ISO-BMFF sample of the codec holds: NAL units
// with 4-byte lengths and without parameter sets or delimiters (H.264, HEVC),
// a temporal unit without delimiters (AV1), a raw AAC frame, a raw Opus
// packet. For a data track it is the encoding that Track.Codec names.
type Packet struct {
	// Track describes the packet. It is immutable and shared; a packet that
	// carries NewConfig points to another Track with the same ID.
	Track *Track
	Flags Flags
	// DTS and PTS are stream time; before the Normalizer, the door's unwrapped
	// wire time. PTS is never before DTS.
	DTS, PTS time.Duration
	// Duration is 0 when unknown.
	Duration time.Duration
	// Captured is the server's wall clock when the packet arrived (the sender's
	// only when it is within 10 s of ours); it never goes backwards within a
	// session and never paces anything.
	Captured time.Time
	Payload  []byte
}

// CompositionOffset is PTS − DTS.
func (p *Packet) CompositionOffset() time.Duration { return p.PTS - p.DTS }

package rtmp

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/klive-media/klive/internal/fault"
)

// Stats is what all connections of a door count together. A collector of
// metrics reads it; the zero value is ready. Doors may share one.
type Stats struct {
	Connections  atomic.Int64  // open now
	Publications atomic.Int64  // on air now, or about to be
	Accepted     atomic.Uint64 // connections ever
	BytesIn      atomic.Uint64 // from the wire, protocol overhead included
	Messages     atomic.Uint64 // audio, video and data messages
	BadMessages  atomic.Uint64 // of these: dropped because they could not be read
	Panics       atomic.Uint64 // connections ended by an error of our own
	// FurtherTracks are the tracks of multitrack encoders that are on air now
	// beside their connection's own publication; RefusedTracks those that were
	// left out.
	FurtherTracks atomic.Int64
	RefusedTracks atomic.Uint64

	mu      sync.Mutex // guards refused
	refused map[fault.Reason]uint64
}

// Refused counts the connections and publications that were turned away, by
// reason.
func (s *Stats) Refused() map[fault.Reason]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.refused)
}

func (s *Stats) refuse(r fault.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused == nil {
		s.refused = make(map[fault.Reason]uint64)
	}
	s.refused[r]++
}

package srt

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
)

// Stats is what all connections of a door count together. A collector of
// metrics reads it; the zero value is ready. Doors may share one.
type Stats struct {
	Connections  atomic.Int64  // open now
	Publications atomic.Int64  // on air now, or about to be
	Handshakes   atomic.Uint64 // callers that asked to come in
	Accepted     atomic.Uint64 // of those: let in by the gate
	BytesIn      atomic.Uint64 // of messages, SRT's own overhead left out
	Messages     atomic.Uint64
	BadMessages  atomic.Uint64 // transport packets and units dropped because they could not be read
	Panics       atomic.Uint64 // connections ended by an error of our own
	// Tracks behind the first picture and sound of a connection: on air now, and
	// those that were not carried.
	FurtherTracks atomic.Int64
	RefusedTracks atomic.Uint64

	// Totals of ingest.Link over all connections.
	Packets, Lost, Retransmitted, Dropped, Undecrypted, Discontinuities atomic.Uint64

	mu      sync.Mutex // guards the fields below
	refused map[fault.Reason]uint64
	links   map[*conn]LinkInfo
}

// LinkInfo is the way to one publisher.
type LinkInfo struct {
	Stream      string
	Index       int // ingest index
	ServerIndex int
	Remote      netip.AddrPort
	Link        *ingest.Link // goes on changing
}

// Refused counts the connections and publications that were turned away, by
// reason.
func (s *Stats) Refused() map[fault.Reason]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.refused)
}

// Links lists the ways to those who publish now, in no order.
func (s *Stats) Links() []LinkInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.links))
}

func (s *Stats) refuse(r fault.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused == nil {
		s.refused = make(map[fault.Reason]uint64)
	}
	s.refused[r]++
}

func (s *Stats) link(c *conn, i LinkInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.links == nil {
		s.links = make(map[*conn]LinkInfo)
	}
	s.links[c] = i
}

func (s *Stats) unlink(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, c)
}

// totals are the counts of a link that go into those of the door.
type totals struct{ packets, lost, retransmitted, dropped, undecrypted, discontinuities uint64 }

func totalsOf(l *ingest.Link) totals {
	return totals{
		l.Packets.Load(), l.Lost.Load(), l.Retransmitted.Load(), l.Dropped.Load(), l.Undecrypted.Load(), l.Discontinuities.Load(),
	}
}

// add counts what became more between two times.
func (s *Stats) add(before, now totals) {
	s.Packets.Add(now.packets - before.packets)
	s.Lost.Add(now.lost - before.lost)
	s.Retransmitted.Add(now.retransmitted - before.retransmitted)
	s.Dropped.Add(now.dropped - before.dropped)
	s.Undecrypted.Add(now.undecrypted - before.undecrypted)
	s.Discontinuities.Add(now.discontinuities - before.discontinuities)
}

package ingest

import "sync/atomic"

// Counters is what a door counts for one connection. The door writes, anybody
// reads.
type Counters struct {
	BytesIn     atomic.Uint64 // from the wire, protocol overhead included
	Messages    atomic.Uint64 // protocol messages of any kind
	BadMessages atomic.Uint64 // dropped because they could not be read
	Link        Link
}

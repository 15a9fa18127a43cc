package ingest

import "sync/atomic"

// Link is what a door knows of the network between it and the peer, as of a
// second ago. The door writes, anybody reads; all of it is 0 where the
// protocol does not tell.
type Link struct {
	RTT       atomic.Int64 // nanoseconds
	Latency   atomic.Int64 // nanoseconds that missing packets are waited for, as negotiated
	Buffered  atomic.Int64 // nanoseconds of media received and held back behind a hole
	Rate      atomic.Int64 // bit/s received now
	Bandwidth atomic.Int64 // bit/s the way is estimated to carry

	Packets       atomic.Uint64 // received, those sent again included
	Lost          atomic.Uint64 // did not come by themselves
	Retransmitted atomic.Uint64 // of the lost: sent again and received
	Dropped       atomic.Uint64 // of the lost: given up, too late to be played
	Undecrypted   atomic.Uint64 // received but not readable
	// Discontinuities are the places where the media shows that data is missing.
	Discontinuities atomic.Uint64
	// Encrypted: the peer encrypts.
	Encrypted atomic.Bool
}

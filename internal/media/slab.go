package media

// slabSize is a compromise: large enough that a 5 Mbit/s stream makes about
// ten a second, small enough that the last reader of one small packet does not
// pin much.
const slabSize = 64 << 10

// Slab hands out byte slices carved from larger allocations, so that the
// packet path allocates once per slab and not once per packet. Slices are
// never reused: the garbage collector frees a slab when no packet in it is
// referenced. A Slab belongs to one goroutine; its zero value is ready.
type Slab struct{ free []byte }

// Alloc returns a slice of n zero bytes with capacity n. The caller owns it. Sizes of a
// quarter slab and above get an allocation of their own, so that little of a
// slab is wasted at its end.
func (s *Slab) Alloc(n int) []byte {
	if n >= slabSize/4 {
		return make([]byte, n)
	}
	if n > len(s.free) {
		s.free = make([]byte, slabSize)
	}
	b := s.free[:n:n]
	s.free = s.free[n:]
	return b
}

// packetSlab is how many Packets are allocated at once.
const packetSlab = 32

// PacketSlab hands out Packets carved from arrays, for the same reason as
// Slab. It belongs to one goroutine; its zero value is ready.
type PacketSlab struct{ free []Packet }

// New returns a pointer to a copy of p that nobody else holds.
func (s *PacketSlab) New(p Packet) *Packet {
	if len(s.free) == 0 {
		s.free = make([]Packet, packetSlab)
	}
	n := &s.free[0]
	s.free = s.free[1:]
	*n = p
	return n
}

package srt

import (
	"encoding/binary"
	"sync"
)

// Sizes of datagrams (§3): an SRT packet fits an Ethernet frame of 1500 bytes,
// of which IPv4 and UDP take 28.
const (
	mtu         = 1500
	maxDatagram = mtu - 28
	headerSize  = 16
	// MaxMessage is the longest message of a peer in live mode, in bytes.
	MaxMessage = maxDatagram - headerSize
)

// controlFlag tells control packets from data packets, and ranges from single
// numbers in loss reports.
const controlFlag = 1 << 31

// The types of control packets (§3.2, table 1).
const (
	typeHandshake   = 0x0000
	typeKeepAlive   = 0x0001
	typeACK         = 0x0002
	typeNAK         = 0x0003
	typeShutdown    = 0x0005
	typeACKACK      = 0x0006
	typeDropRequest = 0x0007
	typeUser        = 0x7fff // key material has a subtype of its own
)

// The subtypes of typeUser, which are also the types of handshake extensions
// (§3.2.1.1, table 5).
const (
	extHSRequest   = 1
	extHSResponse  = 2
	extKMRequest   = 3
	extKMResponse  = 4
	extStreamID    = 5
	extCongestion  = 6
	extFilter      = 7
	extGroup       = 8
	maxExtensions  = 16
	extHeaderBytes = 4
)

// Bits of the second word of a data packet (§3.1).
const (
	keyShift      = 27 // KK, two bits: which key the payload is encrypted with
	keyMask       = 3
	retransmitted = 1 << 26
)

// Sequence numbers have 31 bits and wrap (§3.1).
const sequenceMask = 1<<31 - 1

// ahead is how far a is ahead of b; negative when it is behind.
func ahead(a, b uint32) int { return int(int32((a-b)<<1) >> 1) } //nolint:gosec // 31 bits with their sign

// advance is the sequence number n behind s.
func advance(s uint32, n int) uint32 { return (s + uint32(n)) & sequenceMask } //nolint:gosec // wraps on purpose

// control is the header of a control packet.
type control struct {
	kind, subtype uint16
	info          uint32 // "type-specific information"
	timestamp     uint32 // µs of the sender's clock
	destination   uint32 // socket id of the receiver; 0 in the first handshake
}

// isControl tells control packets from data packets.
func isControl(b []byte) bool { return b[0]&0x80 != 0 }

// destinationOf is the socket id a packet is for; b holds a header.
func destinationOf(b []byte) uint32 { return binary.BigEndian.Uint32(b[12:]) }

// readControl reads the header of a control packet; b holds a header.
func readControl(b []byte) control {
	return control{
		kind:      binary.BigEndian.Uint16(b) & 0x7fff,
		subtype:   binary.BigEndian.Uint16(b[2:]),
		info:      binary.BigEndian.Uint32(b[4:]),
		timestamp: binary.BigEndian.Uint32(b[8:]), destination: destinationOf(b),
	}
}

// append adds the header to b.
func (c control) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, controlFlag|uint32(c.kind)<<16|uint32(c.subtype))
	b = binary.BigEndian.AppendUint32(b, c.info)
	b = binary.BigEndian.AppendUint32(b, c.timestamp)
	return binary.BigEndian.AppendUint32(b, c.destination)
}

// packet is a datagram in a buffer of the pool. Data packets stay in it until
// they are read.
type packet struct {
	n       int   // bytes of the datagram
	at      int64 // when it arrived, in nanoseconds of the listener's clock
	missing int   // packets that were given up right before it
	buf     [mtu]byte
}

func (p *packet) bytes() []byte       { return p.buf[:p.n] }
func (p *packet) payload() []byte     { return p.buf[headerSize:p.n] }
func (p *packet) sequence() uint32    { return binary.BigEndian.Uint32(p.buf[:]) & sequenceMask }
func (p *packet) timestamp() uint32   { return binary.BigEndian.Uint32(p.buf[8:]) }
func (p *packet) key() int            { return int(binary.BigEndian.Uint32(p.buf[4:]) >> keyShift & keyMask) }
func (p *packet) retransmitted() bool { return binary.BigEndian.Uint32(p.buf[4:])&retransmitted != 0 }

// packets is where buffers come from and go back to.
var packets = sync.Pool{New: func() any { return new(packet) }}

func newPacket() *packet { return packets.Get().(*packet) } //nolint:forcetypeassert // only packets are put in

func (p *packet) free() { packets.Put(p) }

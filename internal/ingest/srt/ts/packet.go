// Package ts turns an MPEG transport stream (ISO/IEC 13818-1) into packets.
//
// Demuxer is the type to read first: bytes go in, tracks and packets go to a
// Sink. Below it each layer has its file: packet.go transport packets,
// section.go and psi.go the tables that say what is in the stream, pes.go the
// elementary streams' units, and one file for each kind of elementary stream.
package ts

// PacketSize is the size of a transport packet (13818-1 §2.4.3.2).
const PacketSize = 188

const (
	syncByte = 0x47
	patPID   = 0
	nullPID  = 0x1fff
)

// packet is the header of a transport packet, and its payload, which is a view
// of it.
type packet struct {
	pid       uint16
	corrupt   bool // the demodulator or modulator says so, or the header lies
	start     bool // payload_unit_start_indicator
	scrambled bool
	counter   uint8
	// discontinuity and random are the indicators of the adaptation field.
	discontinuity, random bool
	payload               []byte // nil when the packet has none, which does not count
}

// readPacket reads the PacketSize bytes at b (13818-1 §2.4.3.2 and §2.4.3.4).
func readPacket(b []byte) packet {
	p := packet{
		pid:       uint16(b[1]&0x1f)<<8 | uint16(b[2]),
		corrupt:   b[1]&0x80 != 0,
		start:     b[1]&0x40 != 0,
		scrambled: b[3]&0xc0 != 0,
		counter:   b[3] & 0x0f,
	}
	body := b[4:PacketSize]
	if b[3]&0x20 != 0 { // adaptation field
		n := int(body[0])
		if n >= len(body) { // its own length byte leaves 183
			p.corrupt = true
			return p
		}
		if n > 0 {
			p.discontinuity = body[1]&0x80 != 0
			p.random = body[1]&0x40 != 0
		}
		body = body[1+n:]
	}
	if b[3]&0x10 != 0 {
		p.payload = body
	}
	return p
}

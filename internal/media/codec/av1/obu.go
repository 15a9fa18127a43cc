// Package av1 reads what a server needs of AV1 (AV1 Bitstream & Decoding
// Process Specification) and of its file format (AV1 Codec ISO Media File
// Format Binding): configuration records, sequence headers and the open
// bitstream units of a temporal unit.
//
// Track is the function to read first: it turns the configuration a sender
// gives into a media.Track. NormalizePayload is the one called for every
// packet.
package av1

import "errors"

// OBUType is obu_type (§6.2.2).
type OBUType uint8

// The types of open bitstream units that are told apart.
const (
	OBUSequenceHeader    OBUType = 1
	OBUTemporalDelimiter OBUType = 2
	OBUFrameHeader       OBUType = 3
	OBUFrame             OBUType = 6
	OBUPadding           OBUType = 15
)

var (
	errShort = errors.New("av1: an open bitstream unit is longer than the data that is left")
	errSize  = errors.New("av1: the size of an open bitstream unit is not a number of at most 32 bits")
)

// scanner walks open bitstream units. It copies nothing.
type scanner struct {
	rest  []byte
	whole []byte // the current unit, header included
	body  []byte
	err   error
}

func scan(b []byte) scanner { return scanner{rest: b} }

// next goes to the next unit; false at the end and on an error. The last one
// may lack a size (§5.3.1).
func (s *scanner) next() bool {
	if s.err != nil || len(s.rest) == 0 {
		return false
	}
	head := 1
	if s.rest[0]&0x04 != 0 { // obu_extension_flag
		head = 2
	}
	if len(s.rest) < head {
		s.err = errShort
		return false
	}
	end := len(s.rest)
	if s.rest[0]&0x02 != 0 { // obu_has_size_field
		size, n := leb128(s.rest[head:])
		if n == 0 {
			s.err = errSize
			return false
		}
		head += n
		if size > len(s.rest)-head {
			s.err = errShort
			return false
		}
		end = head + size
	}
	s.whole, s.body, s.rest = s.rest[:end:end], s.rest[head:end:end], s.rest[end:]
	return true
}

func (s *scanner) kind() OBUType { return OBUType(s.whole[0] >> 3 & 15) }

// leb128 reads a number of at most 32 bits and the bytes it takes, 0 when
// there is none (§4.10.5).
func leb128(b []byte) (v, n int) {
	var x uint64
	for i := range min(8, len(b)) {
		x |= uint64(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			if x > 1<<32-1 {
				return 0, 0
			}
			return int(x), i + 1 //nolint:gosec // 32 bits
		}
	}
	return 0, 0
}

func appendLEB128(b []byte, v int) []byte {
	for ; v > 0x7f; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

// findSequence is the body of the first sequence header in b; nil when there
// is none or b cannot be read that far.
func findSequence(b []byte) []byte {
	for s := scan(b); s.next(); {
		if s.kind() == OBUSequenceHeader {
			return s.body
		}
	}
	return nil
}

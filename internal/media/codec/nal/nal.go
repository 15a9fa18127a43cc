// Package nal walks and packs the NAL units of H.264 and HEVC as the file
// format holds them, each behind its length (ISO/IEC 14496-15 §4.3.2). What a
// unit means stands in h264 and hevc.
//
// Scanner is the type to read first.
package nal

import (
	"encoding/binary"
	"errors"

	"github.com/klive-media/klive/internal/media"
)

// What a payload of length-prefixed NAL units can be wrong in.
var (
	ErrLengthSize = errors.New("nal: the size of a NAL unit's length is not 1 to 4 bytes")
	ErrShort      = errors.New("nal: a NAL unit is longer than the data that is left")
)

// Scanner walks the NAL units of a payload in which each stands behind its
// length. It copies nothing.
type Scanner struct {
	rest []byte
	size int
	nal  []byte
	err  error
}

// Scan makes a Scanner for lengths of size bytes, 1 to 4.
func Scan(payload []byte, size int) Scanner {
	if size < 1 || size > 4 {
		return Scanner{err: ErrLengthSize}
	}
	return Scanner{rest: payload, size: size}
}

// Next goes to the next NAL unit; false at the end and on an error.
func (s *Scanner) Next() bool {
	if s.err != nil || len(s.rest) == 0 {
		return false
	}
	if len(s.rest) < s.size {
		s.err = ErrShort
		return false
	}
	n := 0
	for _, b := range s.rest[:s.size] {
		n = n<<8 | int(b)
	}
	if n > len(s.rest)-s.size {
		s.err = ErrShort
		return false
	}
	s.nal, s.rest = s.rest[s.size:s.size+n:s.size+n], s.rest[s.size+n:]
	return true
}

// NAL is the current NAL unit, header included; a view of the payload. It can
// be empty.
func (s *Scanner) NAL() []byte { return s.nal }

// Left is the number of bytes behind the current NAL unit.
func (s *Scanner) Left() int { return len(s.rest) }

// Err is what ended the walk early, nil at the end of the payload.
func (s *Scanner) Err() error { return s.err }

// Pack leaves out the NAL units of payload that are empty or surplus and puts
// the others behind 4-byte lengths. When what stays stands together behind
// 4-byte lengths already, the result is that part of payload and nothing is
// copied; else it is carved from slab. The result is empty when nothing is
// left. payload is not written. Errors are those of Scanner.
func Pack(slab *media.Slab, payload []byte, lengthSize int, surplus func(nal []byte) bool) ([]byte, error) {
	keep := 0        // bytes of the result
	from, to := 0, 0 // what is kept lies between
	s := Scan(payload, lengthSize)
	for s.Next() {
		nal := s.NAL()
		if len(nal) == 0 || surplus(nal) {
			continue
		}
		to = len(payload) - len(s.rest)
		if keep == 0 {
			from = to - len(nal) - lengthSize
		}
		keep += 4 + len(nal)
	}
	if s.err != nil {
		return nil, s.err
	}
	if lengthSize == 4 && keep == to-from {
		return payload[from:to:to], nil
	}
	out := slab.Alloc(keep)
	at := 0
	for s = Scan(payload, lengthSize); s.Next(); {
		nal := s.NAL()
		if len(nal) == 0 || surplus(nal) {
			continue
		}
		binary.BigEndian.PutUint32(out[at:], uint32(len(nal))) //nolint:gosec // lengths came from at most 4 bytes
		at += 4 + copy(out[at+4:], nal)
	}
	return out, nil
}

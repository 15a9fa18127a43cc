// Package h264 reads what a server needs of H.264 (ITU-T H.264, ISO/IEC
// 14496-10) and of its file format (ISO/IEC 14496-15): configuration records,
// sequence parameter sets and the NAL units of an access unit.
//
// Track is the function to read first: it turns the configuration a sender
// gives into a media.Track. NormalizePayload is the one called for every
// packet.
package h264

import (
	"errors"

	"github.com/klive-media/klive/internal/media/codec/bits"
)

// NALType is nal_unit_type (H.264 table 7-1).
type NALType uint8

// The types of NAL units that are told apart.
const (
	NALSlice      NALType = 1
	NALPartitionA NALType = 2
	NALIDR        NALType = 5
	NALSEI        NALType = 6
	NALSPS        NALType = 7
	NALPPS        NALType = 8
	NALDelimiter  NALType = 9
	NALFiller     NALType = 12
	NALSPSExt     NALType = 13
)

// typeOf is the type of a NAL unit that is not empty.
func typeOf(nal []byte) NALType { return NALType(nal[0] & 0x1f) }

// isParameterSet: the file format keeps it in the configuration.
func (t NALType) isParameterSet() bool { return t == NALSPS || t == NALPPS || t == NALSPSExt }

// isSurplus: the file format wants it not in a sample (14496-15 §5.3.2), or it
// says nothing.
func (t NALType) isSurplus() bool {
	return t.isParameterSet() || t == NALDelimiter || t == NALFiller
}

// What a payload of length-prefixed NAL units can be wrong in.
var (
	errLengthSize = errors.New("h264: the size of a NAL unit's length is not 1 to 4 bytes")
	errNALShort   = errors.New("h264: a NAL unit is longer than the data that is left")
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
		return Scanner{err: errLengthSize}
	}
	return Scanner{rest: payload, size: size}
}

// Next goes to the next NAL unit; false at the end and on an error.
func (s *Scanner) Next() bool {
	if s.err != nil || len(s.rest) == 0 {
		return false
	}
	if len(s.rest) < s.size {
		s.err = errNALShort
		return false
	}
	n := 0
	for _, b := range s.rest[:s.size] {
		n = n<<8 | int(b)
	}
	if n > len(s.rest)-s.size {
		s.err = errNALShort
		return false
	}
	s.nal, s.rest = s.rest[s.size:s.size+n:s.size+n], s.rest[s.size+n:]
	return true
}

// NAL is the current NAL unit, header byte included; a view of the payload. It
// can be empty.
func (s *Scanner) NAL() []byte { return s.nal }

// Err is what ended the walk early, nil at the end of the payload.
func (s *Scanner) Err() error { return s.err }

// recoveryPoint is payloadType 6 (H.264 §D.1.8).
const recoveryPoint = 6

// findRecoveryPoint looks for a recovery point message in a SEI NAL unit and
// gives the number of frames until the picture is right again.
func findRecoveryPoint(sei []byte) (frames int, ok bool) {
	r := bits.NewNALReader(sei[1:])
	for r.Left() > 16 && r.Err() == nil { // the smallest message and the trailing bits
		kind, size := seiNumber(&r), seiNumber(&r)
		if kind == recoveryPoint && r.Err() == nil {
			n := r.UE(maxFrameNum)
			return int(n), r.Err() == nil
		}
		r.Skip(8 * size)
	}
	return 0, false
}

// maxFrameNum bounds recovery_frame_cnt: MaxFrameNum is at most 2^16.
const maxFrameNum = 1 << 16

// seiNumber reads a payload type or size: bytes are added up until one is not
// 255 (H.264 §7.3.2.3.1).
func seiNumber(r *bits.Reader) int {
	n := 0
	for r.Err() == nil {
		b := int(r.U(8))
		n += b
		if b != 255 {
			break
		}
	}
	return n
}

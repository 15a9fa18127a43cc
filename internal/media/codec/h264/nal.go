// Package h264 reads what a server needs of H.264 (ITU-T H.264, ISO/IEC
// 14496-10) and of its file format (ISO/IEC 14496-15): configuration records,
// sequence parameter sets and the NAL units of an access unit.
//
// Track is the function to read first: it turns the configuration a sender
// gives into a media.Track. NormalizePayload is the one called for every
// packet.
package h264

import (
	"github.com/klive-media/klive/internal/media/codec/bits"
	"github.com/klive-media/klive/internal/media/codec/nal"
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

// Scanner walks the NAL units of a payload in which each stands behind its
// length. It copies nothing.
type Scanner = nal.Scanner

// Scan makes a Scanner for lengths of size bytes, 1 to 4.
func Scan(payload []byte, size int) Scanner { return nal.Scan(payload, size) }

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

package rtmp

import (
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/rtmp/chunk"
)

// The NAL unit types of H.264 table 7-1 that matter at the door.
const (
	nalSlice        = 1
	nalIDR          = 5
	nalSPS          = 7
	nalPPS          = 8
	nalDelimiter    = 9
	nalEndSequence  = 10
	nalEndStream    = 11
	nalFiller       = 12
	nalSPSExtension = 13
)

// nalLengthSize is the size of the lengths in a packet's payload.
const nalLengthSize = 4

// accessUnit is what a walk over the NAL units of one access unit finds.
type accessUnit struct {
	pictures  int // slices
	idr       bool
	reference bool // some slice is needed by other pictures
	dirty     bool // has NAL units that do not belong in a sample
	size      int  // of the sample without them, with 4-byte lengths
	sps, pps  [][]byte
}

// scanAVC walks over the NAL units of b, which stand behind lengths of
// lengthSize bytes (ISO/IEC 14496-15 section 5.3.2). The parameter sets found
// are views of b. A NAL unit that does not end within b is an error.
func scanAVC(b []byte, lengthSize int) (u accessUnit, err error) {
	u.dirty = lengthSize != nalLengthSize
	for len(b) > 0 {
		nal, rest, ok := nextNAL(b, lengthSize)
		if !ok {
			return u, fault.New(fault.BadMedia, "an H.264 frame holds a NAL unit that is longer than the frame")
		}
		b = rest
		if len(nal) == 0 {
			u.dirty = true
			continue
		}
		switch typ := nal[0] & 0x1f; {
		case typ >= nalSlice && typ <= nalIDR:
			u.pictures++
			u.idr = u.idr || typ == nalIDR
			u.reference = u.reference || nal[0]&0x60 != 0
		case typ == nalSPS:
			u.sps = append(u.sps, nal)
		case typ == nalPPS:
			u.pps = append(u.pps, nal)
		}
		if foreign(nal[0]) {
			u.dirty = true
		} else {
			u.size += nalLengthSize + len(nal)
		}
	}
	return u, nil
}

// foreign reports whether a NAL unit with this first byte stays out of
// samples: parameter sets stand in the configuration, delimiters and fillers
// belong to byte streams.
func foreign(first byte) bool {
	switch first & 0x1f {
	case nalSPS, nalPPS, nalSPSExtension, nalDelimiter, nalEndSequence, nalEndStream, nalFiller:
		return true
	}
	return false
}

// cleanAVC copies the NAL units of b, which scanAVC found sound and of size
// bytes, without the foreign ones and with 4-byte lengths, to memory of alloc.
func cleanAVC(alloc chunk.Allocator, b []byte, lengthSize, size int) []byte {
	out := alloc.Alloc(size)[:0]
	for len(b) > 0 {
		nal, rest, _ := nextNAL(b, lengthSize)
		b = rest
		if n := len(nal); n > 0 && !foreign(nal[0]) {
			out = append(out, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
			out = append(out, nal...)
		}
	}
	return out
}

// nextNAL cuts the first NAL unit off b.
func nextNAL(b []byte, lengthSize int) (nal, rest []byte, ok bool) {
	if len(b) < lengthSize {
		return nil, nil, false
	}
	n := 0
	for _, c := range b[:lengthSize] {
		n = n<<8 | int(c)
	}
	b = b[lengthSize:]
	if n > len(b) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

package h264

import (
	"encoding/binary"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

// Info is what the NAL units of an access unit tell.
type Info struct {
	// Slices is the number of slices; 0 means that there is no picture in it.
	Slices int
	// IDR: decoding can start here and nothing before it is needed.
	IDR bool
	// Recovery: a recovery point stands here, from which decoding can start and
	// is right after RecoveryFrames frames: 0 for the key frame of an open GOP,
	// more for a stream with periodic intra refresh.
	Recovery       bool
	RecoveryFrames int
	// Droppable: no other picture refers to this one.
	Droppable bool
	// ParameterSets: there were some, see UpdateConfig.
	ParameterSets bool
}

// NormalizePayload makes of an access unit what a media.Packet holds: NAL
// units behind 4-byte lengths, without parameter sets, delimiters, filler and
// empty units. When what is to stay stands together behind 4-byte lengths, as
// it does with nearly every encoder, the result is that part of payload and
// nothing is copied; else it is carved from slab. The result is empty when
// nothing is left. payload is not written. Errors are fault.BadMedia.
func NormalizePayload(slab *media.Slab, payload []byte, lengthSize int) ([]byte, Info, error) {
	var info Info
	info.Droppable = true
	keep := 0        // bytes of the result
	from, to := 0, 0 // what is kept lies between
	s := Scan(payload, lengthSize)
	for s.Next() {
		nal := s.NAL()
		if len(nal) == 0 || typeOf(nal).isSurplus() {
			info.ParameterSets = info.ParameterSets || len(nal) > 0 && typeOf(nal).isParameterSet()
			continue
		}
		to = len(payload) - s.Left()
		if keep == 0 {
			from = to - len(nal) - lengthSize
		}
		keep += 4 + len(nal)
		info.note(nal)
	}
	if err := s.Err(); err != nil {
		return nil, Info{}, fault.New(fault.BadMedia, "an H.264 packet cannot be read").Because(err)
	}
	info.Droppable = info.Droppable && info.Slices > 0
	if lengthSize == 4 && keep == to-from {
		return payload[from:to:to], info, nil
	}
	out := slab.Alloc(keep)
	at := 0
	for s = Scan(payload, lengthSize); s.Next(); {
		nal := s.NAL()
		if len(nal) == 0 || typeOf(nal).isSurplus() {
			continue
		}
		binary.BigEndian.PutUint32(out[at:], uint32(len(nal))) //nolint:gosec // lengths came from at most 4 bytes
		at += 4 + copy(out[at+4:], nal)
	}
	return out, info, nil
}

func (i *Info) note(nal []byte) {
	switch typeOf(nal) {
	case NALIDR:
		i.IDR = true
		fallthrough
	case NALSlice, NALPartitionA:
		i.Slices++
		if nal[0]&0x60 != 0 { // nal_ref_idc
			i.Droppable = false
		}
	case NALSEI:
		if frames, ok := findRecoveryPoint(nal); ok {
			i.Recovery, i.RecoveryFrames = true, frames
		}
	}
}

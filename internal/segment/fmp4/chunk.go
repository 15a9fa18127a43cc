package fmp4

import "encoding/binary"

// Sample is what a chunk's header says of one sample.
type Sample struct {
	Size     uint32 // bytes
	Duration uint32 // ticks
	Offset   int32  // composition time minus decode time, ticks
	Flags    uint32 // KeyFlags, DeltaFlags, DisposableFlags
}

// Sample flags (ISO/IEC 14496-12, 8.8.3.1).
const (
	// KeyFlags: depends on no other sample.
	KeyFlags uint32 = 2 << 24
	// DeltaFlags: depends on others and is no sync sample.
	DeltaFlags uint32 = 1<<24 | 1<<16
	// DisposableFlags: like DeltaFlags, and no other sample depends on it.
	DisposableFlags uint32 = DeltaFlags | 2<<22

	nonSync uint32 = 1 << 16
)

// Flags of tfhd and trun (8.8.7, 8.8.8).
const (
	tfhdDefaultDuration  = 0x000008
	tfhdDefaultFlags     = 0x000020
	tfhdBaseIsMoof       = 0x020000
	trunDataOffset       = 0x000001
	trunFirstSampleFlags = 0x000004
	trunDuration         = 0x000100
	trunSize             = 0x000200
	trunFlags            = 0x000400
	trunComposition      = 0x000800
	signedComposition    = 1 << 24 // version 1 of trun
)

const (
	mfhdSize = 16
	tfdtSize = 20
)

// shape is which fields a chunk's header spells out per sample.
type shape struct {
	duration, flags, first, composition bool
}

// shapeOf finds the smallest header that says all of the samples.
func shapeOf(samples []Sample) shape {
	var s shape
	for i := range samples {
		x := &samples[i]
		s.duration = s.duration || x.Duration != samples[0].Duration
		s.composition = s.composition || x.Offset != 0
		if i == 0 {
			continue
		}
		if i == 1 {
			s.first = x.Flags != samples[0].Flags
		} else if x.Flags != samples[1].Flags {
			s.flags = true
		}
	}
	s.first = s.first && !s.flags
	return s
}

// Chunk makes the header of a chunk of one track: moof and the head of mdat,
// in one allocation of exact size. The samples' bytes, in the same order,
// follow it in the file. samples must not be empty; it is not retained.
// sequence is mfhd's number; base is the decode time of the first sample in
// ticks since stream time 0.
func Chunk(sequence, trackID uint32, base uint64, samples []Sample) []byte {
	s := shapeOf(samples)
	perSample := 4
	trun := 20 // head, version and flags, count, data offset
	tfhd := 20 // head, version and flags, track, default flags
	trunF, tfhdF := uint32(trunDataOffset|trunSize), uint32(tfhdBaseIsMoof|tfhdDefaultFlags)
	if s.duration {
		trunF |= trunDuration
		perSample += 4
	} else {
		tfhdF |= tfhdDefaultDuration
		tfhd += 4
	}
	if s.flags {
		trunF |= trunFlags
		perSample += 4
	}
	if s.first {
		trunF |= trunFirstSampleFlags
		trun += 4
	}
	if s.composition {
		trunF |= trunComposition | signedComposition
		perSample += 4
	}
	trun += perSample * len(samples)
	traf := boxHead + tfhd + tfdtSize + trun
	moof := boxHead + mfhdSize + traf

	mdat := uint32(boxHead)
	for i := range samples {
		mdat += samples[i].Size
	}
	defaultFlags := samples[len(samples)-1].Flags

	b := make([]byte, 0, moof+boxHead)
	b = head(b, uint32(moof), "moof") //nolint:gosec // bounded by the number of samples of a chunk
	b = head(b, mfhdSize, "mfhd")
	b = u32(u32(b, 0), sequence)
	b = head(b, uint32(traf), "traf") //nolint:gosec // see moof
	b = head(b, uint32(tfhd), "tfhd") //nolint:gosec // 20 or 24
	b = u32(u32(b, tfhdF), trackID)
	if !s.duration {
		b = u32(b, samples[0].Duration)
	}
	b = u32(b, defaultFlags)
	b = head(b, tfdtSize, "tfdt")
	b = u32(b, 1<<24) // version 1: 64 bits
	b = binary.BigEndian.AppendUint64(b, base)
	b = head(b, uint32(trun), "trun")            //nolint:gosec // see moof
	b = u32(u32(b, trunF), uint32(len(samples))) //nolint:gosec // see moof
	b = u32(b, uint32(moof+boxHead))             //nolint:gosec // see moof
	if s.first {
		b = u32(b, samples[0].Flags)
	}
	for i := range samples {
		x := &samples[i]
		if s.duration {
			b = u32(b, x.Duration)
		}
		b = u32(b, x.Size)
		if s.flags {
			b = u32(b, x.Flags)
		}
		if s.composition {
			b = u32(b, uint32(x.Offset)) //nolint:gosec // two's complement is what trun version 1 holds
		}
	}
	return head(b, mdat, "mdat")
}

func u32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }

func head(b []byte, size uint32, name string) []byte {
	return append(u32(b, size), name...)
}

package hevc

import (
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/nal"
)

// Info is what the NAL units of an access unit tell.
type Info struct {
	// Slices is the number of slices; 0 means that there is no picture in it.
	Slices int
	// RandomAccess: decoding can start here. Behind a CRA or BLA picture some
	// pictures that are shown before it may be missing.
	RandomAccess bool
	// Droppable: no other picture refers to this one.
	Droppable bool
	// ParameterSets: there were some, see UpdateConfig.
	ParameterSets bool
}

// NormalizePayload makes of an access unit what a media.Packet holds: NAL
// units behind 4-byte lengths, without parameter sets, delimiters, filler and
// empty units. layers is how many temporal sub-layers the stream has, 0 when
// that is not known. When what is to stay stands together behind 4-byte
// lengths, the result is that part of payload and nothing is copied; else it
// is carved from slab. The result is empty when nothing is left. payload is
// not written. Errors are fault.BadMedia.
func NormalizePayload(slab *media.Slab, payload []byte, lengthSize, layers int) ([]byte, Info, error) {
	info := Info{Droppable: layers > 0}
	for s := nal.Scan(payload, lengthSize); s.Next(); {
		if n := s.NAL(); len(n) >= headSize {
			info.note(n, layers)
		}
	}
	info.Droppable = info.Droppable && info.Slices > 0
	out, err := nal.Pack(slab, payload, lengthSize, isSurplus)
	if err != nil {
		return nil, Info{}, fault.New(fault.BadMedia, "an HEVC packet cannot be read").Because(err)
	}
	return out, info, nil
}

func (i *Info) note(n []byte, layers int) {
	t := typeOf(n)
	if t.isParameterSet() {
		i.ParameterSets = true
	}
	if t > lastSlice {
		return
	}
	i.Slices++
	i.RandomAccess = i.RandomAccess || t.isRandomAccess()
	// A picture that its own sub-layer does not refer to may still be needed by
	// a higher one.
	if t > maxNonReference || t&1 == 1 || temporalID(n)+1 < layers {
		i.Droppable = false
	}
}

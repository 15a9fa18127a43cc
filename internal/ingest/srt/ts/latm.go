package ts

import (
	"bytes"
	"errors"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/aac"
	"github.com/klive-media/klive/internal/media/codec/bits"
)

// errLATM is about what of LATM is not read: more than one program, layer or
// frame in a multiplex element, frames of a fixed size, and channels that only
// a program config element tells. No broadcast encoder sends them.
var errLATM = errors.New("ts: a LATM multiplex of this kind is not supported")

var errLATMLength = errors.New("ts: a LATM frame is longer than its multiplex element")

// loasHeader is syncword and length of an AudioSyncStream.
const loasHeader = 3

// latm reads AAC in LATM multiplex elements behind LOAS headers (ISO/IEC
// 14496-3 §1.7).
type latm struct {
	config []byte // the AudioSpecificConfig in force
}

// size implements framing.
func (*latm) size(b []byte) int {
	switch {
	case len(b) > 0 && b[0] != 0x56, len(b) > 1 && b[1]&0xe0 != 0xe0: // syncword 0x2b7
		return -1
	case len(b) < loasHeader:
		return 0
	}
	return loasHeader + int(b[1]&0x1f)<<8 + int(b[2])
}

// sync implements framing.
func (*latm) sync(b []byte) int {
	if n := bytes.IndexByte(b[1:], 0x56); n >= 0 {
		return 1 + n
	}
	return len(b)
}

// frame implements framing: AudioMuxElement(1).
func (l *latm) frame(b []byte, slab *media.Slab) ([]byte, *media.Track, error) {
	r := bits.NewReader(b[loasHeader:])
	var track *media.Track
	if !r.Flag() { // useSameStreamMux
		config, err := streamMux(&r)
		if err != nil {
			return nil, nil, err
		}
		if !bytes.Equal(config, l.config) {
			if track, err = aac.Track(config); err != nil {
				return nil, nil, err
			}
			l.config = config
		}
	}
	if l.config == nil {
		return nil, nil, errNoConfig
	}
	n := 0 // PayloadLengthInfo
	for r.Err() == nil {
		c := int(r.U(8))
		n += c
		if c != 255 {
			break
		}
	}
	if r.Err() != nil || 8*n > r.Left() {
		return nil, nil, errLATMLength
	}
	payload := slab.Alloc(n)
	for i := range payload { // seldom on a byte's boundary
		payload[i] = byte(r.U(8)) //nolint:gosec // 8 bits
	}
	return payload, track, nil
}

// streamMux is StreamMuxConfig() and gives the AudioSpecificConfig.
func streamMux(r *bits.Reader) ([]byte, error) {
	version := r.U(1)
	if version == 1 {
		if r.Flag() { // audioMuxVersionA
			return nil, errLATM
		}
		latmValue(r) // taraBufferFullness
	}
	same, frames, programs, layers := r.Flag(), r.U(6), r.U(4), r.U(3)
	if r.Err() == nil && (!same || frames != 0 || programs != 0 || layers != 0) {
		return nil, errLATM
	}
	var config []byte
	var err error
	if version == 0 {
		config, err = copyConfig(r)
	} else {
		config, err = measuredConfig(r)
	}
	if err != nil {
		return nil, err
	}
	if r.U(3) != 0 { // frameLengthType
		return nil, errLATM
	}
	r.Skip(8)     // latmBufferFullness
	if r.Flag() { // otherDataPresent
		if version == 1 {
			latmValue(r)
		} else {
			for r.Err() == nil {
				more := r.Flag()
				r.Skip(8)
				if !more {
					break
				}
			}
		}
	}
	if r.Flag() { // crcCheckPresent
		r.Skip(8)
	}
	return config, r.Err()
}

// latmValue is LatmGetValue().
func latmValue(r *bits.Reader) uint32 {
	n := r.U(2)
	v := uint32(0)
	for range n + 1 {
		v = v<<8 | r.U(8)
	}
	return v
}

// measuredConfig reads an AudioSpecificConfig that says its length in bits, as
// from version 1 on.
func measuredConfig(r *bits.Reader) ([]byte, error) {
	n := int(latmValue(r))
	if n > 8*aac.MaxConfig || n > r.Left() {
		return nil, errLATMLength
	}
	var w bits.Writer
	for ; n > 0; n -= 8 {
		k := min(n, 8)
		w.U(k, r.U(k))
	}
	return w.Bytes(), r.Err()
}

// copyConfig reads an AudioSpecificConfig whose end is found by reading it
// (14496-3 §1.6.2.1 and §4.4.1).
func copyConfig(r *bits.Reader) ([]byte, error) {
	var w bits.Writer
	field := func(n int) uint32 {
		v := r.U(n)
		w.U(n, v)
		return v
	}
	rate := func() {
		if field(4) == 15 {
			field(24)
		}
	}
	object := field(5)
	rate()
	channels := field(4)
	if object == uint32(aac.SBR) || object == uint32(aac.PS) {
		rate()
		object = field(5)
	}
	if object < uint32(aac.Main) || object > uint32(aac.LTP) || channels == 0 {
		if r.Err() != nil {
			return nil, r.Err()
		}
		return nil, errLATM
	}
	field(1)           // frameLengthFlag
	if field(1) == 1 { // dependsOnCoreCoder
		field(14)
	}
	field(1) // extensionFlag
	return w.Bytes(), r.Err()
}

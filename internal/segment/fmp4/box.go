// Package fmp4 writes and walks the ISO-BMFF boxes of CMAF: init sections, the
// header of a chunk (moof and the head of mdat), and back from the bytes of a
// segment to its chunks (ISO/IEC 14496-12, 23000-19).
//
// It is our own because it is the hot path: a chunk's header is one allocation
// of known size, and the samples' bytes are never copied.
package fmp4

import "encoding/binary"

// boxHead is the length of a box's size and type.
const boxHead = 8

// writer appends boxes to a slice; sizes are set when a box is closed.
type writer struct{ b []byte }

func (w *writer) u8(v ...byte)   { w.b = append(w.b, v...) }
func (w *writer) u16(v uint16)   { w.b = binary.BigEndian.AppendUint16(w.b, v) }
func (w *writer) u32(v uint32)   { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *writer) str(s string)   { w.b = append(w.b, s...) }
func (w *writer) raw(b []byte)   { w.b = append(w.b, b...) }
func (w *writer) zero(n int)     { w.b = append(w.b, make([]byte, n)...) }
func (w *writer) full(v uint32)  { w.u32(v) } // version and flags of a FullBox
func (w *writer) fixed(v uint32) { w.u32(v << 16) }

// box writes a box whose content is what body writes.
func (w *writer) box(name string, body func()) {
	at := len(w.b)
	w.u32(0)
	w.str(name)
	body()
	binary.BigEndian.PutUint32(w.b[at:], uint32(len(w.b)-at)) //nolint:gosec // an init section is a few hundred bytes
}

// child finds the first box of this name among the boxes in b and returns it
// whole, head included; nil when there is none.
func child(b []byte, name string) []byte {
	for len(b) >= boxHead {
		size := binary.BigEndian.Uint32(b)
		if size < boxHead || uint64(size) > uint64(len(b)) {
			return nil
		}
		if string(b[4:boxHead]) == name {
			return b[:size]
		}
		b = b[size:]
	}
	return nil
}

// Package mp4 makes progressive MP4 files (moov in front) of CMAF chunks that
// are in files already, and reads such files back (ISO/IEC 14496-12).
//
// It is the other end of package fmp4: what that package wrote chunk by chunk
// is gathered here into the tables of a moov. The media's bytes are never in
// memory: they are copied from file to file, by the kernel where it can.
//
// Movie is the type to read first.
package mp4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// boxHead is the length of a box's size and type.
const boxHead = 8

// ErrMalformed is the error for bytes that are not the boxes they should be.
var ErrMalformed = errors.New("malformed MP4")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// writer appends boxes to a slice; sizes are set when a box is closed.
type writer struct {
	b       []byte
	offsets []region // co64 tables, whose entries are relative until finish
}

// region is a table of 64-bit offsets in the writer.
type region struct{ at, count int }

func (w *writer) u8(v ...byte)     { w.b = append(w.b, v...) }
func (w *writer) u16(v uint16)     { w.b = binary.BigEndian.AppendUint16(w.b, v) }
func (w *writer) u32(v uint32)     { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64)     { w.b = binary.BigEndian.AppendUint64(w.b, v) }
func (w *writer) str(s string)     { w.b = append(w.b, s...) }
func (w *writer) raw(b []byte)     { w.b = append(w.b, b...) }
func (w *writer) zero(n int)       { w.b = append(w.b, make([]byte, n)...) }
func (w *writer) count(n int)      { w.u32(uint32(n)) } //nolint:gosec // entries of a table, far below 2^32
func (w *writer) full(v, f uint32) { w.u32(v<<24 | f) } // version and flags of a FullBox
func (w *writer) ticks(v int64)    { w.u64(uint64(v)) } //nolint:gosec // two's complement is what the box holds

// box writes a box whose content is what body writes.
func (w *writer) box(name string, body func()) {
	at := len(w.b)
	w.u32(0)
	w.str(name)
	body()
	binary.BigEndian.PutUint32(w.b[at:], uint32(len(w.b)-at)) //nolint:gosec // bounded by maxMoov
}

// finish makes the chunk offsets absolute: they are relative to base until then.
func (w *writer) finish(base int64) {
	for _, r := range w.offsets {
		for i := range r.count {
			p := w.b[r.at+8*i:]
			binary.BigEndian.PutUint64(p, binary.BigEndian.Uint64(p)+uint64(base)) //nolint:gosec // a place in a file
		}
	}
}

// Box is where a box stands in a file.
type Box struct {
	Name string
	At   int64 // of its head
	Head int64 // length of the head
	Size int64 // with the head
}

// ReadBox reads the head of the box at a place; it must end at end or before.
// The error is ErrMalformed or that of reading; io.ErrUnexpectedEOF is a box
// that is cut short.
func ReadBox(r io.ReaderAt, at, end int64) (Box, error) {
	var head [2 * boxHead]byte
	if end-at < boxHead {
		return Box{}, io.ErrUnexpectedEOF
	}
	n := min(end-at, int64(len(head)))
	if m, err := r.ReadAt(head[:n], at); err != nil && (!errors.Is(err, io.EOF) || int64(m) < n) {
		return Box{}, fmt.Errorf("read box: %w", err)
	}
	x := Box{Name: string(head[4:8]), At: at, Head: boxHead, Size: int64(binary.BigEndian.Uint32(head[:]))}
	if x.Size == 1 { // 4.2: a size of 64 bits follows
		if n < int64(len(head)) {
			return Box{}, io.ErrUnexpectedEOF
		}
		size := binary.BigEndian.Uint64(head[8:])
		if size > 1<<62 {
			return Box{}, malformed("a box of %d bytes", size)
		}
		x.Head, x.Size = int64(len(head)), int64(size)
	}
	if x.Size < x.Head {
		return Box{}, malformed("box %q is %d bytes long", x.Name, x.Size)
	}
	if x.Size > end-at {
		return x, io.ErrUnexpectedEOF
	}
	return x, nil
}

// read gives the content of a box that is at most limit bytes long.
func (x Box) read(r io.ReaderAt, limit int64) ([]byte, error) {
	if x.Size-x.Head > limit {
		return nil, malformed("box %q is %d bytes long, more than %d", x.Name, x.Size, limit)
	}
	b := make([]byte, x.Size-x.Head)
	if n, err := r.ReadAt(b, x.At+x.Head); err != nil && n < len(b) {
		return nil, fmt.Errorf("read box %q: %w", x.Name, err)
	}
	return b, nil
}

// each calls f with every box in b; false: they do not fill b.
func each(b []byte, f func(name string, whole, body []byte)) bool {
	for len(b) > 0 {
		if len(b) < boxHead {
			return false
		}
		size := binary.BigEndian.Uint32(b)
		if size < boxHead || uint64(size) > uint64(len(b)) {
			return false
		}
		f(string(b[4:boxHead]), b[:size], b[boxHead:size])
		b = b[size:]
	}
	return true
}

// child is the content of the first box reached by the names, each inside the
// one before; nil when there is none.
func child(b []byte, path ...string) []byte {
	for _, name := range path {
		var found []byte
		each(b, func(n string, _, body []byte) {
			if n == name && found == nil {
				found = body
			}
		})
		if found == nil {
			return nil
		}
		b = found
	}
	return b
}

// cursor reads big-endian numbers; when there are none left it gives zeros and
// bad is set.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.bad, c.b = true, nil
		return make([]byte, min(max(n, 0), 8))
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) skip(n int)  { c.take(n) }
func (c *cursor) u16() uint16 { return binary.BigEndian.Uint16(c.take(2)) }
func (c *cursor) u32() uint32 { return binary.BigEndian.Uint32(c.take(4)) }
func (c *cursor) u64() uint64 { return binary.BigEndian.Uint64(c.take(8)) }

// long reads a number that has 64 bits in version 1 of its box and 32 before.
func (c *cursor) long(version byte) uint64 {
	if version == 1 {
		return c.u64()
	}
	return uint64(c.u32())
}

// entries reads the number of entries of a table, each of width bytes, and
// checks that they are there.
func (c *cursor) entries(width int) int {
	n := c.u32()
	if uint64(n)*uint64(width) > uint64(len(c.b)) { //nolint:gosec // a few bytes
		c.bad, c.b = true, nil
		return 0
	}
	return int(n)
}

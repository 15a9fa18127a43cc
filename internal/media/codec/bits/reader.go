// Package bits reads and writes the bit fields of codec headers, most
// significant bit first.
//
// Reader is the type to read first: it remembers its first error, so that a
// parser reads twenty fields like the table in the specification and checks
// once at the end.
package bits

import "errors"

// What can be wrong with bits.
var (
	ErrShort = errors.New("bits: the data ends inside a field")
	ErrRange = errors.New("bits: a value is outside its range")
)

// Reader reads bit fields. After its first error every read gives 0. Its zero
// value is at the end of no data. It keeps the slice it was made of and never
// writes it.
type Reader struct {
	data    []byte // not yet in cur
	cur     byte
	left    int // unread bits of cur
	escaped bool
	zeros   int // zero bytes in a row before the next, while escaped
	read    int // bits read
	err     error
}

// NewReader reads b as it is.
func NewReader(b []byte) Reader { return Reader{data: b} }

// NewNALReader reads the payload of a NAL unit, leaving out the emulation
// prevention bytes: the 03 of every 00 00 03 (H.264 §7.4.1.1).
func NewNALReader(b []byte) Reader { return Reader{data: b, escaped: true} }

// Err is the first error, nil while all is well.
func (r *Reader) Err() error { return r.err }

// Fail makes err the reader's error unless it has one already.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
		r.data, r.left = nil, 0
	}
}

// Left is the number of unread bits, emulation prevention bytes included.
func (r *Reader) Left() int { return r.left + 8*len(r.data) }

func (r *Reader) fetch() bool {
	if r.escaped && r.zeros >= 2 && len(r.data) > 0 && r.data[0] == 3 {
		r.data, r.zeros = r.data[1:], 0
	}
	if len(r.data) == 0 {
		r.Fail(ErrShort)
		return false
	}
	r.cur, r.data, r.left = r.data[0], r.data[1:], 8
	if r.cur == 0 {
		r.zeros++
	} else {
		r.zeros = 0
	}
	return true
}

// U reads an unsigned field of n ≤ 32 bits: u(n).
func (r *Reader) U(n int) uint32 {
	var v uint64
	for n > 0 {
		if r.left == 0 && !r.fetch() {
			return 0
		}
		k := min(n, r.left)
		r.left -= k
		n -= k
		r.read += k
		v = v<<k | uint64(r.cur>>r.left)&(1<<k-1)
	}
	return uint32(v) //nolint:gosec // n ≤ 32
}

// Flag reads one bit.
func (r *Reader) Flag() bool { return r.U(1) == 1 }

// Skip leaves out n bits.
func (r *Reader) Skip(n int) {
	for ; n > 0 && r.err == nil; n -= 32 {
		r.U(min(n, 32))
	}
}

// Align leaves out the rest of the byte.
func (r *Reader) Align() { r.Skip((8 - r.read%8) % 8) }

// UE reads an unsigned Exp-Golomb code that must not be above limit: ue(v),
// H.264 §9.1.
func (r *Reader) UE(limit uint32) uint32 {
	zeros := 0
	for !r.Flag() {
		if r.err != nil {
			return 0
		}
		if zeros++; zeros > 31 {
			r.Fail(ErrRange)
			return 0
		}
	}
	v := uint32(1)<<zeros - 1 + r.U(zeros)
	if v > limit {
		r.Fail(ErrRange)
		return 0
	}
	return v
}

// SE reads a signed Exp-Golomb code within [-limit, limit]: se(v), H.264
// §9.1.1. limit is below 1<<31.
func (r *Reader) SE(limit uint32) int32 {
	v := r.UE(2 * limit)
	if v&1 == 1 {
		return int32(v/2 + 1) //nolint:gosec // at most limit
	}
	return -int32(v / 2) //nolint:gosec // at most limit
}

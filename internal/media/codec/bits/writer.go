package bits

// Writer appends bit fields to a slice. Its zero value is ready.
type Writer struct {
	data []byte
	free int // unwritten bits of the last byte
}

// U writes the lowest n ≤ 32 bits of v.
func (w *Writer) U(n int, v uint32) {
	for n > 0 {
		if w.free == 0 {
			w.data = append(w.data, 0)
			w.free = 8
		}
		k := min(n, w.free)
		n -= k
		w.free -= k
		part := byte(v>>n) & (1<<k - 1)
		w.data[len(w.data)-1] |= part << w.free
	}
}

// Flag writes one bit.
func (w *Writer) Flag(b bool) {
	if b {
		w.U(1, 1)
	} else {
		w.U(1, 0)
	}
}

// UE writes an unsigned Exp-Golomb code; v is below 1<<31.
func (w *Writer) UE(v uint32) {
	n := 0
	for (v+1)>>(n+1) != 0 {
		n++
	}
	w.U(n, 0)
	w.U(n+1, v+1)
}

// Bytes is what was written, the last byte filled up with zeros. The caller
// may keep it when the Writer is not used any more.
func (w *Writer) Bytes() []byte { return w.data }

// Fixed writes bit fields into a slice of zeros that is long enough, and
// allocates nothing.
type Fixed struct {
	Data []byte
	at   int // bits
}

// U writes the lowest n ≤ 32 bits of v.
func (w *Fixed) U(n int, v uint32) {
	for n--; n >= 0; n-- {
		w.Data[w.at/8] |= byte(v>>n&1) << (7 - w.at%8)
		w.at++
	}
}

// Len is how many bytes were begun.
func (w *Fixed) Len() int { return (w.at + 7) / 8 }

package mp4

import (
	"math"
	"slices"
)

// Source is a file that samples are in.
type Source struct{ Path string }

// table is what is known of the samples of a track, in order of decoding. What
// most samples have in common takes no room per sample.
type table struct {
	deltas  []delta // between decode times; the last sample's stands in length
	sizes   []uint32
	offsets []int32  // composition; nil while all are 0
	sync    []uint32 // numbers, from 1, of sync samples; nil while all are
	mixed   bool     // not all are
	chunks  []chunk

	first  int64  // decode time of the first sample
	last   int64  // of the newest
	length uint32 // of the newest
	lowest int64  // earliest composition time
	end    int64  // latest end of composition
}

// delta is a number of samples that follow each other at one distance.
type delta struct{ count, ticks uint32 }

// chunk is a number of samples whose bytes follow each other in a file.
type chunk struct {
	src     *Source
	at      int64
	bytes   int64
	dts     int64 // of the first sample
	samples uint32
	entry   uint32 // sample entry, from 1
}

// count is the number of samples.
func (t *table) count() int { return len(t.sizes) }

// add appends a sample. Its decode time is moved behind that of the sample
// before, if it is not already; it is presented when it always was.
func (t *table) add(dts int64, s Sample) {
	n := len(t.sizes)
	pts := dts + int64(s.Offset)
	if n == 0 {
		t.first, t.lowest, t.end = dts, pts, math.MinInt64
	} else {
		dts = min(max(dts, t.last+1), t.last+math.MaxUint32)
		t.step(uint32(dts - t.last)) //nolint:gosec // limited above
	}
	if off := pts - dts; off != 0 && t.offsets == nil {
		t.offsets = make([]int32, n, cap(t.sizes))
	}
	if t.offsets != nil {
		t.offsets = append(t.offsets, int32(min(max(pts-dts, math.MinInt32), math.MaxInt32))) //nolint:gosec // limited
	}
	if !s.Sync && !t.mixed {
		t.mixed = true
		t.sync = make([]uint32, 0, 64)
		for i := range n {
			t.sync = append(t.sync, uint32(i+1)) //nolint:gosec // a number of samples
		}
	}
	t.sizes = append(t.sizes, s.Size)
	if t.mixed && s.Sync {
		t.sync = append(t.sync, uint32(len(t.sizes))) //nolint:gosec // a number of samples
	}
	t.last, t.length = dts, s.Duration
	t.lowest = min(t.lowest, pts)
	t.end = max(t.end, pts+int64(s.Duration))
}

func (t *table) step(ticks uint32) {
	if n := len(t.deltas); n > 0 && t.deltas[n-1].ticks == ticks {
		t.deltas[n-1].count++
		return
	}
	t.deltas = append(t.deltas, delta{1, ticks})
}

// decoded is the decode time after the last sample.
func (t *table) decoded() int64 { return t.last + int64(t.length) }

// spacing is deltas with the last sample's.
func (t *table) spacing() []delta {
	if len(t.sizes) == 0 {
		return nil
	}
	whole := table{deltas: slices.Clone(t.deltas)}
	whole.step(t.length)
	return whole.deltas
}

// each calls f with every sample.
func (t *table) each(f func(i int, dts int64, s Sample)) {
	dts, sync := t.first, t.sync
	all := t.spacing()
	for i, size := range t.sizes {
		s := Sample{Size: size, Duration: all[0].ticks, Sync: !t.mixed}
		if t.offsets != nil {
			s.Offset = t.offsets[i]
		}
		if len(sync) > 0 && int(sync[0]) == i+1 {
			s.Sync, sync = true, sync[1:]
		}
		f(i, dts, s)
		dts += int64(all[0].ticks)
		if all[0].count--; all[0].count == 0 {
			all = all[1:]
		}
	}
}

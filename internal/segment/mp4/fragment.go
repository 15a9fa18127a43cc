package mp4

import (
	"encoding/binary"
	"errors"
	"io"
)

// Limits of what is read of a segment.
const (
	maxMoof    = 4 << 20
	maxSamples = 1 << 17 // of a run
)

// Flags of tfhd and trun (8.8.7, 8.8.8).
const (
	tfhdBaseOffset      = 0x000001
	tfhdDescription     = 0x000002
	tfhdDefaultDuration = 0x000008
	tfhdDefaultSize     = 0x000010
	tfhdDefaultFlags    = 0x000020

	trunDataOffset       = 0x000001
	trunFirstSampleFlags = 0x000004
	trunDuration         = 0x000100
	trunSize             = 0x000200
	trunFlags            = 0x000400
	trunComposition      = 0x000800

	nonSync = 1 << 16
)

// Sample is one sample of a Run.
type Sample struct {
	Size     uint32 // bytes
	Duration uint32 // ticks
	Offset   int32  // composition time minus decode time, ticks
	Sync     bool
}

// Run is a run of samples of one track whose bytes follow each other: a trun
// of a movie fragment.
type Run struct {
	Track   uint32
	Base    int64 // decode time of the first sample, ticks
	Data    int64 // where its first byte is
	Bytes   int64
	Samples []Sample // valid until the next Run
}

// Runs calls f with every run of samples in the bytes from from up to to of r:
// a segment as package fmp4 wrote it, perhaps with other boxes between its
// chunks, which are passed over. It ends with the first error: f's, the
// reader's, or ErrMalformed. What f was given before is good.
func Runs(r io.ReaderAt, from, to int64, f func(*Run) error) error {
	var samples []Sample
	for at := from; at < to; {
		x, err := ReadBox(r, at, to)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return malformed("the segment is cut short at %d", at)
		}
		if err != nil {
			return err
		}
		at += x.Size
		if x.Name != "moof" {
			continue
		}
		moof, err := x.read(r, maxMoof)
		if err != nil {
			return err
		}
		if samples, err = readMoof(moof, x.At, to, samples, f); err != nil {
			return err
		}
	}
	return nil
}

// readMoof gives the runs of a moof that stands at at. samples is room to use.
func readMoof(moof []byte, at, end int64, samples []Sample, f func(*Run) error) (room []Sample, err error) {
	ok := each(moof, func(name string, _, traf []byte) {
		if name == "traf" && err == nil {
			samples, err = readTraf(traf, at, end, samples, f)
		}
	})
	if !ok && err == nil {
		err = malformed("moof at %d", at)
	}
	return samples, err
}

// defaults are what tfhd says of samples that trun says nothing of.
type defaults struct {
	track                 uint32
	duration, size, flags uint32
}

func readTfhd(b []byte) (d defaults, ok bool) {
	c := &cursor{b: b}
	flags := c.u32() & 0xFFFFFF
	d.track = c.u32()
	if flags&tfhdBaseOffset != 0 {
		return d, false // never in CMAF (23000-19, 7.5.16)
	}
	for _, x := range [...]struct {
		bit uint32
		v   *uint32
	}{{tfhdDescription, new(uint32)}, {tfhdDefaultDuration, &d.duration}, {tfhdDefaultSize, &d.size}, {tfhdDefaultFlags, &d.flags}} {
		if flags&x.bit != 0 {
			*x.v = c.u32()
		}
	}
	return d, !c.bad
}

func readTraf(traf []byte, at, end int64, samples []Sample, f func(*Run) error) ([]Sample, error) {
	tfhd, tfdt := child(traf, "tfhd"), child(traf, "tfdt")
	d, ok := readTfhd(tfhd)
	if !ok || len(tfdt) < 8 {
		return samples, malformed("traf at %d", at)
	}
	c := &cursor{b: tfdt[4:]}
	base := c.long(tfdt[0])
	if c.bad || base > 1<<62 {
		return samples, malformed("tfdt at %d", at)
	}
	run := Run{Track: d.track, Base: int64(base), Data: at}
	var err error
	ok = each(traf, func(name string, _, trun []byte) {
		if name != "trun" || err != nil {
			return
		}
		run.Samples = samples[:0]
		if err = run.read(trun, d, at, end); err != nil {
			return
		}
		samples = run.Samples
		if err = f(&run); err != nil {
			return
		}
		for i := range run.Samples {
			run.Base += int64(run.Samples[i].Duration)
		}
		run.Data += run.Bytes
	})
	if !ok && err == nil {
		err = malformed("traf at %d", at)
	}
	return samples, err
}

// read reads a trun; Base and Data are those after the run before.
func (r *Run) read(trun []byte, d defaults, at, end int64) error {
	c := &cursor{b: trun}
	flags := c.u32() & 0xFFFFFF
	n := c.u32()
	if flags&trunDataOffset != 0 {
		r.Data = at + int64(int32(c.u32())) //nolint:gosec // signed in the box
	}
	first := d.flags
	if flags&trunFirstSampleFlags != 0 {
		first = c.u32()
	}
	width := 0
	for _, bit := range [...]uint32{trunDuration, trunSize, trunFlags, trunComposition} {
		if flags&bit != 0 {
			width += 4
		}
	}
	if c.bad || n == 0 || n > maxSamples || len(c.b) != width*int(n) {
		return malformed("trun at %d", at)
	}
	r.Bytes = 0
	rest := c.b
	next := func(bit, v uint32) uint32 {
		if flags&bit != 0 {
			v, rest = binary.BigEndian.Uint32(rest), rest[4:]
		}
		return v
	}
	for i := range int(n) {
		var s Sample
		s.Duration = next(trunDuration, d.duration)
		s.Size = next(trunSize, d.size)
		f := d.flags
		if i == 0 {
			f = first
		}
		s.Sync = next(trunFlags, f)&nonSync == 0
		s.Offset = int32(next(trunComposition, 0)) //nolint:gosec // signed in version 1, and small in version 0
		r.Samples = append(r.Samples, s)
		r.Bytes += int64(s.Size)
	}
	if r.Data < 0 || r.Bytes > end-r.Data {
		return malformed("the samples of the moof at %d are not in the segment", at)
	}
	return nil
}

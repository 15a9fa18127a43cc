package fmp4

import (
	"encoding/binary"
	"io"
)

// Limits of Walk: what no chunk of ours passes.
const (
	maxMoof    = 4 << 20
	maxSamples = 1 << 17
)

// Found is a chunk found in a segment's bytes.
type Found struct {
	Offset, Size int64  // of event messages, moof and mdat together
	Moof         int64  // where moof begins
	Base         uint64 // decode time of the first sample, ticks
	Duration     uint64 // of all samples, ticks
	Samples      int
	Key          bool // the first sample is a sync sample
}

// Walk lists the whole chunks at the beginning of r, which holds size bytes.
// It stops without an error at the first that is cut short or that it cannot
// read: what came before is good. The error is that of reading.
func Walk(r io.ReaderAt, size int64) ([]Found, error) {
	var out []Found
	var head [boxHead]byte
	for from := int64(0); from+boxHead <= size; {
		at, err := skipEvents(r, from, size)
		if err != nil || at+boxHead > size {
			return out, err
		}
		if _, err := r.ReadAt(head[:], at); err != nil {
			return out, err
		}
		moof := int64(binary.BigEndian.Uint32(head[:]))
		if string(head[4:]) != "moof" || moof < boxHead || moof > maxMoof || at+moof+boxHead > size {
			return out, nil
		}
		body := make([]byte, moof+boxHead)
		if _, err := r.ReadAt(body, at); err != nil {
			return out, err
		}
		mdat := int64(binary.BigEndian.Uint32(body[moof:]))
		f, bytes, ok := readMoof(body[:moof])
		if !ok || string(body[moof+4:]) != "mdat" || mdat != boxHead+bytes || at+moof+mdat > size {
			return out, nil
		}
		f.Offset, f.Moof, f.Size = from, at, at-from+moof+mdat
		out = append(out, f)
		from += f.Size
	}
	return out, nil
}

// readMoof reads a moof as Chunk writes it and gives the length of its
// samples' bytes.
func readMoof(moof []byte) (f Found, bytes int64, ok bool) {
	traf := child(moof[boxHead:], "traf")
	if traf == nil {
		return f, 0, false
	}
	tfhd, tfdt, trun := child(traf[boxHead:], "tfhd"), child(traf[boxHead:], "tfdt"), child(traf[boxHead:], "trun")
	if len(tfhd) < 16 || len(tfdt) != tfdtSize || len(trun) < 20 || tfdt[boxHead] != 1 {
		return f, 0, false
	}
	f.Base = binary.BigEndian.Uint64(tfdt[12:])

	flags, rest := binary.BigEndian.Uint32(tfhd[8:])&0xFFFFFF, tfhd[16:]
	var duration, sampleFlags uint32
	want := uint32(tfhdBaseIsMoof | tfhdDefaultFlags)
	if flags&^uint32(tfhdDefaultDuration) != want {
		return f, 0, false
	}
	if flags&tfhdDefaultDuration != 0 && len(rest) >= 4 {
		duration, rest = binary.BigEndian.Uint32(rest), rest[4:]
	}
	if len(rest) != 4 {
		return f, 0, false
	}
	sampleFlags = binary.BigEndian.Uint32(rest)
	bytes, ok = f.readRun(trun, duration, sampleFlags)
	return f, bytes, ok
}

// readRun adds up the samples of a trun.
func (f *Found) readRun(trun []byte, duration, sampleFlags uint32) (bytes int64, ok bool) {
	flags := binary.BigEndian.Uint32(trun[8:]) & 0xFFFFFF
	n := binary.BigEndian.Uint32(trun[12:])
	rest := trun[20:]
	first := sampleFlags
	if flags&trunFirstSampleFlags != 0 {
		if len(rest) < 4 {
			return 0, false
		}
		first, rest = binary.BigEndian.Uint32(rest), rest[4:]
	}
	width := 0
	for _, bit := range [...]uint32{trunDuration, trunSize, trunFlags, trunComposition} {
		if flags&bit != 0 {
			width += 4
		}
	}
	if n == 0 || n > maxSamples || flags&trunSize == 0 || flags&trunDataOffset == 0 || len(rest) != width*int(n) {
		return 0, false
	}
	for i := range int(n) {
		x := rest[i*width:]
		if flags&trunDuration != 0 {
			duration, x = binary.BigEndian.Uint32(x), x[4:]
		}
		f.Duration += uint64(duration)
		bytes += int64(binary.BigEndian.Uint32(x))
		if x = x[4:]; i == 0 && flags&trunFlags != 0 {
			first = binary.BigEndian.Uint32(x)
		}
	}
	f.Samples, f.Key = int(n), first&nonSync == 0
	return bytes, true
}

package mp4

import (
	"errors"
	"fmt"
	"io"
	"math"
)

// Limits of what is read of files.
const (
	maxMoov   = 1 << 30
	maxInit   = 1 << 20
	maxTracks = 64
	maxEntry  = 256 << 10 // bytes of the sample entries of a track
)

// Tracks reads the tracks of an init section: ftyp and moov, or a moov alone.
// They have no samples.
func Tracks(init []byte) ([]*Track, error) {
	if len(init) > maxInit {
		return nil, malformed("an init section of %d bytes", len(init))
	}
	moov := child(init, "moov")
	if moov == nil {
		return nil, malformed("an init section without moov")
	}
	return readTracks(moov, func(*Track, []byte) error { return nil })
}

// readTracks reads the traks of a moov; more is given each with its content.
func readTracks(moov []byte, more func(t *Track, trak []byte) error) (list []*Track, err error) {
	ok := each(moov, func(name string, _, trak []byte) {
		if name != "trak" || err != nil {
			return
		}
		var t *Track
		if t, err = readTrack(trak); err == nil {
			err = more(t, trak)
			list = append(list, t)
		}
		if len(list) > maxTracks {
			err = malformed("more than %d tracks", maxTracks)
		}
	})
	switch {
	case err != nil:
		return nil, err
	case !ok || len(list) == 0:
		return nil, malformed("moov")
	}
	return list, nil
}

func readTrack(trak []byte) (*Track, error) {
	tkhd, mdhd := child(trak, "tkhd"), child(trak, "mdia", "mdhd")
	hdlr, stsd := child(trak, "mdia", "hdlr"), child(trak, "mdia", "minf", "stbl", "stsd")
	if len(tkhd) < 4 || len(mdhd) < 4 || len(hdlr) < 12 || len(stsd) < 8 || len(stsd) > maxEntry {
		return nil, malformed("trak")
	}
	t := &Track{Handler: string(hdlr[8:12])}
	c := &cursor{b: tkhd[4:]}
	c.long(tkhd[0])
	c.long(tkhd[0])
	t.ID = c.u32()
	c.skip(4)
	c.long(tkhd[0])
	c.skip(8 + 8 + 36)
	t.Width, t.Height = c.u32(), c.u32()
	bad := c.bad
	c = &cursor{b: mdhd[4:]}
	c.long(mdhd[0])
	c.long(mdhd[0])
	t.Scale = c.u32()
	c.long(mdhd[0])
	t.Language = c.u16()
	each(child(trak, "mdia"), func(name string, whole, _ []byte) {
		if name == "elng" {
			t.extended = append([]byte(nil), whole...)
		}
	})
	ok := each(stsd[8:], func(_ string, whole, _ []byte) { t.Entries = append(t.Entries, append([]byte(nil), whole...)) })
	if bad || c.bad || !ok || t.Scale == 0 || t.ID == 0 || len(t.Entries) == 0 {
		return nil, malformed("trak %d", t.ID)
	}
	return t, nil
}

// Note finds what Movie.Note of the file was; it reads no more than the first
// few boxes. The error is ErrMalformed when the file is none of ours.
func Note(r io.ReaderAt, size int64) ([]byte, error) {
	note, _, _, err := readNote(r, size)
	return note, err
}

func readNote(r io.ReaderAt, size int64) (note []byte, scale uint32, zero int64, err error) {
	for at := int64(0); at < size; {
		x, err := ReadBox(r, at, size)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, 0, 0, malformed("the file is cut short at %d", at)
		}
		if err != nil {
			return nil, 0, 0, err
		}
		at += x.Size
		if x.Name != "uuid" {
			if x.Name == "moov" || x.Name == "mdat" {
				break
			}
			continue
		}
		b, err := x.read(r, MaxNote+28)
		if err != nil {
			return nil, 0, 0, err
		}
		if len(b) < 28 || string(b[:16]) != ours {
			continue
		}
		c := &cursor{b: b[16:]}
		scale = c.u32()
		zero = int64(c.u64()) //nolint:gosec // two's complement
		if scale == 0 || zero > math.MaxInt64/4 || zero < math.MinInt64/4 {
			return nil, 0, 0, malformed("the note's time")
		}
		return c.b, scale, zero, nil
	}
	return nil, 0, 0, malformed("the file has no note of a recording")
}

// Read reads a file that Write made: its tables, with stream times as they
// were. size is the file's length, src where Write will find it again.
func Read(r io.ReaderAt, size int64, src *Source) (*Movie, error) {
	note, scale, zero, err := readNote(r, size)
	if err != nil {
		return nil, err
	}
	var moov []byte
	for at := int64(0); at < size && moov == nil; {
		x, err := ReadBox(r, at, size)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, malformed("the file is cut short at %d", at)
		}
		if err != nil {
			return nil, err
		}
		if at += x.Size; x.Name == "moov" {
			if moov, err = x.read(r, maxMoov); err != nil {
				return nil, err
			}
		}
	}
	if moov == nil {
		return nil, malformed("the file has no moov")
	}
	m := &Movie{Note: note}
	m.Tracks, err = readTracks(moov, func(t *Track, trak []byte) error {
		return t.readTables(trak, src, size, scale, zero)
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", src.Path, err)
	}
	return m, nil
}

// firstEdit is the decode time of the track's first sample, from its edits.
func (t *Track) firstEdit(trak []byte, scale uint32, zero int64) (first int64, ok bool) {
	elst := child(trak, "edts", "elst")
	if len(elst) < 4 || elst[0] != 1 {
		return 0, false
	}
	c := &cursor{b: elst[4:]}
	n := c.entries(20)
	delay := int64(0)
	for range n {
		length, from := int64(c.u64()), int64(c.u64()) //nolint:gosec // two's complement
		c.skip(4)
		if from == -1 {
			delay += length
			continue
		}
		if length < 0 || delay < 0 || delay > math.MaxInt64/4 || from < 0 || from > math.MaxInt64/4 {
			return 0, false
		}
		return rescale(zero+delay, scale, t.Scale) - from, !c.bad
	}
	return 0, false
}

// readTables reads the sample tables of a trak.
func (t *Track) readTables(trak []byte, src *Source, size int64, scale uint32, zero int64) error {
	stbl := child(trak, "mdia", "minf", "stbl")
	dts, ok := t.firstEdit(trak, scale, zero)
	chunks, err := readChunks(stbl)
	if err != nil || !ok {
		return malformed("track %d: edits or chunks", t.ID)
	}
	x, err := newSampleReader(stbl)
	if err != nil {
		return err
	}
	var samples []Sample
	for _, c := range chunks {
		samples = samples[:0]
		first := dts
		c.bytes = 0
		for range c.samples {
			s, ok := x.next()
			if !ok {
				return malformed("track %d: fewer samples than its chunks have", t.ID)
			}
			samples = append(samples, s)
			c.bytes += int64(s.Size)
			dts += int64(s.Duration)
		}
		if c.at < 0 || c.bytes > size-c.at || int(c.entry) > len(t.Entries) || c.entry == 0 {
			return malformed("track %d: a chunk that is not in the file", t.ID)
		}
		c.src = src
		t.chunk(c, first, samples)
	}
	if x.left > 0 {
		return malformed("track %d: more samples than its chunks have", t.ID)
	}
	return nil
}

// readChunks reads stsc and co64.
func readChunks(stbl []byte) ([]chunk, error) {
	stsc, co64 := child(stbl, "stsc"), child(stbl, "co64")
	if len(stsc) < 8 || len(co64) < 8 {
		return nil, malformed("stsc or co64")
	}
	c, g := &cursor{b: co64[4:]}, &cursor{b: stsc[4:]}
	groups := g.entries(12)
	out := make([]chunk, c.entries(8))
	var next, samples, entry uint32 // next: the chunk from which the next entry counts
	if groups > 0 {
		next = g.u32()
	}
	for i := range out {
		if groups > 0 && uint32(i+1) == next { //nolint:gosec // entries of a table
			samples, entry = g.u32(), g.u32()
			if groups--; groups > 0 {
				next = g.u32()
			}
		}
		out[i] = chunk{at: int64(c.u64()), samples: samples, entry: entry} //nolint:gosec // checked by the caller
		if samples == 0 || samples > maxSamples {
			return nil, malformed("stsc")
		}
	}
	if c.bad || g.bad || groups > 0 {
		return nil, malformed("stsc or co64")
	}
	return out, nil
}

// sampleReader gives the samples that stsz, stts, ctts and stss tell of.
type sampleReader struct {
	sizes, deltas, offsets, sync *cursor
	left, number                 uint32
	delta, deltas2               uint32
	offset                       int32
	offsets2                     uint32
	nextSync                     uint32
	mixed                        bool
}

func newSampleReader(stbl []byte) (*sampleReader, error) {
	stsz, stts, ctts, stss := child(stbl, "stsz"), child(stbl, "stts"), child(stbl, "ctts"), child(stbl, "stss")
	if len(stsz) < 12 || len(stts) < 8 || ctts != nil && len(ctts) < 8 || stss != nil && len(stss) < 8 {
		return nil, malformed("stsz or stts")
	}
	x := &sampleReader{sizes: &cursor{b: stsz[8:]}, deltas: &cursor{b: stts[8:]}}
	if c := (&cursor{b: stsz[4:]}); c.u32() != 0 {
		return nil, malformed("stsz: sizes that are all the same are not ours")
	}
	x.left = uint32(x.sizes.entries(4)) //nolint:gosec // read from 32 bits
	if ctts != nil {
		x.offsets = &cursor{b: ctts[8:]}
	}
	if stss != nil {
		x.sync, x.mixed = &cursor{b: stss[8:]}, true
		x.nextSync = x.sync.u32()
	}
	return x, nil
}

// next gives the next sample; false: there is none, or its tables are bad.
func (x *sampleReader) next() (s Sample, ok bool) {
	if x.left == 0 {
		return s, false
	}
	x.left--
	x.number++
	s.Size = x.sizes.u32()
	if x.deltas2 == 0 {
		x.deltas2, x.delta = x.deltas.u32(), x.deltas.u32()
	}
	if x.offsets != nil && x.offsets2 == 0 {
		x.offsets2, x.offset = x.offsets.u32(), int32(x.offsets.u32()) //nolint:gosec // signed
	}
	if x.deltas2 == 0 || x.offsets != nil && x.offsets2 == 0 || x.sizes.bad {
		return s, false
	}
	x.deltas2--
	s.Duration = x.delta
	if x.offsets != nil {
		x.offsets2--
		s.Offset = x.offset
	}
	if s.Sync = !x.mixed || x.number == x.nextSync; s.Sync && x.mixed && len(x.sync.b) > 0 {
		x.nextSync = x.sync.u32()
	}
	return s, true
}

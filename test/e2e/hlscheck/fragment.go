package hlscheck

import (
	"encoding/binary"
	"fmt"
)

// TrackInfo is what an init section says of one track.
type TrackInfo struct {
	ID        uint32
	Timescale uint32
	Video     bool
	Width     int
	Height    int
	Codec     string // the sample entry's four characters
	defaults  sampleDefaults
}

// sampleDefaults are what trex or tfhd give samples that say nothing.
type sampleDefaults struct{ duration, size, flags uint32 }

// Sample is one sample of a fragment.
type Sample struct {
	Duration uint32 // in ticks of the track
	Sync     bool
	IDR      bool // video: the access unit holds a NAL unit of type 5
	Offset   int32
	Size     uint32
}

// TrackRun is what one fragment holds of one track.
type TrackRun struct {
	Track   TrackInfo
	Decode  uint64 // baseMediaDecodeTime in ticks
	Samples []Sample
}

// Ticks is the sum of the samples' durations.
func (r TrackRun) Ticks() uint64 {
	var n uint64
	for _, s := range r.Samples {
		n += uint64(s.Duration)
	}
	return n
}

const (
	nonSync = 1 << 16 // sample_is_non_sync_sample, ISO/IEC 14496-12 section 8.8.3.1

	avcIDR = 5
)

// box is one box: its type and its content.
type box struct {
	kind    string
	start   int // of the header, in the whole
	content []byte
}

// boxes splits b, which starts at offset base of the whole.
func boxes(b []byte, base int) ([]box, error) {
	var out []box
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, fmt.Errorf("%d bytes are left where a box header should be", len(b))
		}
		size, header := uint64(binary.BigEndian.Uint32(b)), 8
		if size == 1 && len(b) >= 16 {
			size, header = binary.BigEndian.Uint64(b[8:]), 16
		}
		if size < uint64(header) || size > uint64(len(b)) { //nolint:gosec // small
			return nil, fmt.Errorf("the box %q says %d bytes where %d are left", b[4:8], size, len(b))
		}
		out = append(out, box{kind: string(b[4:8]), start: base, content: b[header:size]})
		b, base = b[size:], base+int(size) //nolint:gosec // checked above
	}
	return out, nil
}

// find descends through the first boxes of the given kinds.
func find(b []byte, path ...string) ([]byte, error) {
	for _, kind := range path {
		list, err := boxes(b, 0)
		if err != nil {
			return nil, err
		}
		found := false
		for _, x := range list {
			if x.kind == kind {
				b, found = x.content, true
				break
			}
		}
		if !found {
			return nil, fmt.Errorf("the box %q is missing", kind)
		}
	}
	return b, nil
}

// reader takes big-endian numbers and remembers when it ran out.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || len(r.b) < n {
		r.err = fmt.Errorf("a box ends inside its fields")
		return make([]byte, n)
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

// when reads a number if the flag is set, else gives the default.
func (r *reader) when(set bool, def uint32) uint32 {
	if set {
		return r.u32()
	}
	return def
}

// ParseInit reads an init section.
func ParseInit(b []byte) ([]TrackInfo, error) {
	moov, err := find(b, "moov")
	if err != nil {
		return nil, err
	}
	list, err := boxes(moov, 0)
	if err != nil {
		return nil, err
	}
	var tracks []TrackInfo
	for _, x := range list {
		if x.kind != "trak" {
			continue
		}
		t, err := parseTrack(x.content)
		if err != nil {
			return nil, err
		}
		tracks = append(tracks, t)
	}
	mvex, err := find(moov, "mvex")
	if err != nil {
		return nil, err
	}
	list, err = boxes(mvex, 0)
	if err != nil {
		return nil, err
	}
	for _, x := range list {
		if x.kind != "trex" {
			continue
		}
		r := reader{b: x.content}
		r.u32()
		id := r.u32()
		r.u32()
		d := sampleDefaults{duration: r.u32(), size: r.u32(), flags: r.u32()}
		for i := range tracks {
			if tracks[i].ID == id {
				tracks[i].defaults = d
			}
		}
	}
	return tracks, nil
}

func parseTrack(b []byte) (t TrackInfo, err error) {
	tkhd, err := find(b, "tkhd")
	if err != nil {
		return t, err
	}
	r := reader{b: tkhd}
	version := r.u32() >> 24
	r.take(8 + 8*int(version))
	t.ID = r.u32()
	mdhd, err := find(b, "mdia", "mdhd")
	if err != nil {
		return t, err
	}
	m := reader{b: mdhd}
	version = m.u32() >> 24
	m.take(8 + 8*int(version))
	t.Timescale = m.u32()
	hdlr, err := find(b, "mdia", "hdlr")
	if err != nil {
		return t, err
	}
	if len(hdlr) < 12 {
		return t, fmt.Errorf("hdlr is too short")
	}
	t.Video = string(hdlr[8:12]) == "vide"
	stsd, err := find(b, "mdia", "minf", "stbl", "stsd")
	if err != nil {
		return t, err
	}
	if len(stsd) < 16 {
		return t, fmt.Errorf("stsd has no entry")
	}
	t.Codec = string(stsd[12:16])
	if t.Video && len(stsd) >= 8+8+28 {
		t.Width = int(binary.BigEndian.Uint16(stsd[8+8+24:]))
		t.Height = int(binary.BigEndian.Uint16(stsd[8+8+26:]))
	}
	if t.Timescale == 0 || t.ID == 0 {
		return t, fmt.Errorf("track %d has the time scale %d", t.ID, t.Timescale)
	}
	return t, errOr(r.err, m.err)
}

func errOr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// ParseFragments reads the fragments of a part or segment.
func ParseFragments(b []byte, tracks []TrackInfo) ([]TrackRun, error) {
	list, err := boxes(b, 0)
	if err != nil {
		return nil, err
	}
	var runs []TrackRun
	for i, x := range list {
		switch x.kind {
		case "moof":
			if i+1 == len(list) || list[i+1].kind != "mdat" {
				return nil, fmt.Errorf("a moof is not followed by its mdat")
			}
			more, err := parseMoof(b, x, list[i+1], tracks)
			if err != nil {
				return nil, err
			}
			runs = append(runs, more...)
		case "mdat", "styp", "sidx", "prft", "emsg":
		default:
			return nil, fmt.Errorf("a media segment holds the box %q", x.kind)
		}
	}
	if len(runs) == 0 {
		return nil, fmt.Errorf("there is no moof")
	}
	return runs, nil
}

func parseMoof(whole []byte, moof, mdat box, tracks []TrackInfo) ([]TrackRun, error) {
	list, err := boxes(moof.content, 0)
	if err != nil {
		return nil, err
	}
	var runs []TrackRun
	for _, x := range list {
		if x.kind != "traf" {
			continue
		}
		run, err := parseTraf(whole, x.content, moof.start, tracks)
		if err != nil {
			return nil, err
		}
		runs = append(runs, run)
	}
	var bytes uint64
	for _, run := range runs {
		for _, s := range run.Samples {
			bytes += uint64(s.Size)
		}
	}
	if bytes != uint64(len(mdat.content)) {
		return nil, fmt.Errorf("the samples have %d bytes, the mdat %d", bytes, len(mdat.content))
	}
	return runs, nil
}

// parseTraf reads one track's share (sections 8.8.7, 8.8.8 and 8.8.12).
func parseTraf(whole, b []byte, moofStart int, tracks []TrackInfo) (TrackRun, error) {
	var run TrackRun
	tfhd, err := find(b, "tfhd")
	if err != nil {
		return run, err
	}
	r := reader{b: tfhd}
	flags, id := r.u32()&0xffffff, r.u32()
	for _, t := range tracks {
		if t.ID == id {
			run.Track = t
		}
	}
	if run.Track.ID == 0 {
		return run, fmt.Errorf("the init section does not know track %d", id)
	}
	if flags&1 != 0 {
		return run, fmt.Errorf("tfhd has a base data offset, which CMAF forbids")
	}
	r.when(flags&2 != 0, 0)
	d := run.Track.defaults
	d.duration = r.when(flags&8 != 0, d.duration)
	d.size = r.when(flags&0x10 != 0, d.size)
	d.flags = r.when(flags&0x20 != 0, d.flags)
	tfdt, err := find(b, "tfdt")
	if err != nil {
		return run, err
	}
	t := reader{b: tfdt}
	if t.u32()>>24 == 1 {
		run.Decode = t.u64()
	} else {
		run.Decode = uint64(t.u32())
	}
	list, err := boxes(b, 0)
	if err != nil {
		return run, err
	}
	for _, x := range list {
		if x.kind != "trun" {
			continue
		}
		if err := parseTrun(whole, x.content, moofStart, d, &run); err != nil {
			return run, err
		}
	}
	return run, errOr(r.err, t.err)
}

func parseTrun(whole, b []byte, moofStart int, d sampleDefaults, run *TrackRun) error {
	r := reader{b: b}
	flags, count := r.u32()&0xffffff, r.u32()
	if flags&1 == 0 {
		return fmt.Errorf("trun has no data offset")
	}
	at := moofStart + int(int32(r.u32())) //nolint:gosec // signed field
	first := r.when(flags&4 != 0, d.flags)
	for i := range count {
		s := Sample{Duration: r.when(flags&0x100 != 0, d.duration), Size: r.when(flags&0x200 != 0, d.size)}
		def := d.flags
		if i == 0 && flags&4 != 0 {
			def = first
		}
		s.Sync = r.when(flags&0x400 != 0, def)&nonSync == 0
		s.Offset = int32(r.when(flags&0x800 != 0, 0)) //nolint:gosec // signed in version 1
		if r.err != nil {
			return r.err
		}
		if at < 0 || at+int(s.Size) > len(whole) {
			return fmt.Errorf("sample %d lies outside of the fragment", i)
		}
		if run.Track.Codec == "avc1" {
			idr, err := holdsIDR(whole[at : at+int(s.Size)])
			if err != nil {
				return fmt.Errorf("sample %d: %w", i, err)
			}
			s.IDR = idr
		}
		at += int(s.Size)
		run.Samples = append(run.Samples, s)
	}
	return nil
}

// holdsIDR walks the length-prefixed NAL units of an H.264 sample; there must not be parameter sets among them.
func holdsIDR(b []byte) (bool, error) {
	idr := false
	for len(b) > 0 {
		if len(b) < 5 {
			return false, fmt.Errorf("%d bytes are left where a NAL unit should be", len(b))
		}
		n := int(binary.BigEndian.Uint32(b))
		if n < 1 || n > len(b)-4 {
			return false, fmt.Errorf("a NAL unit says %d bytes where %d are left", n, len(b)-4)
		}
		if b[4]&0x1f == avcIDR {
			idr = true
		}
		b = b[4+n:]
	}
	return idr, nil
}

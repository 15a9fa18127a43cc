package ts

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec"
	"github.com/klive-media/klive/internal/media/codec/h264"
	"github.com/klive-media/klive/internal/media/codec/hevc"
)

// maxNALs bounds the NAL units of one PES packet: a picture of level 6.2 has
// at most 600 slices (H.264 table A-1).
const maxNALs = 4096

// defaultStep stands between two pictures of which neither times nor the
// frame rate are known.
const defaultStep = time.Second / 30

var errNALs = errors.New("ts: a PES packet holds too many NAL units")

// nals lists the NAL units of an H.264 or HEVC byte stream (annex B of both)
// as views of it, in dst. Zeros around them are not theirs.
func nals(dst [][]byte, b []byte) ([][]byte, error) {
	at := startCode(b, 0)
	for at >= 0 {
		from := at + 3
		at = startCode(b, from)
		to := at
		if at < 0 {
			to = len(b)
		}
		for to > from && b[to-1] == 0 {
			to--
		}
		if to == from {
			continue
		}
		if len(dst) == maxNALs {
			return dst, errNALs
		}
		dst = append(dst, b[from:to])
	}
	return dst, nil
}

// startCode finds the next 00 00 01 from a place on; -1 when there is none.
// The 01 is what is looked for, as it is seldom and zeros are not.
func startCode(b []byte, from int) int {
	for i := from + 2; i < len(b); i++ {
		n := bytes.IndexByte(b[i:], 1)
		if n < 0 {
			return -1
		}
		i += n
		if b[i-1] == 0 && b[i-2] == 0 {
			return i - 2
		}
	}
	return -1
}

// nalKind is what of a NAL unit matters before the codec's room looks at it.
type nalKind uint8

const (
	nalOther     nalKind = iota
	nalPicture           // a slice of one
	nalDelimiter         // an access unit begins
	nalFiller
)

func h264Kind(nal []byte) nalKind {
	switch t := h264.NALType(nal[0] & 0x1f); t {
	case h264.NALSlice, h264.NALPartitionA, h264.NALIDR:
		return nalPicture
	case h264.NALDelimiter:
		return nalDelimiter
	case h264.NALFiller:
		return nalFiller
	}
	return nalOther
}

func hevcKind(nal []byte) nalKind {
	switch t := hevc.NALType(nal[0] >> 1 & 0x3f); {
	case t < hevc.NALVPS:
		return nalPicture
	case t == hevc.NALDelimiter:
		return nalDelimiter
	case t == hevc.NALFiller:
		return nalFiller
	}
	return nalOther
}

// pictures reads H.264 and HEVC in PES packets (13818-1 §2.14.3 and §2.17.2).
type pictures struct {
	s      *stream
	format *codec.Format
	kind   func(nal []byte) nalKind
	nals   [][]byte

	last, step time.Duration // DTS of the newest picture, and its distance
	began      bool          // last is set
}

func newPictures(s *stream, c media.Codec) *pictures {
	p := &pictures{s: s, format: codec.FormatOf(c), kind: h264Kind}
	if c == media.HEVC {
		p.kind = hevcKind
	}
	return p
}

func (a *pictures) lose() {}

// unit takes a PES packet. It holds one access unit as a rule; further ones
// begin with a delimiter, and their times are made up.
func (a *pictures) unit(payload []byte, at unitTimes) error {
	var err error
	if a.nals, err = nals(a.nals[:0], payload); err != nil {
		a.s.d.spoiled(a.s, err)
		return nil
	}
	from, picture := 0, false
	for i, nal := range a.nals {
		switch a.kind(nal) {
		case nalPicture:
			picture = true
		case nalDelimiter:
			if picture {
				if err := a.access(a.nals[from:i], at); err != nil {
					return err
				}
				from, picture, at = i, false, unitTimes{}
			}
		}
	}
	return a.access(a.nals[from:], at)
}

// access takes an access unit.
func (a *pictures) access(list [][]byte, at unitTimes) error {
	size := 0
	for _, nal := range list {
		if !a.surplus(nal) {
			size += 4 + len(nal)
		}
	}
	if size == 0 {
		return nil
	}
	body := a.s.d.slab.Alloc(size)
	to := body
	for _, nal := range list {
		if !a.surplus(nal) {
			binary.BigEndian.PutUint32(to, uint32(len(nal))) //nolint:gosec // at most maxVideoPES
			to = to[4+copy(to[4:], nal):]
		}
	}
	payload, u, err := a.format.Sample(a.s.d.slab, a.s.track, body, 4)
	if err != nil {
		a.s.d.spoiled(a.s, err)
		return nil
	}
	if u.Config {
		if err := a.config(body); err != nil {
			return err
		}
	}
	dts, pts := a.time(at)
	if a.s.track == nil {
		a.s.d.stats.Waiting++
		return nil
	}
	if len(payload) == 0 {
		return nil
	}
	p := media.Packet{DTS: dts, PTS: pts, Payload: payload}
	if u.Sync == codec.IsSync || u.Sync == codec.AskSender && at.random {
		p.Flags |= media.Key
	}
	if u.Droppable {
		p.Flags |= media.Droppable
	}
	return a.s.write(p)
}

// surplus: NAL units that a sample never holds. (Parameter sets are looked at
// first.)
func (a *pictures) surplus(nal []byte) bool {
	k := a.kind(nal)
	return k == nalDelimiter || k == nalFiller
}

// config takes the parameter sets of an access unit.
func (a *pictures) config(body []byte) error {
	t, err := a.format.Update(a.s.track, body, 4)
	if err != nil {
		a.s.d.stats.Corrupt++
		a.s.d.bad(err)
		return nil
	}
	if t == nil || t == a.s.track {
		return nil
	}
	return a.s.setTrack(t)
}

// time gives the times of an access unit; those it does not have follow the
// one before.
func (a *pictures) time(at unitTimes) (dts, pts time.Duration) {
	if at.known {
		if step := at.dts - a.last; a.began && step > 0 && step < time.Second {
			a.step = step
		}
		a.last, a.began = at.dts, true
		return at.dts, at.pts
	}
	step := a.step
	if t := a.s.track; step == 0 && t != nil && t.Video.FrameRate > 0 {
		step = time.Duration(float64(time.Second) / t.Video.FrameRate)
	}
	if step == 0 {
		step = defaultStep
	}
	a.last += step
	return a.last, a.last
}

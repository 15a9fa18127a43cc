package hls

import (
	"net/url"
	"strconv"

	"github.com/klive-media/klive/internal/segment"
)

// What a playlist promises, in target durations (RFC 8216bis §4.4.3.8,
// appendix B.1): parts are listed for the last three, delta updates skip what
// is older than six, players without low latency stay three behind.
const (
	partsWithin = 3
	skipBeyond  = 6
	holdBack    = 3
	// partHoldBack is how many PART-TARGETs a player stays behind the end. Three
	// is the least the specification recommends; it puts hls.js about a second
	// behind the camera with parts of 250 ms.
	partHoldBack = 3
)

// Versions of the protocol the playlists need (RFC 8216bis §8): 6 for
// EXT-X-MAP, 9 for EXT-X-SKIP. A low-latency playlist says 9 also in its full
// form, as the version must not change between an update and the whole.
const (
	versionPlain      = 6
	versionLowLatency = 9
)

// variant is one way of writing a row's playlist.
type variant uint8

// A variant is a sum of these.
const (
	delta    variant = 1 << iota // skip what is old
	chosen                       // children carry ?i=
	variants variant = 1 << iota
)

// media writes the media playlist of a row, with journal in step with x.
func (v *row) media(x *segment.Index, how variant) []byte {
	parts, skipped := edge(x)
	for i := range v.journal.entries[:parts] {
		v.journal.entries[i].shorten()
	}
	if how&delta == 0 {
		skipped = 0
	}
	b := make([]byte, 0, v.size(parts, skipped))
	b = v.header(b, x)
	if skipped > 0 {
		b = append(b, "#EXT-X-SKIP:SKIPPED-SEGMENTS="...)
		b = strconv.AppendInt(b, int64(skipped), 10)
		b = append(b, '\n')
	}
	n := v.journal.names
	for i := skipped; i < len(x.Closed); i++ {
		e := &v.journal.entries[i]
		text := e.text
		if i == 0 {
			// What stands before the first segment is said by the header.
			b = n.mapTag(b, &x.Closed[0])
			text = text[e.body:]
		}
		if v.lowLatency {
			b = append(b, text...)
			continue
		}
		cut := len(e.text) - len(text)
		b = append(b, text[:e.parts-cut]...)
		b = append(b, text[e.tail-cut:]...)
	}
	if x.Ended {
		return append(b, "#EXT-X-ENDLIST\n"...)
	}
	if v.lowLatency {
		b = v.growing(b, x)
		b = v.reports(b, how)
	}
	return b
}

// size estimates the length of the playlist.
func (v *row) size(parts, skipped int) int {
	n := 1024
	for i := skipped; i < len(v.journal.entries); i++ {
		n += len(v.journal.entries[i].text)
	}
	return n + 80*32*(1+len(v.journal.entries)-parts)/8
}

// header writes what stands before the segments.
func (v *row) header(b []byte, x *segment.Index) []byte {
	t := x.Targets
	b = append(b, "#EXTM3U\n"...)
	version := uint64(versionPlain)
	if v.lowLatency {
		version = versionLowLatency
	}
	b = appendTag(b, "#EXT-X-VERSION:", version)
	b = appendTag(b, "#EXT-X-TARGETDURATION:", wholeSeconds(t.Segment))
	if v.lowLatency {
		part := ceilGrain(t.Part)
		b = append(b, "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL="...)
		b = appendSeconds(b, skipBeyond*t.Segment)
		b = append(b, ",PART-HOLD-BACK="...)
		b = appendSeconds(b, partHoldBack*part)
		b = append(b, ",HOLD-BACK="...)
		b = appendSeconds(b, holdBack*t.Segment)
		b = append(b, "\n#EXT-X-PART-INF:PART-TARGET="...)
		b = appendSeconds(b, part)
		b = append(b, '\n')
	}
	first := x.Open
	if len(x.Closed) > 0 {
		first = &x.Closed[0]
	}
	b = appendTag(b, "#EXT-X-MEDIA-SEQUENCE:", first.Number)
	b = appendTag(b, "#EXT-X-DISCONTINUITY-SEQUENCE:", first.Discontinuity)
	if allIndependent(x) {
		b = append(b, "#EXT-X-INDEPENDENT-SEGMENTS\n"...)
	}
	return b
}

// growing writes the parts of the open segment and the preload hint.
func (v *row) growing(b []byte, x *segment.Index) []byte {
	n := v.journal.names
	if s := x.Open; s != nil {
		var before *segment.Segment
		if len(x.Closed) > 0 {
			before = &x.Closed[len(x.Closed)-1]
		} else {
			b = n.mapTag(b, s)
		}
		b, _, _ = n.opening(b, s, before)
		for i := range s.Parts {
			b = n.partTag(b, s, i)
		}
	}
	b = append(b, `#EXT-X-PRELOAD-HINT:TYPE=PART,URI="`...)
	b = n.part(b, x.Next.Run, x.Next.Segment, x.Next.Part)
	return append(b, "\"\n"...)
}

// reports writes EXT-X-RENDITION-REPORT for the other rows of the shelf.
func (v *row) reports(b []byte, how variant) []byte {
	list, _ := v.shelf.shelf.Renditions()
	for i := range list {
		if !list[i].Listed {
			continue
		}
		for _, listed := range list[i].Rows {
			if listed == nil || listed.Row == v.id {
				continue
			}
			x := v.shelf.shelf.Index(listed.Row)
			if x == nil || x.Ended {
				continue
			}
			b = v.report(b, x, how)
		}
	}
	return b
}

func (v *row) report(b []byte, x *segment.Index, how variant) []byte {
	var msn uint64
	var part int // below 0: not known
	switch n := len(x.Closed); {
	case x.Open != nil && len(x.Open.Parts) > 0:
		msn, part = x.Open.Number, len(x.Open.Parts)-1
	case n > 0:
		msn, part = x.Closed[n-1].Number, len(x.Closed[n-1].Parts)-1
	default:
		return b
	}
	b = append(b, `#EXT-X-RENDITION-REPORT:URI="../`...)
	if x.Row.Rendition != v.id.Rendition {
		b = append(b, "../"...)
		b = append(b, url.PathEscape(x.Row.Rendition)...)
		b = append(b, '/')
	}
	b = append(b, folderOf(x.Row.Kind)...)
	b = append(b, "/index.m3u8"...)
	if how&chosen != 0 {
		b = append(b, "?i="...)
		b = append(b, v.journal.names.server)
	}
	b = append(b, `",LAST-MSN=`...)
	b = strconv.AppendUint(b, msn, 10)
	if part >= 0 {
		b = append(b, ",LAST-PART="...)
		b = strconv.AppendInt(b, int64(part), 10)
	}
	return append(b, '\n')
}

// allIndependent reports whether EXT-X-INDEPENDENT-SEGMENTS is true of x.
func allIndependent(x *segment.Index) bool {
	for i := range x.Closed {
		if s := &x.Closed[i]; !s.Independent && !s.Gap {
			return false
		}
	}
	return x.Open == nil || x.Open.Independent
}

package hls

import (
	"time"

	"github.com/klive-media/klive/internal/segment"
)

// discontinuityTag stands before a segment whose discontinuity number differs
// from the one before.
const discontinuityTag = "#EXT-X-DISCONTINUITY\n"

// journal holds the text of a row's closed segments. A closed segment never
// changes, so its text is written once; it is shortened once, when its parts
// leave the playlist. A playlist is then a header, copies of these texts, and
// the few lines of the segment that grows.
type journal struct {
	names   names
	entries []entry // numbers without holes
	last    segment.Segment
}

// entry is the text of one closed segment:
// [DISCONTINUITY] [MAP] PROGRAM-DATE-TIME | PART … | [GAP] EXTINF URI.
type entry struct {
	number uint64
	text   []byte
	// newMap is where MAP, or what follows it, begins; body is where
	// PROGRAM-DATE-TIME begins.
	newMap, body int
	// parts and tail are where the PART lines begin and end.
	parts, tail int
}

// sync brings the journal to the closed segments of x. x is never older than
// that of the call before.
func (j *journal) sync(x *segment.Index) {
	closed := x.Closed
	if len(closed) == 0 {
		j.entries = nil
		return
	}
	first, last := closed[0].Number, closed[len(closed)-1].Number
	if n := len(j.entries); n > 0 && (j.entries[n-1].number+1 < first || j.entries[n-1].number > last) {
		j.entries = nil
	}
	drop := 0
	for drop < len(j.entries) && j.entries[drop].number < first {
		drop++
	}
	clear(j.entries[:drop]) // the array lives on; the texts must not
	j.entries = j.entries[drop:]

	have := len(j.entries)
	for i := have; i < len(closed); i++ {
		var before *segment.Segment
		if i > 0 {
			before = &closed[i-1]
		} else if j.last.Number+1 == closed[i].Number {
			before = &j.last
		}
		j.entries = append(j.entries, j.names.entry(&closed[i], before))
	}
	j.last = closed[len(closed)-1]
	j.last.Parts = nil
}

// entry writes the text of a closed segment.
func (n names) entry(s, before *segment.Segment) entry {
	e := entry{number: s.Number}
	b := make([]byte, 0, 192+80*len(s.Parts))
	b, e.newMap, e.body = n.opening(b, s, before)
	e.parts = len(b)
	for i := range s.Parts {
		b = n.partTag(b, s, i)
	}
	e.tail = len(b)
	e.text = n.inf(b, s)
	return e
}

// opening writes what stands before a segment's parts and says where MAP and
// PROGRAM-DATE-TIME begin.
func (n names) opening(b []byte, s, before *segment.Segment) (text []byte, newMap, body int) {
	start := len(b)
	if before != nil && before.Discontinuity != s.Discontinuity {
		b = append(b, discontinuityTag...)
	}
	newMap = len(b) - start
	if before != nil && (before.Run != s.Run || before.Init != s.Init) {
		b = n.mapTag(b, s)
	}
	body = len(b) - start
	return appendTime(b, s.Time), newMap, body
}

// shorten gives back the memory of the PART lines.
func (e *entry) shorten() {
	if e.parts == e.tail {
		return
	}
	text := make([]byte, 0, len(e.text)-(e.tail-e.parts))
	text = append(text, e.text[:e.parts]...)
	e.text = append(text, e.text[e.tail:]...)
	e.tail = e.parts
}

// edge says from which closed segment on parts are listed, and how many closed
// segments a delta update skips.
//
// RFC 8216bis §4.4.4.9: parts more than three target durations from the end
// may be dropped; §4.4.5.2: what is further from the end than CAN-SKIP-UNTIL
// may be skipped.
func edge(x *segment.Index) (partsFrom, skipped int) {
	var behind time.Duration
	if x.Open != nil {
		behind = x.Open.Duration
	}
	partsFrom = len(x.Closed)
	for i := len(x.Closed) - 1; i >= 0; i-- {
		s := &x.Closed[i]
		if behind < partsWithin*x.Targets.Segment && partsFrom == i+1 && (s.Parts != nil || s.Gap) {
			partsFrom = i
		}
		if behind >= skipBeyond*x.Targets.Segment {
			return partsFrom, i + 1
		}
		behind += s.Duration
	}
	return partsFrom, 0
}

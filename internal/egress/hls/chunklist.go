package hls

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/klive-media/klive/internal/segment"
)

// chunklist is the playlist of a rendition with picture and sound in one:
// closed segments only. Segment n is the video segment's bytes followed by the
// audio segment's.
type chunklist struct {
	*text
	key chunkKey
}

// chunkKey changes when a chunklist does.
type chunkKey struct {
	video, audio rowKey
}

type rowKey struct {
	there, ended, done bool
	first, closed      uint64 // see firstNumber; closed segments end before it
	next               uint64
}

func keyOf(x *segment.Index, done bool) rowKey {
	if x == nil {
		return rowKey{}
	}
	k := rowKey{there: true, ended: x.Ended, done: done, next: x.Next.Segment}
	k.first, _ = firstNumber(x)
	if n := len(x.Closed); n > 0 {
		k.closed = x.Closed[n-1].Number + 1
	}
	return k
}

// firstNumber is the number of the first segment the row lists or begins.
func firstNumber(x *segment.Index) (n uint64, ok bool) {
	switch {
	case len(x.Closed) > 0:
		return x.Closed[0].Number, true
	case x.Open != nil:
		return x.Open.Number, true
	}
	return 0, false
}

// tracks are the rows of a rendition, put together by number. A row may be
// nil. A row is done when this broadcast adds nothing to it: it is left over
// from an earlier one, or all is over.
type tracks struct {
	video, audio         *segment.Index
	videoDone, audioDone bool
}

// tracks reads the rows of a rendition. list is what the shelf says about its
// renditions.
func (s *shelf) tracks(rendition string, list []segment.RenditionInfo) tracks {
	ids := rowsOf(rendition)
	t := tracks{video: s.shelf.Index(ids[0]), audio: s.shelf.Index(ids[1])}
	over := (t.video == nil || t.video.Ended) && (t.audio == nil || t.audio.Ended)
	t.videoDone, t.audioDone = over, over
	i := slices.IndexFunc(list, func(r segment.RenditionInfo) bool { return r.ID == rendition })
	if i < 0 {
		return t // nothing of this broadcast is listed yet: what comes is not known
	}
	has := func(id segment.RowID) bool {
		return slices.ContainsFunc(list[i].Rows, func(x *segment.Index) bool { return x != nil && x.Row == id })
	}
	t.videoDone, t.audioDone = over || !has(ids[0]), over || !has(ids[1])
	return t
}

// ended reports whether nothing will be added to either row.
func (t *tracks) ended() bool {
	return (t.video == nil || t.video.Ended || t.videoDone) && (t.audio == nil || t.audio.Ended || t.audioDone)
}

// chunklist returns the rendition's chunklist, or nil when no segment of it is
// finished.
func (s *shelf) chunklist(h *Handler, rendition string) *text {
	list, _ := s.shelf.Renditions()
	t := s.tracks(rendition, list)
	key := chunkKey{keyOf(t.video, t.videoDone), keyOf(t.audio, t.audioDone)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.chunk[rendition]; c != nil && !c.key.olderThan(key) {
		return c.text
	}
	body := s.renderChunklist(&t)
	if body == nil {
		return nil
	}
	c := &chunklist{text: newText(body), key: key}
	s.chunk[rendition] = c
	h.stats.renders.Add(1)
	return c.text
}

// olderThan keeps a slow request from putting an older playlist in the place
// of a newer one.
func (k chunkKey) olderThan(o chunkKey) bool {
	return k != o && k.video.next <= o.video.next && k.audio.next <= o.audio.next
}

// pair is segment n of picture and sound; one may be missing.
type pair struct{ video, audio *segment.Segment }

// main is the segment the playlist describes: the picture's where there is
// one.
func (p pair) main() *segment.Segment {
	if p.video != nil {
		return p.video
	}
	return p.audio
}

// playable reports whether the pair can be put under one init section.
func (p pair) playable() bool {
	if p.video == nil || p.audio == nil {
		return !p.main().Gap
	}
	return p.video.Run == p.audio.Run && !(p.video.Gap && p.audio.Gap)
}

// patience is how many segments one row may be ahead of the other before it
// goes on alone: a publisher came back without the other.
const patience = 3

// absence says why a row lacks a segment that the other row has.
type absence uint8

const (
	pending absence = iota // it is still to come
	expired                // it was there, or the row began later
	never                  // the row does not have it and will not
)

// lacks says why x has no segment n while the other row has it and goes up to
// last. done is x's, see tracks.
func lacks(x *segment.Index, done bool, n, last uint64) absence {
	if x == nil {
		return never
	}
	first, ok := firstNumber(x)
	switch {
	case ok && n < first && len(x.Closed) > 0:
		return expired
	case ok && n < first, ok && n < x.Next.Segment && !isOpen(x, n), done, last-n >= patience:
		return never
	}
	return pending
}

func isOpen(x *segment.Index, n uint64) bool { return x.Open != nil && x.Open.Number == n }

// pairs matches the closed segments of the rows by number. A segment is listed
// once both rows have it, or it is known that one never will.
func (t *tracks) pairs() []pair {
	var v, a []segment.Segment
	if t.video != nil {
		v = t.video.Closed
	}
	if t.audio != nil {
		a = t.audio.Closed
	}
	list := make([]pair, 0, max(len(v), len(a)))
	for len(v) > 0 || len(a) > 0 {
		var why absence
		var p pair
		switch {
		case len(a) == 0 || len(v) > 0 && v[0].Number < a[0].Number:
			p.video = &v[0]
			why = lacks(t.audio, t.audioDone, v[0].Number, v[len(v)-1].Number)
			v = v[1:]
		case len(v) == 0 || a[0].Number < v[0].Number:
			p.audio = &a[0]
			why = lacks(t.video, t.videoDone, a[0].Number, a[len(a)-1].Number)
			a = a[1:]
		default:
			p.video, p.audio = &v[0], &a[0]
			v, a, why = v[1:], a[1:], never
		}
		if why == pending {
			break
		}
		if n := len(list); n > 0 && p.main().Number != list[n-1].main().Number+1 {
			list = list[:0] // a player counts the lines
		}
		if why != expired {
			list = append(list, p)
		}
	}
	return list
}

func (s *shelf) renderChunklist(t *tracks) []byte {
	list := t.pairs()
	if len(list) == 0 {
		return nil
	}
	main := cmp.Or(t.video, t.audio)
	n := names{server: byte('0' + s.id.ServerIndex)}
	b := make([]byte, 0, 256+160*len(list))
	b = append(b, "#EXTM3U\n"...)
	b = appendTag(b, "#EXT-X-VERSION:", versionPlain)
	b = appendTag(b, "#EXT-X-TARGETDURATION:", wholeSeconds(main.Targets.Segment))
	b = appendTag(b, "#EXT-X-MEDIA-SEQUENCE:", list[0].main().Number)
	b = appendTag(b, "#EXT-X-DISCONTINUITY-SEQUENCE:", list[0].main().Discontinuity)
	if !slices.ContainsFunc(list, func(p pair) bool { return !p.main().Independent && !p.main().Gap }) {
		b = append(b, "#EXT-X-INDEPENDENT-SEGMENTS\n"...)
	}
	for i, p := range list {
		m := p.main()
		if i > 0 && list[i-1].main().Discontinuity != m.Discontinuity {
			b = append(b, discontinuityTag...)
		}
		if i == 0 || p.init() != list[i-1].init() {
			b = n.muxMapTag(b, p.init())
		}
		b = appendTime(b, m.Time)
		line := *m
		line.Gap = !p.playable()
		b = n.inf(b, &line)
	}
	if t.ended() {
		b = append(b, "#EXT-X-ENDLIST\n"...)
	}
	return b
}

// missing is the number of an init section's track that is not there.
const missing = -1

// initKey names the init section of a pair.
type initKey struct {
	run          string
	video, audio int // or missing
}

func (p pair) init() initKey {
	k := initKey{run: p.main().Run, video: missing, audio: missing}
	if p.video != nil {
		k.video = p.video.Init
	}
	if p.audio != nil {
		k.audio = p.audio.Init
	}
	return k
}

// renderKaltura writes the multivariant playlist of Kaltura's layout: one
// variant with picture and sound for each flavor that wanted lets through.
// nil when there is none.
func (s *shelf) renderKaltura(list []segment.RenditionInfo, wanted func(string) bool, carry string) []byte {
	var b []byte
	for _, g := range s.ladder(list, false) {
		if !wanted(g.id) {
			continue
		}
		if t := s.tracks(g.id, list); len(t.pairs()) == 0 {
			continue
		}
		if b == nil {
			b = append(b, "#EXTM3U\n"...)
			b = appendTag(b, "#EXT-X-VERSION:", versionPlain)
		}
		b = streamInf(b, g.video, g.audio, 0)
		b = append(b, '\n')
		b = append(b, url.PathEscape(g.id)...)
		b = append(b, "/chunklist.m3u8"...)
		b = append(b, carry...)
		b = append(b, '\n')
	}
	return b
}

// splitName finds stream and flavors in the name of Kaltura's layout,
// smil:{id}_{rest}.smil or {id}_{flavor}. Ids may hold "_" themselves, so the
// longest id wins that names a stream with something to play.
func splitName(name string, exists func(id string) bool) (id, rest string, ok bool) {
	inner, smil := strings.CutPrefix(name, "smil:")
	if smil {
		if inner, ok = strings.CutSuffix(inner, ".smil"); !ok {
			return "", "", false
		}
	}
	for end := strings.LastIndexByte(inner, '_'); end > 0; end = strings.LastIndexByte(inner[:end], '_') {
		if id = inner[:end]; isStreamID(id) && exists(id) {
			return id, inner[end+1:], end+1 < len(inner)
		}
	}
	return "", "", false
}

// flavorFilter says which renditions rest (what follows the id in a name) and
// the query's flavorIds let through. In a smil: name rest may be a tag of the
// backend's flavors; which ones have it is not known here, so that a word that
// is no rendition's id lets all through.
func flavorFilter(name, rest, flavorIDs string, list []segment.RenditionInfo) func(string) bool {
	among := func(list, sep, id string) bool {
		for f := range strings.SplitSeq(list, sep) {
			if f == id {
				return true
			}
		}
		return false
	}
	named := func(r segment.RenditionInfo) bool { return rest == r.ID || among(rest, "_", r.ID) }
	if strings.HasPrefix(name, "smil:") && isLetter(rest) && !slices.ContainsFunc(list, named) {
		rest = "all"
	}
	return func(id string) bool {
		// A rendition id may hold "_" itself.
		if rest != "all" && rest != id && !among(rest, "_", id) {
			return false
		}
		return flavorIDs == "" || among(flavorIDs, ",", id)
	}
}

// isLetter reports whether s begins with a letter, as ids of flavors do not.
func isLetter(s string) bool {
	return s != "" && (s[0]|0x20) >= 'a' && (s[0]|0x20) <= 'z'
}

// byNumber finds a closed segment.
func byNumber(x *segment.Index, number uint64) *segment.Segment {
	if x == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(x.Closed, number, func(s segment.Segment, n uint64) int { return cmp.Compare(s.Number, n) })
	if !ok {
		return nil
	}
	return &x.Closed[i]
}

package hls

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/klive-media/klive/internal/media"
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
	there, ended bool
	first, next  uint64 // closed segments
}

func keyOf(x *segment.Index) rowKey {
	if x == nil {
		return rowKey{}
	}
	k := rowKey{there: true, ended: x.Ended}
	if n := len(x.Closed); n > 0 {
		k.first, k.next = x.Closed[0].Number, x.Closed[n-1].Number+1
	}
	return k
}

// chunklist returns the rendition's chunklist, or nil when no segment of it is
// finished.
func (s *shelf) chunklist(h *Handler, rendition string) *text {
	video := s.shelf.Index(segment.RowID{Rendition: rendition, Kind: media.Video})
	audio := s.shelf.Index(segment.RowID{Rendition: rendition, Kind: media.Audio})
	key := chunkKey{keyOf(video), keyOf(audio)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.chunk[rendition]; c != nil && !c.key.olderThan(key) {
		return c.text
	}
	body := s.renderChunklist(video, audio)
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

// pairs matches the closed segments of the rows by number. When both rows are
// there, a segment is listed once both have it.
func pairs(video, audio *segment.Index) []pair {
	var list []pair
	switch {
	case video == nil && audio == nil:
	case audio == nil:
		for i := range video.Closed {
			list = append(list, pair{video: &video.Closed[i]})
		}
	case video == nil:
		for i := range audio.Closed {
			list = append(list, pair{audio: &audio.Closed[i]})
		}
	case len(video.Closed) > 0 && len(audio.Closed) > 0:
		v, a := video.Closed, audio.Closed
		last := min(v[len(v)-1].Number, a[len(a)-1].Number)
		for n := max(v[0].Number, a[0].Number); n <= last; n++ {
			list = append(list, pair{&v[n-v[0].Number], &a[n-a[0].Number]})
		}
	}
	return list
}

func (s *shelf) renderChunklist(video, audio *segment.Index) []byte {
	list := pairs(video, audio)
	if len(list) == 0 {
		return nil
	}
	main := cmp.Or(video, audio)
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
	if main.Ended {
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
func renderKaltura(rungs []rung, wanted func(string) bool, carry string) []byte {
	var b []byte
	for _, g := range rungs {
		if !wanted(g.id) || len(pairs(g.video, g.audio)) == 0 {
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
// the query's flavorIds let through.
func flavorFilter(rest, flavorIDs string) func(string) bool {
	among := func(list, sep, id string) bool {
		for f := range strings.SplitSeq(list, sep) {
			if f == id {
				return true
			}
		}
		return false
	}
	return func(id string) bool {
		// A rendition id may hold "_" itself.
		if rest != "all" && rest != id && !among(rest, "_", id) {
			return false
		}
		return flavorIDs == "" || among(flavorIDs, ",", id)
	}
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

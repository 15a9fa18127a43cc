package hls

import (
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment"
)

// multivariantAge is how long a multivariant playlist is served before it is
// written anew: its bandwidths move with every segment, but nobody needs them
// at once.
const multivariantAge = time.Second

// masts are the multivariant playlists of a shelf: without and with ?i= in the
// addresses of the children. They may be made twice at once; both are right.
type masts [2]atomic.Pointer[mast]

type mast struct {
	*text
	changed <-chan struct{} // of the renditions it was made from
	made    time.Time
}

// multivariant returns the shelf's playlist of playlists, or nil when nothing
// can be played.
func (s *shelf) multivariant(h *Handler, carry string) *text {
	slot := &s.masts[min(len(carry), 1)]
	now := time.Now()
	list, changed := s.shelf.Renditions()
	if m := slot.Load(); m != nil && m.changed == changed && now.Sub(m.made) < multivariantAge {
		return m.text
	}
	body := renderMultivariant(s.ladder(list, h.lowLatency), carry)
	if body == nil {
		return nil
	}
	m := &mast{text: newText(body), changed: changed, made: now}
	slot.Store(m)
	h.stats.renders.Add(1)
	return m.text
}

// rung is a rendition as the multivariant playlist shows it. At least one of
// its rows is there.
type rung struct {
	id           string
	video, audio *segment.Index
}

// ladder takes the newest snapshots of what is listed and can be played.
func (s *shelf) ladder(list []segment.RenditionInfo, lowLatency bool) []rung {
	rungs := make([]rung, 0, len(list))
	for i := range list {
		if !list[i].Listed {
			continue
		}
		g := rung{id: list[i].ID}
		for _, x := range list[i].Rows {
			if x == nil {
				continue
			}
			if newer := s.shelf.Index(x.Row); newer != nil {
				x = newer
			}
			switch {
			case !playable(x, lowLatency) || x.Track == nil || onlyGaps(x):
			case x.Row.Kind == media.Video:
				g.video = x
			case x.Row.Kind == media.Audio:
				g.audio = x
			}
		}
		if g.video != nil || g.audio != nil {
			rungs = append(rungs, g)
		}
	}
	return rungs
}

// onlyGaps reports whether the row has no media to play, as when a publisher
// came back without sound: a player must not wait for it.
func onlyGaps(x *segment.Index) bool {
	return x.Open == nil && !slices.ContainsFunc(x.Closed, func(s segment.Segment) bool { return !s.Gap })
}

// renderMultivariant writes the multivariant playlist of the ladder; nil when
// it is empty.
//
// Every rendition with picture is a variant; its sound is an audio group of
// its own, and renditions that have only sound are alternatives in every
// group (other languages). A rendition without sound takes the first group, so
// that switching to it does not end the sound. Without any picture, every
// rendition is a variant of sound alone.
func renderMultivariant(rungs []rung, carry string) []byte {
	if len(rungs) == 0 {
		return nil
	}
	pictures := slices.ContainsFunc(rungs, func(g rung) bool { return g.video != nil })
	b := make([]byte, 0, 256+512*len(rungs))
	b = append(b, "#EXTM3U\n"...)
	b = appendTag(b, "#EXT-X-VERSION:", versionPlain)
	if independent(rungs) {
		b = append(b, "#EXT-X-INDEPENDENT-SEGMENTS\n"...)
	}
	if !pictures {
		for _, g := range rungs {
			b = streamInf(b, nil, g.audio, 0)
			b = append(b, '\n')
			b = childURI(b, g.id, media.Audio, carry)
			b = append(b, '\n')
		}
		return b
	}
	groups := audioGroups(rungs)
	for _, g := range groups {
		b = g.append(b, carry)
	}
	for _, g := range rungs {
		if g.video == nil {
			continue
		}
		i := slices.IndexFunc(groups, func(a audioGroup) bool { return a.id == g.id })
		if i < 0 && len(groups) > 0 {
			i = 0
		}
		if i < 0 {
			b = streamInf(b, g.video, nil, 0)
		} else {
			b = streamInf(b, g.video, groups[i].members[0].audio, groups[i].peak())
			b = append(b, ",AUDIO="...)
			b = quoted(b, groups[i].name())
		}
		b = append(b, '\n')
		b = childURI(b, g.id, media.Video, carry)
		b = append(b, '\n')
	}
	return b
}

// independent reports whether every listed segment begins with a key frame.
func independent(rungs []rung) bool {
	for _, g := range rungs {
		if g.video != nil && !allIndependent(g.video) || g.audio != nil && !allIndependent(g.audio) {
			return false
		}
	}
	return true
}

// audioGroup is the sound that belongs to a rendition's picture: its own first,
// then the alternatives.
type audioGroup struct {
	id      string
	members []rung
}

func audioGroups(rungs []rung) []audioGroup {
	var groups []audioGroup
	var others []rung
	for _, g := range rungs {
		switch {
		case g.audio != nil && g.video != nil:
			groups = append(groups, audioGroup{id: g.id, members: []rung{g}})
		case g.audio != nil:
			others = append(others, g)
		}
	}
	if len(groups) == 0 && len(others) > 0 {
		return []audioGroup{{id: others[0].id, members: others}}
	}
	for i := range groups {
		groups[i].members = append(groups[i].members, others...)
	}
	return groups
}

func (g *audioGroup) name() string { return "audio-" + g.id }

// peak is the highest bandwidth among the members.
func (g *audioGroup) peak() int {
	n := 0
	for _, m := range g.members {
		n = max(n, bandwidth(m.audio))
	}
	return n
}

// append writes EXT-X-MEDIA for each member.
func (g *audioGroup) append(b []byte, carry string) []byte {
	for i, m := range g.members {
		t := m.audio.Track
		b = append(b, "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="...)
		b = quoted(b, g.name())
		b = append(b, ",NAME="...)
		b = quoted(b, g.label(i))
		if t.Language != "" {
			b = append(b, ",LANGUAGE="...)
			b = quoted(b, t.Language)
		}
		if i == 0 {
			b = append(b, ",DEFAULT=YES"...)
		}
		b = append(b, ",AUTOSELECT=YES"...)
		if t.Audio.Channels > 0 {
			b = append(b, `,CHANNELS="`...)
			b = strconv.AppendInt(b, int64(t.Audio.Channels), 10)
			b = append(b, '"')
		}
		b = append(b, `,URI="`...)
		b = childURI(b, m.id, media.Audio, carry)
		b = append(b, "\"\n"...)
	}
	return b
}

// label is the NAME of the i-th member; unlike any other in the group, and for
// the first one the same in all groups, so that players stay with it.
func (g *audioGroup) label(i int) string {
	m := g.members[i]
	language := m.audio.Track.Language
	if i == 0 {
		if language != "" {
			return language
		}
		return "main"
	}
	if language != "" && !slices.ContainsFunc(g.members[:i], func(o rung) bool { return o.audio.Track.Language == language }) {
		return language
	}
	return strings.TrimSpace(language + " " + m.id)
}

// childURI writes the address of a row's playlist relative to the
// multivariant playlist.
func childURI(b []byte, rendition string, k media.Kind, carry string) []byte {
	b = append(b, url.PathEscape(rendition)...)
	b = append(b, '/')
	b = append(b, folderOf(k)...)
	b = append(b, "/index.m3u8"...)
	return append(b, carry...)
}

// streamInf writes EXT-X-STREAM-INF without its line end. Either row may be
// nil. audioPeak is the highest bandwidth of the group that goes with the
// picture.
func streamInf(b []byte, video, audio *segment.Index, audioPeak int) []byte {
	peak, average := 0, 0
	var codecs []string
	for _, x := range []*segment.Index{video, audio} {
		if x == nil {
			continue
		}
		own := bandwidth(x)
		if x == audio {
			own = max(own, audioPeak)
		}
		peak += own
		average += x.AverageBitrate
		if c := x.Track.CodecString; c != "" {
			codecs = append(codecs, c)
		}
	}
	b = append(b, "#EXT-X-STREAM-INF:BANDWIDTH="...)
	b = strconv.AppendInt(b, int64(peak), 10)
	if average > 0 {
		b = append(b, ",AVERAGE-BANDWIDTH="...)
		b = strconv.AppendInt(b, int64(min(average, peak)), 10)
	}
	if len(codecs) > 0 {
		b = append(b, ",CODECS="...)
		b = quoted(b, strings.Join(codecs, ","))
	}
	if video == nil {
		return b
	}
	if w, h := displaySize(video.Track.Video); w > 0 && h > 0 {
		b = append(b, ",RESOLUTION="...)
		b = strconv.AppendInt(b, int64(w), 10)
		b = append(b, 'x')
		b = strconv.AppendInt(b, int64(h), 10)
	}
	if r := videoRange(video.Track.Video.Color); r != "" {
		b = append(b, ",VIDEO-RANGE="...)
		b = append(b, r...)
	}
	rate := video.FrameRate
	if rate <= 0 {
		rate = video.Track.Video.FrameRate
	}
	if rate > 0 {
		b = append(b, ",FRAME-RATE="...)
		b = strconv.AppendFloat(b, rate, 'f', 3, 64)
	}
	return b
}

// videoRange is VIDEO-RANGE of pictures with a high dynamic range; "" for the
// standard one, which is what its absence means (RFC 8216bis 4.4.6.2).
func videoRange(c media.Color) string {
	switch c.Transfer {
	case media.TransferPQ:
		return "PQ"
	case media.TransferHLG:
		return "HLG"
	}
	return ""
}

// bandwidth is the row's peak in bit/s; while no segment is finished, what the
// first parts or the sender say. It is at least 1: the attribute is required.
func bandwidth(x *segment.Index) int {
	if x.PeakBitrate > 0 {
		return x.PeakBitrate
	}
	n := max(x.Track.Bitrate, 1)
	if s := x.Open; s != nil && s.Duration > 0 {
		n = max(n, int(float64(s.Size)*8/s.Duration.Seconds()))
	}
	return n
}

// displaySize is the size at which the picture is shown: RESOLUTION.
func displaySize(v media.VideoInfo) (width, height int) {
	if v.SARNum <= 0 || v.SARDen <= 0 || v.SARNum == v.SARDen {
		return v.Width, v.Height
	}
	return int(math.Round(float64(v.Width) * float64(v.SARNum) / float64(v.SARDen))), v.Height
}

package lifecycle

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"golang.org/x/text/language"

	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/stream"
)

// When renditions are told. The backend writes its playlists from them.
const (
	// gatherFor is how long after the first one the others may come, and each
	// rendition become measured.
	gatherFor  = 2 * time.Second
	measureFor = 30 * time.Second
	lookEvery  = 300 * time.Second // at changes of measure
	sendAgain  = 60 * time.Second  // after a failure
)

// The changes below which the backend takes renditions for the same.
const (
	bitrateTolerance   = 0.10
	frameRateTolerance = 0.15
)

// streams is what the backend was told of the renditions.
type streams struct {
	row   client.Int      // the backend's number of the registration; 0: not known
	had   []string        // flavors that it named when it was looked at
	asked bool            // it was looked at, or could not be
	told  []client.Stream // nil: nothing
	since time.Time       // when there was something to tell first
	look  time.Time       // when to look next
}

// tellStreams tells the renditions when they are new or changed, and returns
// when to look next.
func (k *keeper) tellStreams(ctx context.Context, b *stream.BroadcastStatus) time.Time {
	s := &k.streams
	if k.state != Playing {
		return time.Time{}
	}
	now := time.Now()
	list, measured := k.compose(b)
	if len(list) == 0 {
		return time.Time{}
	}
	switch {
	case s.since.IsZero():
		s.since, s.look = now, now.Add(gatherFor)
	case s.told != nil && !sameShape(s.told, list) && s.look.After(now.Add(gatherFor)):
		s.look = now.Add(gatherFor)
	}
	if now.Before(s.look) {
		return s.look
	}
	switch {
	case !measured && now.Before(s.since.Add(measureFor)) && !k.misleads(ctx, list):
		s.look = now.Add(gatherFor)
	case alike(s.told, list):
		s.look = now.Add(lookEvery)
	default:
		side, leave := k.aside(ctx)
		sent := k.sendStreams(side, list)
		switch interrupted := leave(); {
		case sent && !measured && now.Before(s.since.Add(measureFor)): // in a hurry
			s.told, s.look = list, now.Add(gatherFor)
		case sent:
			s.told, s.look = list, now.Add(lookEvery)
		case !interrupted:
			s.look = now.Add(sendAgain)
		}
	}
	return s.look
}

// sendStreams makes the calls.
func (k *keeper) sendStreams(ctx context.Context, list []client.Stream) bool {
	g := k.grant()
	for range 2 {
		if k.streams.row == 0 && !k.findRow(ctx) {
			return false
		}
		err := k.l.opts.Client.UpdateStreams(ctx, g.Partner, k.streams.row, list)
		if err == nil {
			return true
		}
		if !errors.Is(ctx.Err(), context.Canceled) {
			k.log.Debug("renditions could not be told", "error", err)
		}
		k.streams.row = 0
		if !client.HasCode(err, codeNoRow) && !client.HasCode(err, codeNoObject) { // else it was made anew
			return false
		}
	}
	return false
}

// findRow looks for the backend's registration and what it names.
func (k *keeper) findRow(ctx context.Context) bool {
	row, other, err := k.owner(ctx)
	if err != nil || row == nil || other {
		k.log.Debug("renditions could not be told: the backend has no registration of ours", "error", err)
		return false
	}
	k.streams.row, k.streams.had = row.ID, nil
	for _, s := range row.Streams {
		k.streams.had = append(k.streams.had, string(s.Flavor))
	}
	return true
}

// misleads reports whether players are sent to renditions that are not in the
// list, or to less than there is: guesses are better than that. The backend
// continues a registration whose recording was not finished with the renditions
// of the broadcast before.
func (k *keeper) misleads(ctx context.Context, list []client.Stream) bool {
	s := &k.streams
	if s.told != nil {
		return !sameShape(s.told, list)
	}
	if !s.asked {
		side, leave := k.aside(ctx)
		found := k.findRow(side)
		s.asked = !leave() || found
	}
	return slices.ContainsFunc(s.had, func(flavor string) bool {
		return !slices.ContainsFunc(list, func(x client.Stream) bool { return x.Flavor == flavor })
	})
}

// compose is what can be watched of the broadcast, in the backend's words, by
// ingest index; measured: the bit rate of each is.
func (k *keeper) compose(b *stream.BroadcastStatus) (list []client.Stream, measured bool) {
	figures := make(map[string]Measured)
	if k.l.opts.Bitrates != nil {
		for _, m := range k.l.opts.Bitrates(k.key.Entry, k.key.Index) {
			figures[m.Rendition] = m
		}
	}
	measured = true
	for i := range b.Renditions {
		rd := &b.Renditions[i]
		if !rd.Playable || len(list) >= maxStreams {
			continue
		}
		m := figures[rd.ID]
		s := describe(rd, m)
		known := s.Bitrate > 0
		if !known {
			s.Bitrate = k.guess(rd)
			known = k.l.opts.Bitrates == nil && s.Bitrate > 0 // there will be nothing better
		}
		measured = measured && known
		list = append(list, s)
	}
	return list, measured
}

// guess is the bit rate of a rendition that is not measured: what its session
// brings, or what its encoder announced.
func (k *keeper) guess(rd *stream.RenditionStatus) int {
	if now, ok := k.l.opts.Live.Session(rd.Session); ok && now.Bitrate > 0 {
		return now.Bitrate
	}
	sum := 0
	for _, t := range rd.Tracks {
		sum += t.Bitrate
	}
	return sum
}

// maxStreams bounds what is told of one entry.
const maxStreams = 64

// describe puts a rendition into the backend's words.
func describe(rd *stream.RenditionStatus, m Measured) client.Stream {
	s := client.Stream{Flavor: rd.ID, Bitrate: m.VideoBitrate + m.AudioBitrate, FrameRate: m.FrameRate}
	var sound *media.Track
	picture := false
	for _, t := range rd.Tracks {
		switch {
		case t.Kind == media.Video && !picture:
			picture = true
			s.Codec, s.Width, s.Height = codecNames[t.Codec], t.Video.Width, t.Video.Height
			if s.FrameRate == 0 {
				s.FrameRate = t.Video.FrameRate
			}
		case t.Kind == media.Audio && sound == nil:
			sound = t
		}
	}
	if !picture && sound != nil { // the backend offers it as one of the languages
		s.Codec, s.Language, s.FrameRate = codecNames[sound.Codec], threeLetters(sound.Language), 0
	}
	return s
}

// codecNames are the backend's names of codecs.
var codecNames = map[media.Codec]string{
	media.H264: "h264", media.HEVC: "h265", media.AV1: "av1", media.VP8: "vp8", media.VP9: "vp9",
	media.AAC: "aac", media.Opus: "opus", media.MP3: "mp3", media.AC3: "ac3", media.FLAC: "flac",
}

// threeLetters is the three-letter code of the language of a tag; "" when it
// has none.
func threeLetters(tag string) string {
	t, err := language.Parse(tag)
	if tag == "" || err != nil {
		return ""
	}
	base, sure := t.Base()
	if sure != language.Exact { // a guess, of a tag that names none
		return ""
	}
	return base.ISO3()
}

// sameShape reports whether two lists name the same renditions.
func sameShape(a, b []client.Stream) bool {
	return slices.EqualFunc(a, b, func(x, y client.Stream) bool { return x.Flavor == y.Flavor })
}

// alike reports whether nothing changed that the backend would take over.
func alike(told, list []client.Stream) bool {
	near := func(a, b, tolerance float64) bool { return a == b || math.Abs(a-b) <= tolerance*a }
	return told != nil && slices.EqualFunc(told, list, func(x, y client.Stream) bool {
		return x.Flavor == y.Flavor && x.Codec == y.Codec && x.Width == y.Width && x.Height == y.Height && x.Language == y.Language &&
			near(float64(x.Bitrate), float64(y.Bitrate), bitrateTolerance) && near(x.FrameRate, y.FrameRate, frameRateTolerance)
	})
}

package hls

import (
	"bufio"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Eyevinn/hls-m3u8/m3u8"
	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/segment"
)

// TestRulesHold cuts a stream of random parts, segments, gaps and
// configurations and holds every playlist on the way to the rules of RFC
// 8216bis, and to what another implementation reads.
func TestRulesHold(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		store := newFakeStore()
		f := store.add("lobby", 0)
		f.window = 4 + r.IntN(20)
		f.targets = segment.Targets{Segment: time.Duration(1+r.IntN(4)) * time.Second, Part: 333333 * time.Microsecond}
		f.row(video1, videoTrack())
		h := New(Options{Store: store, LowLatency: true})
		plain := New(Options{Store: store})
		var before *playlistText
		perSegment := int(f.targets.Segment / f.targets.Part)
		for range 60 {
			step(f, r, perSegment)
			text := serve(h, "GET", videoList).Body.String()
			p := readPlaylist(t, text)
			p.check(t, before)
			skipped := readPlaylist(t, serve(h, "GET", videoList+"?_HLS_skip=YES").Body.String())
			skipped.checkDelta(t, p)
			before = p

			if w := serve(plain, "GET", videoList); w.Code == 200 {
				list, kind, err := m3u8.DecodeFrom(strings.NewReader(w.Body.String()), true)
				require.NoError(t, err)
				require.Equal(t, m3u8.MEDIA, kind)
				media := list.(*m3u8.MediaPlaylist)
				x := f.Index(video1)
				require.EqualValues(t, len(x.Closed), media.Count())
				require.Equal(t, x.Closed[0].Number, media.SeqNo)
				require.Equal(t, x.Closed[0].Discontinuity, media.DiscontinuitySeq)
				require.NotContains(t, w.Body.String(), "PART")
			}
		}
	}
}

// step makes something happen to the row.
func step(f *fakeShelf, r *rand.Rand, perSegment int) {
	x := f.Index(video1)
	switch n := r.IntN(10); {
	case x.Open != nil && (len(x.Open.Parts) >= perSegment || n == 0):
		f.closeSegment(video1)
	case x.Open == nil && n == 1 && len(x.Closed) > 0:
		f.gap(video1, f.targets.Segment)
	case x.Open == nil && n == 2 && len(x.Closed) > 0:
		f.change(video1, func(row *fakeRow, _ *segment.Index) { row.disc++; row.init++ })
	default:
		f.part(video1, f.targets.Part-time.Duration(r.IntN(40))*time.Millisecond, x.Open == nil && n != 3)
	}
	if x = f.Index(video1); len(x.Closed) == 0 && x.Open == nil {
		f.part(video1, f.targets.Part, true)
	}
}

// playlistText is a playlist as its lines say, read by nothing of ours.
type playlistText struct {
	tags     map[string]string // header
	first    int
	skipped  int
	disc     int
	segments []listed
	hint     string
}

type listed struct {
	uri, initURI  string
	number, disc  int
	duration      float64
	parts         []float64
	gap, complete bool
}

func readPlaylist(t *testing.T, text string) *playlistText {
	t.Helper()
	p := &playlistText{tags: map[string]string{}}
	require.True(t, strings.HasPrefix(text, "#EXTM3U\n"), text)
	require.True(t, strings.HasSuffix(text, "\n"))
	var s listed
	initURI := ""
	for scan := bufio.NewScanner(strings.NewReader(text)); scan.Scan(); {
		line := scan.Text()
		tag, value, _ := strings.Cut(line, ":")
		switch {
		case tag == "#EXT-X-SKIP":
			p.skipped = number(t, strings.TrimPrefix(value, "SKIPPED-SEGMENTS="))
		case tag == "#EXT-X-DISCONTINUITY":
			require.False(t, len(p.segments) == 0 && p.skipped == 0, "a discontinuity before the first segment would count twice")
			p.disc++
		case tag == "#EXT-X-MAP":
			initURI = value
		case tag == "#EXT-X-GAP":
			s.gap = true
		case tag == "#EXT-X-PART":
			d, _, _ := strings.Cut(strings.TrimPrefix(value, "DURATION="), ",")
			s.parts = append(s.parts, seconds(t, d))
		case tag == "#EXTINF":
			s.duration = seconds(t, strings.TrimSuffix(value, ","))
		case tag == "#EXT-X-PRELOAD-HINT":
			p.hint = value
		case !strings.HasPrefix(line, "#"):
			s.uri, s.complete, s.disc, s.initURI = line, true, p.disc, initURI
			p.segments = append(p.segments, s)
			s = listed{}
		default:
			if old, ok := p.tags[tag]; ok && tag != "#EXT-X-PROGRAM-DATE-TIME" {
				require.Equal(t, old, value, "the tag %s stands twice", tag)
			}
			p.tags[tag] = value
		}
	}
	if len(s.parts) > 0 {
		s.disc, s.initURI = p.disc, initURI
		p.segments = append(p.segments, s)
	}
	p.first = number(t, p.tags["#EXT-X-MEDIA-SEQUENCE"])
	base := number(t, p.tags["#EXT-X-DISCONTINUITY-SEQUENCE"])
	for i := range p.segments {
		p.segments[i].number = p.first + p.skipped + i
		p.segments[i].disc += base
	}
	return p
}

func (p *playlistText) check(t *testing.T, before *playlistText) {
	t.Helper()
	require.Zero(t, p.skipped)
	target := seconds(t, p.tags["#EXT-X-TARGETDURATION"])
	part := seconds(t, strings.TrimPrefix(p.tags["#EXT-X-PART-INF"], "PART-TARGET="))
	control := map[string]string{}
	for kv := range strings.SplitSeq(p.tags["#EXT-X-SERVER-CONTROL"], ",") {
		k, v, _ := strings.Cut(kv, "=")
		control[k] = v
	}
	require.Equal(t, "YES", control["CAN-BLOCK-RELOAD"])
	require.GreaterOrEqual(t, seconds(t, control["PART-HOLD-BACK"]), 3*part-1e-9)
	require.GreaterOrEqual(t, seconds(t, control["HOLD-BACK"]), 3*target)
	require.GreaterOrEqual(t, seconds(t, control["CAN-SKIP-UNTIL"]), 6*target)

	behind := 0.0
	for i := len(p.segments) - 1; i >= 0; i-- {
		s := p.segments[i]
		require.NotEmpty(t, s.initURI)
		require.LessOrEqual(t, math.Round(s.duration), target)
		for _, d := range s.parts {
			require.LessOrEqual(t, d, part)
		}
		if s.complete {
			require.True(t, strings.HasSuffix(s.uri, "/"+strconv.Itoa(s.number)+".m4s"), "%s is not %d", s.uri, s.number)
			if !s.gap {
				require.Equal(t, behind < 3*target, len(s.parts) > 0, "parts of the last three target durations, and no others")
			}
		}
		for _, d := range s.parts {
			behind += d
		}
		if len(s.parts) == 0 {
			behind += s.duration
		}
	}
	last := p.segments[len(p.segments)-1]
	next, index := last.number, len(last.parts)
	if last.complete {
		next, index = last.number+1, 0
	}
	require.Contains(t, p.hint, "/"+strconv.Itoa(next)+"."+strconv.Itoa(index)+".m4s")
	if before == nil {
		return
	}
	// RFC 8216 §6.2.1 and §6.2.2: what was said stays as it was said.
	require.GreaterOrEqual(t, p.first, before.first)
	require.Equal(t, before.tags["#EXT-X-TARGETDURATION"], p.tags["#EXT-X-TARGETDURATION"])
	for _, old := range before.segments {
		if i := old.number - p.first; i >= 0 && i < len(p.segments) {
			require.Equal(t, old.disc, p.segments[i].disc, "discontinuity sequence of segment %d", old.number)
			require.Equal(t, old.initURI, p.segments[i].initURI)
			if old.complete {
				require.Equal(t, old.uri, p.segments[i].uri)
				require.Equal(t, old.duration, p.segments[i].duration)
			}
		}
	}
}

// checkDelta holds that the delta update p, put on top of the whole, is the
// whole.
func (p *playlistText) checkDelta(t *testing.T, whole *playlistText) {
	t.Helper()
	require.Equal(t, whole.first, p.first)
	require.Len(t, p.segments, len(whole.segments)-p.skipped)
	target := seconds(t, p.tags["#EXT-X-TARGETDURATION"])
	kept := 0.0
	for i, s := range p.segments {
		full := whole.segments[p.skipped+i]
		require.Equal(t, full.uri, s.uri)
		require.Equal(t, full.parts, s.parts)
		if s.complete {
			kept += s.duration
		}
	}
	if p.skipped > 0 {
		require.GreaterOrEqual(t, kept+target, 6*target, "what is younger than CAN-SKIP-UNTIL is not skipped")
	}
}

func seconds(t *testing.T, s string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(s, 64)
	require.NoError(t, err)
	return f
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	require.NoError(t, err)
	return n
}

func TestSecondsAreRounded(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0", time.Second: "1.0", 250 * time.Millisecond: "0.25", 233333333: "0.23333", 166666667: "0.16667",
		10 * time.Microsecond: "0.00001", 4 * time.Microsecond: "0.0", 3999999 * time.Microsecond: "4.0", 12 * time.Second: "12.0", -5: "0.0",
	} {
		require.Equal(t, want, string(appendSeconds(nil, d)), d)
	}
	require.Equal(t, 10*time.Microsecond, ceilGrain(1))
}

func TestMultivariantIsReadByOthers(t *testing.T) {
	h, _ := onAir(t)
	list, kind, err := m3u8.DecodeFrom(strings.NewReader(serve(h, "GET", "/live/lobby/index.m3u8").Body.String()), true)
	require.NoError(t, err)
	require.Equal(t, m3u8.MASTER, kind)
	v := list.(*m3u8.MasterPlaylist).Variants
	require.Len(t, v, 1)
	require.Equal(t, "1280x720", v[0].Resolution)
	require.Equal(t, "avc1.64001f,mp4a.40.2", v[0].Codecs)
	require.Len(t, v[0].Alternatives, 1)
	require.Equal(t, "1/audio/index.m3u8", v[0].Alternatives[0].URI)
}

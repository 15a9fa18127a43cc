//go:build e2e

package e2e

import (
	"encoding/json"
	"maps"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/srt/srttest"
	"github.com/klive-media/klive/test/e2e/harness"
	"github.com/klive-media/klive/test/e2e/hlscheck"
)

// An encoder publishes over SRT through a network that loses 5 % of the datagrams, brings some twice, delays them by up
// to 20 ms so that they overtake each other, and is dark for two seconds in the middle: playlists stay valid, only what
// was lost for good is a discontinuity, and the browser goes on.
func TestSRTThroughABadNetwork(t *testing.T) {
	s := harness.Start(t, catalog)
	to, err := net.ResolveUDPAddr("udp4", s.SRT)
	require.NoError(t, err)
	n, err := srttest.OpenNetwork(to, srttest.Conditions{Loss: 0.05, Jitter: 20 * time.Millisecond, Twice: 0.01, Seed: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	// ffmpeg counts the latency in microseconds.
	e, err := harness.PublishNoisyClock(t.TempDir(), "srt://"+n.Addr().String()+"?mode=caller&latency=500000&streamid=publish:lobby_1:"+token, 60)
	require.NoError(t, err)
	t.Cleanup(func() {
		e.KillGroup()
		if t.Failed() {
			t.Logf("the encoder's output ends with:\n%s", e.Tail(3000))
		}
	})
	awaitSegments(t, s, "lobby", 2)
	videoURL, audioURL := rows(t, s, "lobby")
	half := length(40*time.Second, 8*time.Second)
	watched := 2*half + 2*time.Second
	b := watch(t, s, "lobby", watched, 0)
	harness.Wait(t, 30*time.Second, "the browser plays", func() (bool, error) { return contains(b.Output(), "playing"), nil })

	began := time.Now()
	followers := make(chan *hlscheck.Follower, 2)
	for _, address := range []string{videoURL, audioURL} {
		go func() { followers <- followFor(t, address, watched) }()
	}
	pass := func(d time.Duration) {
		harness.Wait(t, d+10*time.Second, "time passes", func() (bool, error) { return time.Since(began) >= d, nil })
	}
	pass(half)
	before := s.Sessions(t, "lobby")[0]
	n.Darken(true)
	dark := time.Now()
	pass(half + 2*time.Second)
	n.Darken(false)
	light := time.Now()

	breaks := map[uint64]uint64{} // by segment, whichever row it was read of
	for range 2 {
		f := <-followers
		require.Empty(t, f.Findings.List(), f.URL)
		checkBreaks(t, f, breaks)
	}
	v, err := b.Result(2 * time.Minute)
	require.NoError(t, err)
	show(t, v)
	checkGoesOn(t, v, dark, light)
	require.True(t, s.Alive())
	all := s.Sessions(t, "lobby")
	require.Len(t, all, 1, "the encoder was never thrown out")
	carried, lost := n.Counts()
	t.Logf("%d datagrams carried, %d lost; before the dark %+v; at the end %+v", carried, lost, before.GetLink(), all[0].GetLink())
	require.Zero(t, before.GetLink().GetDroppedPacketCount(), "5 %% of loss are mended within the latency")
	require.Zero(t, before.GetLink().GetDiscontinuityCount())
	require.Zero(t, before.GetDiscontinuityCount())
	checkLink(t, s)
}

// checkBreaks checks that what was lost in the dark made few discontinuities, not one for each datagram, and that
// all rows count them alike.
func checkBreaks(t *testing.T, f *hlscheck.Follower, breaks map[uint64]uint64) {
	t.Helper()
	seen := map[uint64]bool{}
	for _, r := range f.Runs {
		seen[r.Discontinuity] = true
		if other, ok := breaks[r.Segment]; ok {
			require.Equal(t, other, r.Discontinuity, "segment %d has two discontinuity numbers", r.Segment)
		}
		breaks[r.Segment] = r.Discontinuity
	}
	t.Logf("%s: %d parts, discontinuity numbers %v", f.URL, f.Parts, slices.Sorted(maps.Keys(seen)))
	require.Greater(t, len(seen), 1, "two seconds are missing")
	require.LessOrEqual(t, len(seen), 6)
}

// checkGoesOn checks that a browser plays what was sent after the dark, live, and waited for no longer than it must.
func checkGoesOn(t *testing.T, v *harness.Viewing, dark, light time.Time) {
	t.Helper()
	fresh := 0
	for _, f := range v.Frames {
		if f[1] != nil && int64(*f[0]-*f[1]) > light.UnixMilli() {
			fresh++
		}
	}
	t.Logf("%d pictures of after the dark", fresh)
	require.Greater(t, fresh, 60, "the browser did not go on after the dark")
	last := v.Frames[len(v.Frames)-1]
	require.NotNil(t, last[1])
	require.Less(t, *last[1], 4000.0, "the browser is too far behind after the dark")
	before, after := 0, 0
	for _, e := range v.Events {
		switch {
		case e.Name != "waiting" || e.At < v.Settled:
		case e.At < dark.UnixMilli():
			before++
		default:
			after++
		}
	}
	t.Logf("the player waited for media %d times before the dark, %d times in and after it", before, after)
	require.Zero(t, before, "losses that are mended do not show")
	require.LessOrEqual(t, after, 4)
	for _, d := range v.Freezes(time.Second) {
		require.Less(t, d, 8*time.Second)
	}
}

// checkLink checks that REST shows what the network did.
func checkLink(t *testing.T, s *harness.Server) {
	t.Helper()
	var list struct {
		Sessions []struct {
			Link struct {
				RTT, Latency                                                                      string
				LostPacketCount, RetransmittedPacketCount, DroppedPacketCount, DiscontinuityCount int64 `json:",string"`
			}
		}
	}
	status, body, err := s.Ask(t.Context(), "/v1/streams/lobby/sessions", "")
	require.NoError(t, err)
	require.Equal(t, 200, status, body)
	require.NoError(t, json.Unmarshal([]byte(body), &list), body)
	l := list.Sessions[0].Link
	require.Positive(t, l.RetransmittedPacketCount)
	require.Positive(t, l.DroppedPacketCount)
	require.Equal(t, l.LostPacketCount, l.RetransmittedPacketCount+l.DroppedPacketCount)
	require.Positive(t, l.DiscontinuityCount)
	require.Equal(t, "0.500s", l.Latency)
	rtt, err := time.ParseDuration(l.RTT)
	require.NoError(t, err)
	require.InDelta(t, 20, rtt.Milliseconds(), 19, "each way takes up to 20 ms")
}

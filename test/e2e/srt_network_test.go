//go:build e2e

package e2e

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/srt/srttest"
	"github.com/klive-media/klive/test/e2e/harness"
	"github.com/klive-media/klive/test/e2e/hlscheck"
)

// An encoder publishes over SRT through a network that loses 5 % of the datagrams, delays them by up to 20 ms so that
// they overtake each other, and is dark for two seconds in the middle: playlists stay valid, only what was lost for good
// is a discontinuity, and the browser goes on.
func TestSRTThroughABadNetwork(t *testing.T) {
	s := harness.Start(t, catalog)
	to, err := net.ResolveUDPAddr("udp4", s.SRT)
	require.NoError(t, err)
	n, err := srttest.OpenNetwork(to, srttest.Conditions{Loss: 0.05, Jitter: 20 * time.Millisecond, Seed: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	// ffmpeg counts the latency in microseconds.
	e, err := harness.PublishClock(t.TempDir(), "srt://"+n.Addr().String()+"?mode=caller&latency=500000&streamid=publish:lobby_1:"+token, 60)
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
	pass(half + 2*time.Second)
	n.Darken(false)
	light := time.Now()

	for range 2 {
		f := <-followers
		if len(f.Findings.List()) > 0 {
			for _, r := range f.Runs {
				for _, x := range r.Tracks {
					t.Logf("segment %d part %d break %d: %d samples from %d, %d ticks", r.Segment, r.Part, r.Discontinuity, len(x.Samples), x.Decode, x.Ticks())
				}
			}
		}
		require.Empty(t, f.Findings.List(), f.URL)
		// Parts lost in the dark make one discontinuity, or a hole in the time; not one for each lost datagram.
		seen := map[uint64]bool{}
		for _, r := range f.Runs {
			seen[r.Discontinuity] = true
		}
		t.Logf("%s: %d parts, %d discontinuity numbers", f.URL, f.Parts, len(seen))
		require.LessOrEqual(t, len(seen), 6)
	}
	v, err := b.Result(2 * time.Minute)
	require.NoError(t, err)
	show(t, v)
	fresh := 0
	for _, f := range v.Frames {
		if f[1] != nil && int64(*f[0]-*f[1]) > light.UnixMilli() {
			fresh++
		}
	}
	require.Greater(t, fresh, 60, "the browser did not go on after the dark")
	require.True(t, s.Alive())
	all := s.Sessions(t, "lobby")
	require.Len(t, all, 1, "the encoder was never thrown out")
	l := all[0].GetLink()
	carried, lost := n.Counts()
	t.Logf("%d datagrams carried, %d lost; before the dark %+v; at the end %+v", carried, lost, before.GetLink(), l)
	require.Positive(t, l.GetRetransmittedPacketCount())
	require.Positive(t, l.GetDroppedPacketCount())
	require.Zero(t, before.GetLink().GetDroppedPacketCount(), "5 %% of loss are mended within the latency")
}

//go:build e2e

package e2e

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/test/e2e/harness"
	"github.com/klive-media/klive/test/e2e/hlscheck"
)

// Whatever the distance of key frames and the rate of pictures, the playlists keep what they promise. All cases run on
// one server at the same time: most of the time passes in waiting.
func TestPlaylistRulesHoldForEveryCadence(t *testing.T) {
	s := harness.Start(t, catalog)
	var all sync.WaitGroup
	watched := length(45*time.Second, 24*time.Second)
	for id, c := range map[string]struct {
		picture harness.Picture
		forced  bool // segments must begin without a key frame
		rate    float64
	}{
		"event-gop1":    {picture: harness.Picture{GOP: 30}, rate: 30},
		"event-gop3":    {picture: harness.Picture{GOP: 90}, rate: 30},
		"event-gop8":    {picture: harness.Picture{GOP: 249}, rate: 30, forced: true},
		"event-gop20":   {picture: harness.Picture{GOP: 600}, rate: 30, forced: true},
		"event-5fps":    {picture: harness.Picture{Rate: 5, GOP: 10}, rate: 5},
		"event-ntsc":    {picture: harness.Picture{Filter: "fps=30000/1001", GOP: 60}, rate: 29.97},
		"event-bframes": {picture: harness.Picture{GOP: 60, BFrames: 3}, rate: 30},
		// Every seventh and eighth picture is missing, and each third second only every fifth comes.
		"event-vfr": {picture: harness.Picture{GOP: 40, Filter: "select='lt(mod(n\\,8)\\,6)*if(eq(mod(floor(t)\\,3)\\,2)\\,not(mod(n\\,5))\\,1)'",
			Extra: []string{"-fps_mode", "vfr"}}},
		"event-silent": {picture: harness.Picture{GOP: 60, NoAudio: true}, rate: 30},
	} {
		// Not t.Parallel, which would run as many at once as there are processors.
		all.Go(func() {
			t.Run(id, func(t *testing.T) {
				harness.StartEncoder(t, s, s.PublishURL(id, token), c.picture)
				checkRows(t, s, id, watched, c.forced, c.rate)
			})
		})
	}
	all.Wait()
	cuts, err := s.Metric(t.Context(), "klive_forced_cuts_total")
	require.NoError(t, err)
	require.Positive(t, cuts, "cuts without a key frame are counted")
}

// checkRows follows picture and sound of a stream and checks what came.
func checkRows(t *testing.T, s *harness.Server, id string, d time.Duration, forced bool, rate float64) {
	s.AwaitPlayable(t, id)
	address := s.Play("/live/" + id + "/index.m3u8")
	videoURL, audioURL := rows(t, s, id)
	audioDone := make(chan *hlscheck.Follower, 1)
	go func() {
		if audioURL == "" {
			audioDone <- nil
			return
		}
		audioDone <- followFor(t, audioURL, d)
	}()
	video := &hlscheck.Follower{URL: videoURL, Sparse: rate == 0}
	follow(t, video, d)
	audio := <-audioDone
	require.Empty(t, video.Findings.List())
	require.NotNil(t, video.Last())
	t.Logf("%d parts, target duration %v, PART-TARGET %v", video.Parts, video.Last().TargetDuration, video.Last().PartTarget)
	require.Greater(t, video.Parts, int(d/(2*time.Second)))
	checkKeys(t, video, forced)
	if audio != nil {
		require.Empty(t, audio.Findings.List())
		checkAligned(t, video, audio)
	}
	if v := multivariant(t, address).Variants[0]; rate > 0 {
		require.InDelta(t, rate, v.FrameRate, 0.05, "FRAME-RATE")
	}
}

// checkKeys checks which segments begin with a key frame.
func checkKeys(t *testing.T, f *hlscheck.Follower, forced bool) {
	t.Helper()
	with, without := 0, 0
	for _, run := range f.Runs {
		if run.Part != 0 {
			continue
		}
		if run.Tracks[0].Samples[0].Sync {
			with++
		} else {
			without++
		}
	}
	t.Logf("%d segments begin with a key frame, %d do not", with, without)
	require.Positive(t, with)
	switch {
	case forced:
		require.Positive(t, without)
	case !f.Sparse: // pictures that come irregularly do not say when the next key frame is to be expected
		require.Zero(t, without)
	}
}

// checkAligned checks that segment n of the sound covers the time of segment n of the picture, as it is
// shown, to one frame of sound.
func checkAligned(t *testing.T, video, audio *hlscheck.Follower) {
	t.Helper()
	tolerance := 0.0225
	if video.Sparse {
		tolerance = 0.4 // a segment cut between pictures begins with the next one
	}
	starts := func(f *hlscheck.Follower) map[uint64]float64 {
		m := make(map[uint64]float64)
		for _, run := range f.Runs {
			if run.Part == 0 {
				first := run.Tracks[0]
				m[run.Segment] = (float64(first.Decode) + float64(first.Samples[0].Offset)) / float64(first.Track.Timescale)
			}
		}
		return m
	}
	v, a := starts(video), starts(audio)
	compared := 0
	for number, at := range v {
		if other, ok := a[number]; ok {
			require.InDelta(t, at, other, tolerance, "segment %d begins at different times in picture and sound", number)
			compared++
		}
	}
	require.Greater(t, compared, 1)
}

// Kaltura's layout has picture and sound in one media playlist.
func TestKalturaLayoutPlays(t *testing.T) {
	s := harness.Start(t, catalog)
	harness.StartEncoder(t, s, s.PublishURL("lobby", token), harness.Picture{GOP: 60})
	s.AwaitPlayable(t, "lobby")
	awaitSegment(t, s, "lobby")
	for _, path := range []string{
		"/kLive/smil:lobby_all.smil/playlist.m3u8",
		"/kLive/_definst_/smil:lobby_all.smil/playlist.m3u8",
		"/kLive/lobby_1/playlist.m3u8",
		"/kLive/lobby_1/1/chunklist.m3u8",
		"/kLive/smil:lobby_all.smil/1/chunklist.m3u8",
		"/kLive/smil:lobby_all.smil/playlist.m3u8?DVR",
	} {
		t.Run(path, func(t *testing.T) {
			out, diag, err := harness.Run(40*time.Second, "ffprobe", "-v", "warning", "-show_entries", "stream=codec_name", "-of", "csv=p=0", s.Play(path))
			require.NoError(t, err, diag)
			require.Empty(t, diag)
			require.Contains(t, out, "h264")
			require.Contains(t, out, "aac")
			_, diag, err = harness.Run(60*time.Second, "ffmpeg", "-nostdin", "-v", "warning", "-i", s.Play(path), "-t", "3", "-f", "null", "-")
			require.NoError(t, err, diag)
			require.Empty(t, diag)
		})
	}
	address := s.Play("/kLive/smil:lobby_all.smil/playlist.m3u8")
	media := against(t, address, multivariant(t, address).Variants[0].URI)
	f := followFor(t, media, 10*time.Second)
	require.Empty(t, f.Findings.List())
	kinds := make(map[bool]int)
	for _, run := range f.Runs {
		for _, track := range run.Tracks {
			kinds[track.Track.Video] += len(track.Samples)
		}
	}
	require.Positive(t, kinds[true], "pictures")
	require.Positive(t, kinds[false], "sound")
}

// The follower says what is wrong; a stream that is not there is no playlist.
func TestUnknownStreamIsNotFound(t *testing.T) {
	s := harness.Start(t, catalog)
	f := &hlscheck.Follower{URL: s.Play("/live/lobby/index.m3u8")}
	_, err := f.Step(t.Context())
	require.True(t, errors.Is(err, hlscheck.ErrStatus), "%v", err)
	require.Contains(t, err.Error(), "404")
}

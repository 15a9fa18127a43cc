//go:build e2e

package e2e

import (
	"fmt"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/test/e2e/harness"
)

// Every form of the broadcast address that ffmpeg can be given leads to a picture.
func TestAddressForms(t *testing.T) {
	odd := "a b/c&d=é%"
	s := harness.Start(t, `
streams:
  - { id: lobby, token: s3cret, partner: 102 }
  - { id: "event-*", token: s3cret }
  - { id: odd, token: "`+odd+`" }
`)
	h := s.RTMP
	for _, c := range []struct {
		id, url string
		options []string
	}{
		{"lobby", "rtmp://" + h + "/kLive/?p=102&e=lobby&i=0&t=s3cret/lobby_1", nil},
		{"event-noslash", "rtmp://" + h + "/kLive?e=event-noslash&i=0&t=s3cret/event-noslash_1", nil},
		{"event-token", "rtmp://" + h + "/kLive?t=s3cret/event-token_1", nil},
		{"event-name", "rtmp://" + h + "/kLive/event-name_1?t=s3cret&i=0", nil},
		{"odd", "rtmp://" + h + "/kLive/odd_1?t=" + strings.ReplaceAll(url.QueryEscape(odd), "+", "%20"), nil},
		{"event-tcurl", "rtmp://" + h + "/", []string{"-rtmp_app", "kLive", "-rtmp_tcurl", "rtmp://" + h + "/kLive/?t=s3cret", "-rtmp_playpath", "event-tcurl_1"}},
		{"event-host", "rtmp://" + h + "/", []string{"-rtmp_app", "kLive?t=s3cret", "-rtmp_playpath", "event-host_1",
			"-rtmp_tcurl", "rtmp://event-host.p.any.kpublish.kaltura.com/kLive?t=s3cret"}},
	} {
		t.Run(c.id, func(t *testing.T) {
			harness.StartEncoder(t, s, c.url, harness.Picture{Extra: c.options})
			s.AwaitPlayable(t, c.id)
			status, body, err := harness.Get(t.Context(), s.Play("/live/"+c.id+"/index.m3u8"))
			require.NoError(t, err)
			require.Equal(t, 200, status, body)
		})
	}
}

// What was published comes out whole: every picture, and ffmpeg has nothing to say about it.
func TestDecodesWithoutAWarning(t *testing.T) {
	s := harness.Start(t, catalog+"limits: { reconnect_window: 1s }")
	const seconds = 12
	e := harness.StartEncoder(t, s, s.PublishURL("lobby", token), harness.Picture{Duration: seconds, BFrames: 2})
	s.AwaitPlayable(t, "lobby")
	playlist := s.Play("/live/lobby/index.m3u8")
	awaitSegment(t, s, "lobby") // ffmpeg knows no parts

	// While live, as a viewer would.
	out, diag, err := harness.Run(40*time.Second, "ffprobe", "-v", "warning", "-show_entries", "stream=codec_name,width,height,sample_rate", "-of", "csv=p=0", playlist)
	require.NoError(t, err, diag)
	require.Empty(t, diag)
	require.Contains(t, out, "h264,320,180")
	require.Contains(t, out, "aac,48000")

	// The whole broadcast, after its end.
	require.True(t, e.Wait(40*time.Second), "ffmpeg ends by itself")
	s.AwaitState(t, "lobby", klivev1.BroadcastState_BROADCAST_STATE_STOPPED, 10*time.Second)
	_, diag, err = harness.Run(60*time.Second, "ffmpeg", "-nostdin", "-v", "warning", "-i", playlist, "-f", "null", "-")
	require.NoError(t, err, diag)
	require.Empty(t, diag)
	require.Equal(t, seconds*30, countFrames(t, playlist, "v"), "pictures")
	require.InDelta(t, seconds*48000/1024, countFrames(t, playlist, "a"), 3, "frames of sound")
}

// countFrames decodes a playlist and counts what comes out of it.
func countFrames(t *testing.T, address, kind string) int {
	t.Helper()
	out, diag, err := harness.Run(60*time.Second, "ffprobe", "-v", "error", "-count_frames", "-select_streams", kind+":0",
		"-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", address)
	require.NoError(t, err, diag)
	line, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	n, err := strconv.Atoi(strings.Trim(line, ", "))
	require.NoError(t, err, out)
	return n
}

// Several ingest indexes are the bit rates of one stream.
func TestRenditionsOfOneStream(t *testing.T) {
	s := harness.Start(t, catalog)
	for i, size := range []string{"640x360", "320x180", "160x90"} {
		address := fmt.Sprintf("rtmp://%s/kLive?t=%s/lobby_%d", s.RTMP, token, i+1)
		harness.StartEncoder(t, s, address, harness.Picture{Size: size, Bitrate: strconv.Itoa(600/(i+1)) + "k"})
	}
	address := s.Play("/live/lobby/index.m3u8")
	harness.Wait(t, 20*time.Second, "three variants", func() (bool, error) {
		return len(multivariant(t, address).Variants) == 3, nil
	})
	awaitSegment(t, s, "lobby")
	m := multivariant(t, address)
	sizes := make(map[string]bool)
	for _, v := range m.Variants {
		sizes[v.Resolution] = true
		require.Contains(t, v.Codecs, "avc1.")
		require.Contains(t, v.Codecs, "mp4a.40.2")
		require.Positive(t, v.Bandwidth)
		status, body, err := harness.Get(t.Context(), against(t, address, v.URI))
		require.NoError(t, err)
		require.Equal(t, 200, status, body)
	}
	require.Equal(t, map[string]bool{"640x360": true, "320x180": true, "160x90": true}, sizes)
	_, diag, err := harness.Run(60*time.Second, "ffmpeg", "-nostdin", "-v", "warning", "-i", address, "-t", "3", "-map", "0", "-f", "null", "-")
	require.NoError(t, err, diag)
	require.Empty(t, diag)
}

// Primary and backup are two sessions of one stream; `i` picks one.
func TestPrimaryAndBackup(t *testing.T) {
	s := harness.Start(t, catalog)
	harness.StartEncoder(t, s, "rtmp://"+s.RTMP+"/kLive?i=0&t=s3cret/lobby_1", harness.Picture{Size: "320x180"})
	harness.StartEncoder(t, s, "rtmp://"+s.RTMP+"/kLive?i=1&t=s3cret/lobby_1", harness.Picture{Size: "160x90"})
	for query, size := range map[string]string{"?i=0": "320x180", "?i=1": "160x90"} {
		require.Equal(t, size, multivariant(t, s.Play("/live/lobby/index.m3u8"+query)).Variants[0].Resolution)
	}
	require.Equal(t, "320x180", multivariant(t, s.Play("/live/lobby/index.m3u8")).Variants[0].Resolution)
	require.Len(t, s.Stream(t, "lobby").GetBroadcasts(), 2)
}

// Who may not publish is told why, in words that ffmpeg prints.
func TestRefusalsAreShownByFFmpeg(t *testing.T) {
	s := harness.Start(t, catalog)
	h := "rtmp://" + s.RTMP
	for name, c := range map[string]struct{ url, want string }{
		"wrong token":             {h + "/kLive?t=wrong/lobby_1", "token"},
		"no token":                {h + "/kLive/lobby_1", "t="},
		"unknown stream":          {h + "/kLive?t=s3cret/nobody_1", "nobody"},
		"name without index":      {h + "/kLive?t=s3cret/lobby", "lobby_1"},
		"name of another entry":   {h + "/kLive/?e=event-x&t=s3cret/lobby_1", "event-x"},
		"unknown application":     {h + "/vod?t=s3cret/lobby_1", "kLive"},
		"server index of nowhere": {h + "/kLive?t=s3cret&i=7/lobby_1", "i"},
	} {
		t.Run(name, func(t *testing.T) {
			_, diag, err := harness.Run(20*time.Second, "ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error",
				"-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10:duration=3", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-f", "flv", c.url)
			var failed *exec.ExitError
			require.ErrorAs(t, err, &failed, "ffmpeg was not refused")
			t.Logf("ffmpeg says: %s", strings.TrimSpace(diag))
			require.Contains(t, diag, "Server error:")
			_, said, _ := strings.Cut(diag, "Server error:")
			said, _, _ = strings.Cut(said, "\n") // behind it ffmpeg repeats the address
			require.Contains(t, said, c.want)
			require.NotContains(t, said, "s3cret")
		})
	}
	require.NotContains(t, s.Log(), "s3cret", "the log holds a token")
	require.NotContains(t, s.Log(), "t=wrong", "the log holds a wrong token")
}

//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/rtmp/amf"
	"github.com/klive-media/klive/internal/rtmp/message"
	"github.com/klive-media/klive/test/e2e/harness"
)

// clipTime is how long clips are published: more than a segment.
const clipTime = 10 * time.Second

// Every codec of Enhanced RTMP comes out of HLS with its name, and whole: ffmpeg decodes it without a word.
func TestEnhancedCodecs(t *testing.T) {
	s := harness.Start(t, `
streams: [ { id: "event-*", token: s3cret } ]
limits: { reconnect_window: 1s }
`)
	for _, c := range []struct {
		video, audio, codecs string
		names                []string // as ffprobe calls them
	}{
		{"hevc", "opus", "hvc1.1.6.L30.90,Opus", []string{"hevc", "opus"}},
		{"hdr", "flac", "hvc1.2.4.L30.90,fLaC", []string{"hevc", "flac"}},
		{"av1", "ac3", "av01.0.00M.08,ac-3", []string{"av1", "ac3"}},
		{"svtav1", "eac3", "av01.0.00M.08,ec-3", []string{"av1", "eac3"}},
		{"vp9", "mp3", "vp09.00.10.08,mp4a.6B", []string{"vp9", "mp3"}},
	} {
		t.Run(c.video+" "+c.audio, func(t *testing.T) {
			t.Parallel()
			id := "event-" + c.video
			ctx, cancel := context.WithTimeout(t.Context(), clipTime)
			defer cancel()
			sent, err := harness.PublishClips(ctx, s.RTMP, "kLive?t=s3cret", id+"_1", nil,
				harness.ClipTrack{Clip: c.video}, harness.ClipTrack{Clip: c.audio})
			require.NoError(t, err)
			s.AwaitState(t, id, klivev1.BroadcastState_BROADCAST_STATE_STOPPED, 10*time.Second)
			playlist := s.Play("/live/" + id + "/index.m3u8")
			status, body, err := harness.Get(t.Context(), playlist)
			require.NoError(t, err)
			require.Equal(t, 200, status)
			require.Contains(t, body, `CODECS="`+c.codecs+`"`)
			require.Contains(t, body, "RESOLUTION=160x90")
			require.Equal(t, c.video == "hdr", strings.Contains(body, "VIDEO-RANGE=PQ"))
			out, diag, err := harness.Run(40*time.Second, "ffprobe", "-v", "warning", "-show_entries", "stream=codec_name", "-of", "csv=p=0", playlist)
			require.NoError(t, err, diag)
			for _, name := range c.names {
				require.Contains(t, out, name)
			}
			_, diag, err = harness.Run(60*time.Second, "ffmpeg", "-nostdin", "-v", "warning", "-i", playlist, "-f", "null", "-")
			require.NoError(t, err, diag)
			require.Empty(t, diag)
			require.Equal(t, sent[0], countFrames(t, playlist, "v"), "pictures")
			// The first picture of HEVC with B-frames is shown after 200 ms; sound before it is left out.
			require.InDelta(t, sent[1], countFrames(t, playlist, "a"), 12, "frames of sound")
		})
	}
}

// Several tracks of one connection are renditions and languages of one stream.
func TestEnhancedMultitrack(t *testing.T) {
	s := harness.Start(t, catalog+"limits: { reconnect_window: 1s }")
	languages := amf.Object{{Name: "0", Value: amf.Object{{Name: "language", Value: "en"}}}, {Name: "1", Value: amf.Object{{Name: "language", Value: "de"}}}}
	meta, err := message.NewData(0, "onMetaData", amf.ECMAArray{{Name: "hasVideo", Value: true}, {Name: "hasAudio", Value: true},
		{Name: "audioTrackIdInfoMap", Value: languages}})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), clipTime)
	defer cancel()
	_, err = harness.PublishClips(ctx, s.RTMP, "kLive?t="+token, "lobby_1", []message.Message{meta},
		harness.ClipTrack{Clip: "hevc"}, harness.ClipTrack{Clip: "av1", ID: 1}, harness.ClipTrack{Clip: "opus"}, harness.ClipTrack{Clip: "flac", ID: 1})
	require.NoError(t, err)
	s.AwaitState(t, "lobby", klivev1.BroadcastState_BROADCAST_STATE_STOPPED, 10*time.Second)
	playlist := s.Play("/live/lobby/index.m3u8")
	status, body, err := harness.Get(t.Context(), playlist)
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Contains(t, body, `CODECS="hvc1.1.6.L30.90,Opus"`)
	require.Contains(t, body, `CODECS="av01.0.00M.08,Opus"`)
	require.Contains(t, body, `LANGUAGE="en",DEFAULT=YES`)
	require.Contains(t, body, `LANGUAGE="de"`)
	out, diag, err := harness.Run(40*time.Second, "ffprobe", "-v", "warning", "-show_entries", "stream=codec_name", "-of", "csv=p=0", playlist)
	require.NoError(t, err, diag)
	for _, name := range []string{"hevc", "av1", "opus", "flac"} {
		require.Contains(t, out, name)
	}
	_, diag, err = harness.Run(60*time.Second, "ffmpeg", "-nostdin", "-v", "warning", "-i", playlist, "-map", "0", "-f", "null", "-")
	require.NoError(t, err, diag)
	require.Empty(t, diag)
}

// What browsers can decode plays in one: the names in the playlist are those it knows.
func TestEnhancedInBrowser(t *testing.T) {
	s := harness.Start(t, catalog)
	for _, c := range [][2]string{{"av1", "opus"}, {"vp9", "flac"}} {
		t.Run(c[0]+" "+c[1], func(t *testing.T) {
			id := "event-" + c[0]
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				_, err := harness.PublishClips(ctx, s.RTMP, "kLive?t="+token, id+"_1", nil, harness.ClipTrack{Clip: c[0]}, harness.ClipTrack{Clip: c[1]})
				ended <- err
			}()
			awaitSegments(t, s, id, 2)
			v, err := watch(t, s, id, 8*time.Second, 0).Result(time.Minute)
			cancel()
			require.NoError(t, <-ended)
			require.NoError(t, err)
			require.Equal(t, 160, v.Video.Width)
			require.Greater(t, v.Video.CurrentTime, 5.0)
			require.Greater(t, len(v.Frames), 40, "pictures at 10 a second")
			require.Positive(t, v.Video.Audio, "no sound was decoded")
		})
	}
}

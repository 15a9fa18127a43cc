//go:build e2e

package e2e

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/rtmp/message"
	"github.com/klive-media/klive/test/e2e/encoder"
	"github.com/klive-media/klive/test/e2e/harness"
)

// without leaves out all tags of one type.
func without(c *encoder.Clip, kind message.Type) *encoder.Clip {
	out := *c
	keep := func(t encoder.Tag) bool { return t.Type == kind }
	out.Setup = slices.DeleteFunc(slices.Clone(c.Setup), keep)
	out.Media = slices.DeleteFunc(slices.Clone(c.Media), keep)
	return &out
}

// publishFor plays a clip as one publication for the given time of the clip.
func publishFor(t *testing.T, s *harness.Server, id string, shift time.Duration, parts ...*encoder.Clip) {
	t.Helper()
	c, err := encoder.Dial(t.Context(), encoder.Catalog(s.RTMP, id, token))
	require.NoError(t, err)
	defer c.Close()
	for i, clip := range parts {
		c.Shift = time.Duration(i) * shift
		require.NoError(t, c.Play(t.Context(), clip, time.Now(), 5*time.Second, nil))
	}
}

// One kind of media alone plays, whatever onMetaData promised.
func TestPictureOrSoundAlone(t *testing.T) {
	s := harness.Start(t, catalog)
	whole := clip(t)
	for id, kind := range map[string]message.Type{"event-silent": message.TypeAudio, "event-blind": message.TypeVideo} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			publishFor(t, s, id, 0, without(whole, kind))
			awaitSegment(t, s, id)
			m := multivariant(t, s.Play("/live/"+id+"/index.m3u8"))
			require.Len(t, m.Variants, 1)
			if kind == message.TypeAudio {
				require.NotContains(t, m.Variants[0].Codecs, "mp4a")
			} else {
				require.NotContains(t, m.Variants[0].Codecs, "avc1")
			}
			_, diag, err := harness.Run(40*time.Second, "ffmpeg", "-nostdin", "-v", "warning", "-i", s.Play("/live/"+id+"/index.m3u8"), "-t", "2", "-f", "null", "-")
			require.NoError(t, err, diag)
			require.Empty(t, diag)
		})
	}
}

// Picture size and parameter sets change in the middle of a publication: a discontinuity and a new init section.
func TestResolutionChangesMidStream(t *testing.T) {
	s := harness.Start(t, catalog)
	other, err := encoder.Make(t.TempDir(), encoder.Spec{Size: "160x90", Rate: 30, GOP: 30, Video: 200_000, Audio: 64_000, Seconds: 16})
	require.NoError(t, err)
	publishFor(t, s, "lobby", 5*time.Second, clip(t), other)
	video, _ := rows(t, s, "lobby")
	f := followFor(t, video, 2*time.Second)
	require.Empty(t, f.Findings.List())
	maps := make(map[string]bool)
	widths := make(map[int]bool)
	for _, run := range f.Runs {
		widths[run.Tracks[0].Track.Width] = true
	}
	for _, seg := range f.Last().All() {
		maps[seg.Map] = true
	}
	require.Len(t, maps, 2)
	require.Equal(t, map[int]bool{320: true, 160: true}, widths)
	all := f.Last().All()
	require.EqualValues(t, 1, all[len(all)-1].Discontinuity)
}

// Timestamps that jump are repaired: the timeline goes on without a hole, with a discontinuity.
func TestTimestampsThatJump(t *testing.T) {
	s := harness.Start(t, catalog)
	media := clip(t)
	for id, shift := range map[string]time.Duration{"event-forward": time.Hour, "event-back": 0, "event-wrap": (1<<32 - 2000) * time.Millisecond} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			publishFor(t, s, id, shift, media, media)
			video, audio := rows(t, s, id)
			for _, address := range []string{video, audio} {
				f := followFor(t, address, 2*time.Second)
				require.Empty(t, f.Findings.List())
				var sum time.Duration
				for _, seg := range f.Last().Segments {
					sum += seg.Duration
				}
				if open := f.Last().Open; open != nil {
					for _, p := range open.Parts {
						sum += p.Duration
					}
				}
				require.InDelta(t, 10, sum.Seconds(), 0.8, "ten seconds were published")
			}
			require.Positive(t, s.Sessions(t, id)[0].GetDiscontinuityCount())
		})
	}
}

// Without a key frame nothing is shown, and the API says where the stream stands; a key frame later heals it.
func TestNoKeyFrame(t *testing.T) {
	s := harness.Start(t, catalog)
	whole := clip(t)
	late := *whole
	late.Media = slices.DeleteFunc(slices.Clone(whole.Media), func(tag encoder.Tag) bool {
		return tag.Type == message.TypeVideo && tag.Time < 2*time.Second-time.Millisecond
	})
	c, err := encoder.Dial(t.Context(), encoder.Catalog(s.RTMP, "lobby", token))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Play(ctx, &late, time.Now(), 0, nil) }()
	t.Cleanup(func() { cancel(); <-done; c.Close() })
	s.AwaitPlayable(t, "lobby")
	video, _ := rows(t, s, "lobby")
	f := followFor(t, video, 6*time.Second)
	require.Empty(t, f.Findings.List())
	require.True(t, f.Runs[0].Tracks[0].Samples[0].Sync, "the first picture shown is no key frame")
}

// A publication without any media ends by itself and says why.
func TestPublicationWithoutMediaIsClosed(t *testing.T) {
	s := harness.Start(t, catalog+"limits: { idle_timeout: 1s, takeover_after: 500ms }")
	c, err := encoder.Dial(t.Context(), encoder.Catalog(s.RTMP, "lobby", token))
	require.NoError(t, err)
	defer c.Close()
	select {
	case <-c.Ended():
	case <-time.After(10 * time.Second):
		t.Fatal("the idle publication was not closed")
	}
	t.Logf("the encoder is told: %v", c.Err())
	require.Contains(t, s.Sessions(t, "lobby")[0].GetReasonMessage(), "no picture or sound")
}

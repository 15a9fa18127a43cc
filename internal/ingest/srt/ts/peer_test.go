package ts

import (
	"bytes"
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts"
	tscodecs "github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts/codecs"
	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

// TestOtherMuxer reads what another implementation writes.
func TestOtherMuxer(t *testing.T) {
	var out bytes.Buffer
	video := &mpegts.Track{Codec: &tscodecs.H264{}}
	sound := &mpegts.Track{Codec: &tscodecs.MPEG4Audio{Config: mpeg4audio.AudioSpecificConfig{
		Type: mpeg4audio.ObjectTypeAACLC, SampleRate: 44100, ChannelConfig: 1,
	}}}
	w := &mpegts.Writer{W: &out, Tracks: []*mpegts.Track{video, sound}}
	require.NoError(t, w.Initialize())
	for i := range int64(10) {
		units := [][]byte{[]byte(reference)}
		if i%5 == 0 {
			units = [][]byte{[]byte(spsSmall), []byte(ppsSmall), []byte(idr)}
		}
		require.NoError(t, w.WriteH264(video, 3600*i+7200, 3600*i, units))
		require.NoError(t, w.WriteMPEG4Audio(sound, 3600*i, [][]byte{[]byte("one"), []byte("two")}))
	}
	r, stats := demux(t, out.Bytes(), 1316)
	require.Len(t, r.of(media.Video), 10)
	require.Len(t, r.of(media.Audio), 20)
	require.Equal(t, 44100, r.of(media.Audio)[0].Track.Audio.SampleRate)
	require.Equal(t, lengths(idr), r.of(media.Video)[5].Payload)
	require.Equal(t, ticks(3600), r.of(media.Video)[9].CompositionOffset()*ticks(3600)/ticks(7200))
	require.Zero(t, stats.Corrupt+stats.ContinuityErrors+stats.LostSync)
}

// TestFFmpeg reads what ffmpeg writes: x264 with B-frames, and AAC in ADTS and
// in LATM.
func TestFFmpeg(t *testing.T) {
	for _, flags := range []string{"", "latm"} {
		args := []string{"-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=2",
			"-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=2",
			"-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "25", "-c:a", "aac", "-metadata:s:a:0", "language=fra"}
		if flags != "" {
			args = append(args, "-mpegts_flags", flags)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		out, err := exec.CommandContext(ctx, "ffmpeg", append(args, "-f", "mpegts", "-")...).Output() //nolint:gosec // fixed arguments
		cancel()
		require.NoError(t, err)
		r, stats := demux(t, out, 1316)
		video, sound := r.of(media.Video), r.of(media.Audio)
		require.Len(t, video, 50, flags)
		require.InDelta(t, 94, len(sound), 2, flags)
		require.Equal(t, "fr", sound[0].Track.Language)
		require.Equal(t, 25.0, video[0].Track.Video.FrameRate)
		keys := 0
		for i, p := range video {
			if p.Flags.Has(media.Key) {
				keys++
			}
			require.Equal(t, 40*time.Millisecond*time.Duration(i), (p.DTS - video[0].DTS).Round(time.Millisecond))
			require.GreaterOrEqual(t, p.PTS, p.DTS)
		}
		require.Equal(t, 2, keys)
		for i := range sound[1:] {
			require.InDelta(t, float64(1024)/48000, (sound[i+1].DTS - sound[i].DTS).Seconds(), 0.0001)
		}
		require.Zero(t, stats.Corrupt+stats.ContinuityErrors+stats.LostSync, r.bad)
	}
}

// TestCodecsOfFFmpeg reads what ffmpeg writes of every other codec.
func TestCodecsOfFFmpeg(t *testing.T) {
	for _, c := range []struct {
		kind    media.Kind
		args    []string
		track   string
		packets int
	}{
		{media.Video, []string{"-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=25"}, "video 0 hvc1.", 50},
		{media.Audio, []string{"-c:a", "libmp3lame", "-b:a", "128k"}, "audio 0 mp4a.6B 48000 Hz 1 ch", 83},
		{media.Audio, []string{"-c:a", "libmp3lame", "-ar", "22050", "-b:a", "64k"}, "audio 0 mp4a.69 22050 Hz 1 ch", 77},
		{media.Audio, []string{"-c:a", "ac3", "-ac", "2"}, "audio 0 ac-3 48000 Hz 2 ch", 63},
		{media.Audio, []string{"-c:a", "eac3", "-ac", "6"}, "audio 0 ec-3 48000 Hz 6 ch", 63},
		{media.Audio, []string{"-c:a", "libopus", "-ac", "2"}, "audio 0 Opus 48000 Hz 2 ch", 100},
		{media.Audio, []string{"-c:a", "libopus", "-ac", "6"}, "audio 0 Opus 48000 Hz 6 ch", 100},
	} {
		t.Run(c.track, func(t *testing.T) {
			input := "sine=frequency=440:sample_rate=48000:duration=2"
			if c.kind == media.Video {
				input = "testsrc2=size=320x180:rate=25:duration=2"
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			args := append([]string{"-v", "error", "-f", "lavfi", "-i", input}, c.args...)
			out, err := exec.CommandContext(ctx, "ffmpeg", append(args, "-f", "mpegts", "-")...).Output() //nolint:gosec // fixed arguments
			require.NoError(t, err)
			r, stats := demux(t, out, 1316)
			list := r.of(c.kind)
			require.NotEmpty(t, list, "%+v %v", stats, r.bad)
			require.Contains(t, r.last()[0].String(), c.track)
			require.InDelta(t, c.packets, len(list), 3)
			require.Len(t, r.told, 1)
			require.True(t, list[0].Flags.Has(media.Key))
			require.Zero(t, stats.Corrupt+stats.ContinuityErrors+stats.LostSync, r.bad)
			for i := range list[1:] {
				require.Positive(t, list[i+1].DTS-list[i].DTS)
				if c.kind == media.Audio {
					require.InDelta(t, list[i].Duration.Seconds(), (list[i+1].DTS - list[i].DTS).Seconds(), 0.0002)
				}
			}
		})
	}
}

// TestLayerTwoIsRefused: MP2 cannot be played in a browser, and nobody would
// hear why.
func TestLayerTwoIsRefused(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=duration=1", "-c:a", "mp2", "-f", "mpegts", "-").Output()
	require.NoError(t, err)
	err = newDemuxer(new(recorder)).Write(out, time.Now())
	require.Equal(t, fault.UnsupportedCodec, fault.ReasonOf(err), "%v", err)
}

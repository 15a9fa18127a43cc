package srt

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts"
	tscodecs "github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts/codecs"
	"github.com/stretchr/testify/require"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// messages is a transport stream of so many pictures, 25 a second, with sounds
// of so many languages, cut as encoders send it: seven packets at a time.
func messages(t testing.TB, pictures, sounds int) [][]byte {
	t.Helper()
	sps, pps := unhex(t, "6742c00cda05067e7c0440000003004000000c83c50aa8"), unhex(t, "68ce0fc8")
	video := &mpegts.Track{Codec: &tscodecs.H264{}}
	w := &mpegts.Writer{Tracks: []*mpegts.Track{video}}
	for range sounds {
		w.Tracks = append(w.Tracks, &mpegts.Track{Codec: &tscodecs.MPEG4Audio{Config: mpeg4audio.AudioSpecificConfig{
			Type: mpeg4audio.ObjectTypeAACLC, SampleRate: 48000, ChannelConfig: 2,
		}}})
	}
	var out bytes.Buffer
	w.W = &out
	require.NoError(t, w.Initialize())
	for i := range int64(pictures) {
		units := [][]byte{append([]byte{0x41}, bytes.Repeat([]byte("reference"), 50)...)}
		if i%25 == 0 {
			units = [][]byte{sps, pps, append([]byte{0x65}, bytes.Repeat([]byte("key frame"), 200)...)}
		}
		require.NoError(t, w.WriteH264(video, 3600*i, 3600*i, units))
		for _, sound := range w.Tracks[1:] {
			require.NoError(t, w.WriteMPEG4Audio(sound, 3600*i, [][]byte{[]byte("sound"), []byte("SOUND")}))
		}
	}
	return slices.Collect(slices.Chunk(out.Bytes(), 7*188))
}

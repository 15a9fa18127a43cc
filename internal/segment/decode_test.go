package segment

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"
	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment/fmp4"
)

// read gives all bytes of a content and closes it.
func read(t testing.TB, c *Content) []byte {
	t.Helper()
	defer c.Close()
	if c.Buffers != nil {
		return bytes.Join(c.Buffers, nil)
	}
	b, err := io.ReadAll(io.LimitReader(c.File, c.Size))
	require.NoError(t, err)
	return b
}

// decoded is a sample as another library sees it.
type decoded struct {
	dts, pts time.Duration
	dur      time.Duration
	key      bool
	payload  []byte
}

// decodeRow reads a row's segments with mp4ff.
func decodeRow(t testing.TB, h Shelf, x *Index) (out []decoded) {
	t.Helper()
	var init *mp4.File
	var run string
	n := -1
	for i := range x.Closed {
		s := &x.Closed[i]
		if s.Gap {
			continue
		}
		if s.Init != n || s.Run != run {
			b, err := h.Init(x.Row, s.Run, s.Init)
			require.NoError(t, err)
			init, err = mp4.DecodeFile(bytes.NewReader(b))
			require.NoError(t, err)
			run, n = s.Run, s.Init
		}
		c, err := h.Open(x.Row, s.Run, s.Number, -1)
		require.NoError(t, err)
		data := read(t, c)
		require.Len(t, data, int(s.Size))
		scale := init.Moov.Trak.Mdia.Mdhd.Timescale
		f, err := mp4.DecodeFile(bytes.NewReader(data))
		require.NoError(t, err)
		require.Equal(t, s.Independent, firstIsSync(f))
		for _, seg := range f.Segments {
			for _, frag := range seg.Fragments {
				require.Equal(t, init.Moov.Trak.Tkhd.TrackID, frag.Moof.Traf.Tfhd.TrackID)
				samples, err := frag.GetFullSamples(init.Moov.Mvex.Trex)
				require.NoError(t, err)
				for _, x := range samples {
					out = append(out, decoded{
						dts: media.FromTicks(int64(x.DecodeTime), scale), pts: media.FromTicks(int64(x.DecodeTime)+int64(x.CompositionTimeOffset), scale),
						dur: media.FromTicks(int64(x.Dur), scale), key: x.Flags&mp4.NonSyncSampleFlags == 0, payload: x.Data,
					})
				}
			}
		}
	}
	return out
}

func firstIsSync(f *mp4.File) bool {
	t := f.Segments[0].Fragments[0].Moof.Traf.Trun
	flags, ok := t.FirstSampleFlags()
	if !ok {
		if t.HasSampleFlags() {
			flags = t.Samples[0].Flags
		} else {
			flags = f.Segments[0].Fragments[0].Moof.Traf.Tfhd.DefaultSampleFlags
		}
	}
	return flags&mp4.NonSyncSampleFlags == 0
}

// verify compares what was cut with what came in: nothing lost, nothing
// doubled, presented when it was meant to be.
func verify(t testing.TB, h Shelf, x *Index, packets []*media.Packet, within time.Duration) {
	t.Helper()
	got := decodeRow(t, h, x)
	var want []*media.Packet
	for _, p := range packets {
		if p.Track.Kind == x.Row.Kind {
			want = append(want, p)
		}
	}
	for len(want) > 0 && len(got) > 0 && !bytes.Equal(want[0].Payload, got[0].payload) { // before the first cut
		want = want[1:]
	}
	require.Len(t, got, len(want))
	var end time.Duration
	for i, g := range got {
		require.Equal(t, want[i].Payload, g.payload, "sample %d", i)
		require.Equal(t, want[i].Flags.Has(media.Key), g.key)
		require.InDelta(t, want[i].PTS, g.pts, float64(within), "sample %d", i)
		require.LessOrEqual(t, end, g.dts+time.Microsecond, "sample %d is decoded before the one before ends", i)
		require.LessOrEqual(t, g.dts, g.pts+time.Microsecond)
		end = g.dts + g.dur
	}
}

func TestInitSectionsDecode(t *testing.T) {
	for _, track := range []*media.Track{
		videoTrack(1), audioTrack(1, 44100),
		{ID: 3, Kind: media.Audio, Codec: media.Opus, Config: []byte{0, 2, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0}, Audio: media.AudioInfo{SampleRate: 48000, Channels: 2}, Language: "deu"},
	} {
		b, err := fmp4.Init(track)
		require.NoError(t, err)
		f, err := mp4.DecodeFile(bytes.NewReader(b))
		require.NoError(t, err)
		require.Equal(t, uint32(track.ID), f.Moov.Trak.Tkhd.TrackID)
		require.Equal(t, fmp4.Scale(track), f.Moov.Trak.Mdia.Mdhd.Timescale)
		var again bytes.Buffer
		require.NoError(t, f.Encode(&again))
		require.Equal(t, b, again.Bytes(), "mp4ff writes what it read")
	}
	_, err := fmp4.Init(&media.Track{Kind: media.Video, Codec: media.VP8})
	require.Error(t, err)
}

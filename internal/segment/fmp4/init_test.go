package fmp4

import (
	"bytes"
	"testing"

	"github.com/Eyevinn/mp4ff/mp4"
	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec"
	"github.com/klive-media/klive/internal/media/codec/clips"
)

// TestSampleEntries makes an init section of every codec, and reads it with
// another library.
func TestSampleEntries(t *testing.T) {
	cs, err := clips.All()
	require.NoError(t, err)
	for i, c := range cs {
		t.Run(c.Name, func(t *testing.T) {
			f := codec.FormatOf(c.Codec)
			var track *media.Track
			if f.Track != nil {
				track, _, err = f.Track(c.Config)
				require.NoError(t, err)
			}
			if !f.IsComplete(track) {
				track, err = f.Update(track, c.Samples[0].Payload, 4)
				require.NoError(t, err)
			}
			track.ID = media.TrackID(i + 1) //nolint:gosec // a few clips
			b, err := Init(track)
			require.NoError(t, err)
			file, err := mp4.DecodeFile(bytes.NewReader(b))
			require.NoError(t, err)
			entry := file.Moov.Trak.Mdia.Minf.Stbl.Stsd.Children[0]
			require.Equal(t, c.Codec.Info().SampleEntry, entry.Type())
			var again bytes.Buffer
			require.NoError(t, file.Encode(&again))
			require.Equal(t, b, again.Bytes(), "it is written as it was read")
			require.NotNil(t, find(b, c.Codec.Info().ConfigBox))
		})
	}
}

// find is the first box of that name, wherever it stands.
func find(b []byte, name string) []byte {
	if i := bytes.Index(b, []byte(name)); i > 0 {
		return b[i:]
	}
	return nil
}

func TestColorBoxes(t *testing.T) {
	track := &media.Track{ID: 1, Kind: media.Video, Codec: media.HEVC, Config: []byte("hvcC"), Video: media.VideoInfo{
		Width: 160, Height: 90, Color: media.Color{
			Primaries: 9, Transfer: media.TransferPQ, Matrix: 9, MaxCLL: 1000, MaxFALL: 400,
			Mastering: media.Mastering{Red: [2]uint16{34000, 16000}, Green: [2]uint16{13250, 34500}, Blue: [2]uint16{7500, 3000},
				White: [2]uint16{15635, 16450}, MaxLuminance: 10_000_000, MinLuminance: 50},
		},
	}}
	b, err := Init(track)
	require.NoError(t, err)
	require.Equal(t, "colrnclx\x00\x09\x00\x10\x00\x09\x00", string(find(b, "colr")[:15]))
	require.Equal(t, "mdcv\x33\xc2\x86\xc4\x1d\x4c\x0b\xb8\x84\xd0\x3e\x80\x3d\x13\x40\x42\x00\x98\x96\x80\x00\x00\x00\x32", string(find(b, "mdcv")[:28]))
	require.Equal(t, "clli\x03\xe8\x01\x90", string(find(b, "clli")[:8]))

	track.Video.Color = media.Color{}
	b, err = Init(track)
	require.NoError(t, err)
	require.Nil(t, find(b, "colr"))
	require.Nil(t, find(b, "clli"))
}

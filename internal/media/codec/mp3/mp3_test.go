package mp3

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
)

var headers = []struct {
	in   string
	want Header
}{
	{"\xff\xfb\x90\x00", Header{44100, 2, 1152, true}},
	{"\xff\xfb\x54\xc0", Header{48000, 1, 1152, true}},
	{"\xff\xf3\x50\x00", Header{22050, 2, 576, false}},
	{"\xff\xe3\x58\x00", Header{8000, 2, 576, false}},
	{"\xff\xfd\x90\x00", Header{}}, // layer II
	{"\xff\xeb\x90\x00", Header{}}, // reserved version
	{"\xff\xfb\x9c\x00", Header{}}, // reserved rate
	{"\xff\xfb\xf0\x00", Header{}}, // reserved bit rate
	{"\xff\xfb\x90", Header{}},
	{"", Header{}},
}

func TestUpdate(t *testing.T) {
	for _, tc := range headers {
		h, err := ParseHeader([]byte(tc.in))
		require.Equal(t, tc.want, h)
		require.Equal(t, tc.want == Header{}, fault.ReasonOf(err) == fault.BadMedia, "%x", tc.in)
	}
	a, err := Update(nil, []byte(headers[0].in))
	require.NoError(t, err)
	same, err := Update(a, []byte(headers[0].in))
	require.NoError(t, err)
	require.True(t, a == same)
	b, err := Update(a, []byte(headers[2].in))
	require.NoError(t, err)
	require.Equal(t, CodecStringHalf, b.CodecString)
	require.False(t, a.SameConfig(b))
	require.Equal(t, CodecString, a.CodecString)
}

func FuzzHeader(f *testing.F) {
	for _, tc := range headers {
		f.Add([]byte(tc.in))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseHeader(b); err == nil {
			require.Positive(t, h.SampleRate)
			require.Positive(t, h.Samples)
		}
	})
}

package av1

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

// Sequence headers as libaom writes them: 160x90.
const sequence = "\x0a\x0a\x00\x00\x00\x03\xb4\xfd\x93\x6b\xe4\x01"

// Units: a temporal delimiter, padding, a key frame, an inter frame, a frame
// that shows another.
const (
	delimiter = "\x12\x00"
	padding   = "\x7a\x01\x80"
	keyFrame  = "\x32\x02\x10\xaa"
	inter     = "\x32\x02\x30\xbb"
	existing  = "\x1a\x01\x80"
)

func TestNormalizePayload(t *testing.T) {
	for _, tc := range []struct {
		name, in, want string
		info           Info
		bad            bool
	}{
		{name: "nothing"},
		{name: "key frame", in: delimiter + sequence + keyFrame, want: sequence + keyFrame, info: Info{Frames: 1, Key: true, Sequence: true}},
		{name: "inter frame", in: inter, want: inter, info: Info{Frames: 1}},
		{name: "two frames, the first hidden", in: "\x32\x02\x00\xaa" + keyFrame, want: "\x32\x02\x00\xaa" + keyFrame, info: Info{Frames: 2}},
		{name: "an existing frame", in: existing, want: existing, info: Info{Frames: 1}},
		{name: "padding between", in: keyFrame + padding + inter, want: keyFrame + inter, info: Info{Frames: 2, Key: true}},
		{name: "padding at the end", in: keyFrame + padding, want: keyFrame, info: Info{Frames: 1, Key: true}},
		{name: "the last without a size", in: delimiter + "\x30\x10\xaa", want: "\x30\x10\xaa", info: Info{Frames: 1, Key: true}},
		{name: "with an extension", in: "\x36\x08\x01\x10", want: "\x36\x08\x01\x10", info: Info{Frames: 1, Key: true}},
		{name: "longer than the data", in: "\x32\x05\x10", bad: true},
		{name: "a size without end", in: "\x32\xff\xff\xff\xff\xff\xff\xff\xff\xff", bad: true},
		{name: "a size of 35 bits", in: "\x32\xff\xff\xff\xff\x7f", bad: true},
		{name: "cut in the extension", in: "\x36", bad: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, info, err := NormalizePayload(new(media.Slab), []byte(tc.in))
			require.Equal(t, tc.bad, fault.ReasonOf(err) == fault.BadMedia)
			require.Equal(t, tc.want, string(got))
			require.Equal(t, tc.info, info)
		})
	}
}

func TestTrackWithoutSequenceHeaderWaitsForOne(t *testing.T) {
	track, err := Track([]byte("\x81\x00\x0c\x00"))
	require.NoError(t, err)
	require.Zero(t, track.Video.Width)
	full, err := Update(track, []byte(delimiter+sequence+keyFrame))
	require.NoError(t, err)
	require.Equal(t, "av01.0.00M.08", full.CodecString)
	require.Equal(t, [2]int{160, 90}, [2]int{full.Video.Width, full.Video.Height})
	require.Equal(t, "\x81\x00\x0c\x00"+sequence, string(full.Config))
	same, err := Update(full, []byte(sequence+keyFrame))
	require.NoError(t, err)
	require.True(t, full == same)
	fresh, err := Update(nil, []byte(sequence))
	require.NoError(t, err)
	require.Equal(t, full, fresh)
	_, err = Update(full, []byte("\x0a\x02\x00\x00"))
	require.Equal(t, fault.BadMedia, fault.ReasonOf(err))
	for _, bad := range []string{"", "\x81\x00\x0c", "\x01\x00\x0c\x00", "\x81\x00\x0c\x00\x0a\x7f"} {
		_, err := Track([]byte(bad))
		require.Equal(t, fault.BadMedia, fault.ReasonOf(err), "%q", bad)
	}
}

func TestCodecString(t *testing.T) {
	for want, s := range map[string]Sequence{
		"av01.0.08M.08": {Level: 8, BitDepth: 8, SubX: true, SubY: true},
		"av01.0.08M.10": {Level: 8, BitDepth: 10, SubX: true, SubY: true, described: true, Color: media.NewColor(1, 1, 1, false)},
		"av01.2.19H.12.0.100.09.16.09.1": {Profile: 2, Level: 19, HighTier: true, BitDepth: 12, SubX: true, described: true,
			Color: media.NewColor(9, 16, 9, true)},
	} {
		require.Equal(t, want, s.CodecString())
	}
}

func FuzzSequence(f *testing.F) {
	f.Add([]byte(sequence[2:]))
	f.Add([]byte("\x00\x00\x00\x03\xb4\xfd\x90\x0b\xe0\x01"))
	f.Add([]byte("\x08\x00\x00\x00\x20\x00\x00\x00\x80\x40\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSequence(b)
		if err != nil {
			return
		}
		require.Positive(t, s.Width)
		require.NotEmpty(t, s.CodecString())
		track, err := Update(nil, append(appendLEB128([]byte{0x0a}, len(b)), b...))
		require.NoError(t, err)
		again, err := Track(track.Config)
		require.NoError(t, err)
		require.Equal(t, track, again)
	})
}

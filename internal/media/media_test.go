package media

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTicksRound(t *testing.T) {
	for _, c := range []struct {
		d     time.Duration
		scale uint32
		want  int64
	}{
		{0, 90000, 0},
		{time.Second, 90000, 90000},
		{33 * time.Millisecond, 90000, 2970},
		{time.Second / 3, 90000, 30000},
		{-time.Second / 3, 90000, -30000},
		{5 * time.Nanosecond, 90000, 0},
		{6 * time.Microsecond, 90000, 1},
		{100 * 365 * 24 * time.Hour, 90000, 100 * 365 * 24 * 3600 * 90000},
		{math.MaxInt64, 1, 9223372037},
	} {
		require.Equal(t, c.want, ToTicks(c.d, c.scale), "%v at %d", c.d, c.scale)
	}
}

func FuzzTicksRoundTrip(f *testing.F) {
	f.Add(int64(0), uint32(90000))
	f.Add(int64(-7), uint32(48000))
	f.Add(int64(1)<<33, uint32(90000))
	f.Fuzz(func(t *testing.T, ticks int64, scale uint32) {
		if scale == 0 || scale > 1e9 || ticks > 1<<33 || ticks < -(1<<33) {
			return
		}
		if d := FromTicks(ticks, scale); d < 1<<62 && d > -(1<<62) && ticks/int64(scale) < 9e9 && ticks/int64(scale) > -9e9 {
			require.Equal(t, ticks, ToTicks(d, scale))
		}
	})
}

func TestTrackIDsAreDistinct(t *testing.T) {
	seen := map[TrackID]bool{0: true}
	for _, index := range []int{1, 2, 3, 1000, 9999} {
		for _, k := range []Kind{Video, Audio, Data} {
			for n := range trackNumbers {
				id := NewTrackID(index, k, n)
				require.False(t, seen[id])
				seen[id] = true
			}
		}
	}
}

func TestSlabsDoNotOverlapAndAllocateRarely(t *testing.T) {
	var s Slab
	a, b := s.Alloc(10), s.Alloc(10)
	a = append(a, 1) // must not reach b
	require.Len(t, a, 11)
	require.Equal(t, make([]byte, 10), b)
	require.Len(t, s.Alloc(slabSize), slabSize)

	var ps PacketSlab
	per := testing.AllocsPerRun(1000, func() {
		_ = s.Alloc(100)
		_ = ps.New(Packet{})
	})
	require.Zero(t, per) // AllocsPerRun gives whole allocations per run, rounded down
}

func TestFlagsAndCodecNames(t *testing.T) {
	require.Equal(t, "key|newconfig", (Key | NewConfig).String())
	require.True(t, (Key | NewConfig).Has(Key))
	require.False(t, Key.Has(Key|NewConfig))
	require.Equal(t, "H.264", H264.String())
	require.Equal(t, Audio, AAC.Kind())
	require.Equal(t, "unknown", Codec(200).String())
}

func TestSameConfig(t *testing.T) {
	a := &Track{ID: 1, Kind: Video, Codec: H264, Config: []byte{1}}
	b := *a
	require.True(t, a.SameConfig(&b))
	b.Config = []byte{2}
	require.False(t, a.SameConfig(&b))
	require.False(t, a.SameConfig(nil))
}

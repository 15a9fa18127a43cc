package bits

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFields(t *testing.T) {
	r := NewReader([]byte{0b1010_0110, 0xff, 0x12, 0x34, 0x56, 0x78})
	require.Equal(t, uint32(0b101), r.U(3))
	require.False(t, r.Flag())
	require.Equal(t, uint32(0b0110_1111), r.U(8))
	r.Align()
	require.Equal(t, 32, r.Left())
	require.Equal(t, uint32(0x12345678), r.U(32))
	require.NoError(t, r.Err())
	require.Zero(t, r.U(1))
	require.ErrorIs(t, r.Err(), ErrShort)
	require.Zero(t, r.Left())
}

func TestExpGolomb(t *testing.T) {
	var w Writer
	for _, v := range []uint32{0, 1, 2, 7, 8, 254, 255, 65535, 1<<31 - 1} {
		w.UE(v)
	}
	w.UE(1) // se: 1
	w.UE(2) // se: -1
	w.UE(9)
	r := NewReader(w.Bytes())
	for _, v := range []uint32{0, 1, 2, 7, 8, 254, 255, 65535, 1<<31 - 1} {
		require.Equal(t, v, r.UE(1<<31))
	}
	require.Equal(t, int32(1), r.SE(5))
	require.Equal(t, int32(-1), r.SE(5))
	require.Zero(t, r.UE(8))
	require.ErrorIs(t, r.Err(), ErrRange)

	endless := NewReader(make([]byte, 100))
	endless.UE(1 << 31)
	require.ErrorIs(t, endless.Err(), ErrRange)
	short := NewReader([]byte{0})
	short.UE(1 << 31)
	require.ErrorIs(t, short.Err(), ErrShort)
}

func TestEmulationPrevention(t *testing.T) {
	for _, c := range []struct{ in, out []byte }{
		{[]byte{0, 0, 3, 1}, []byte{0, 0, 1}},
		{[]byte{0, 0, 3, 0, 0, 3, 0}, []byte{0, 0, 0, 0, 0}},
		{[]byte{0, 0, 0, 3, 1}, []byte{0, 0, 0, 1}}, // not legal, read all the same
		{[]byte{0, 3, 0, 0, 3}, []byte{0, 3, 0, 0}},
		{[]byte{0, 0, 3, 3}, []byte{0, 0, 3}},
	} {
		r := NewNALReader(c.in)
		for _, b := range c.out {
			require.Equal(t, uint32(b), r.U(8), "%x", c.in)
		}
		require.NoError(t, r.Err())
		r.U(1)
		require.ErrorIs(t, r.Err(), ErrShort)
	}
}

func FuzzWriteRead(f *testing.F) {
	f.Add(uint32(5), 3, uint32(77), 9)
	f.Add(uint32(1<<31), 32, uint32(0), 1)
	f.Fuzz(func(t *testing.T, a uint32, n int, b uint32, m int) {
		if n < 0 || n > 32 || m < 0 || m > 32 || b >= 1<<31 {
			return
		}
		var w Writer
		w.U(n, a)
		w.UE(b)
		w.U(m, b)
		w.Flag(true)
		r := NewReader(w.Bytes())
		require.Equal(t, uint64(a)&(1<<n-1), uint64(r.U(n)))
		require.Equal(t, b, r.UE(1<<31))
		require.Equal(t, uint64(b)&(1<<m-1), uint64(r.U(m)))
		require.True(t, r.Flag())
		require.NoError(t, r.Err())
	})
}

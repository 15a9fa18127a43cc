package nal

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
)

// surplus is what the tests leave out.
func surplus(nal []byte) bool { return nal[0] == 'x' }

func TestPack(t *testing.T) {
	for _, tc := range []struct {
		name, in, want string
		size           int
		view           bool // the result is a part of in
		err            error
	}{
		{name: "nothing", size: 4},
		{name: "as it is", in: "\x00\x00\x00\x02ab\x00\x00\x00\x01c", size: 4, want: "\x00\x00\x00\x02ab\x00\x00\x00\x01c", view: true},
		{name: "surplus around", in: "\x00\x00\x00\x01x\x00\x00\x00\x01c\x00\x00\x00\x02xx", size: 4, want: "\x00\x00\x00\x01c", view: true},
		{name: "surplus between", in: "\x00\x00\x00\x01a\x00\x00\x00\x01x\x00\x00\x00\x01c", size: 4, want: "\x00\x00\x00\x01a\x00\x00\x00\x01c"},
		{name: "empty units", in: "\x00\x00\x00\x00\x00\x00\x00\x01c", size: 4, want: "\x00\x00\x00\x01c", view: true},
		{name: "short lengths", in: "\x02ab\x01x\x01c", size: 1, want: "\x00\x00\x00\x02ab\x00\x00\x00\x01c"},
		{name: "all surplus", in: "\x00\x01x", size: 2},
		{name: "too long", in: "\x00\x00\x00\x03ab", size: 4, err: ErrShort},
		{name: "cut in the length", in: "\x00\x00", size: 4, err: ErrShort},
		{name: "impossible lengths", in: "a", size: 5, err: ErrLengthSize},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := []byte(tc.in)
			got, err := Pack(new(media.Slab), in, tc.size, surplus)
			require.ErrorIs(t, err, tc.err)
			require.Equal(t, tc.want, string(got))
			require.Equal(t, tc.in, string(in))
			if tc.view {
				got[0]++
				require.NotEqual(t, tc.in, string(in), "nothing was copied")
			}
		})
	}
}

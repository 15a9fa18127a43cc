package ac3

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFrameSize(t *testing.T) {
	for about, c := range map[string]struct {
		head    []byte
		size    int
		primary bool
		ok      bool
	}{
		"AC-3 48 kHz 192 kbit/s":   {[]byte{0x0b, 0x77, 0, 0, 0x14, 0x40, 0, 0}, 768, true, true},
		"AC-3 44.1 kHz 192 kbit/s": {[]byte{0x0b, 0x77, 0, 0, 0x54, 0x40, 0, 0}, 834, true, true},
		"the longer one":           {[]byte{0x0b, 0x77, 0, 0, 0x55, 0x40, 0, 0}, 836, true, true},
		"E-AC-3":                   {[]byte{0x0b, 0x77, 0x01, 0xff, 0x3f, 0x80, 0, 0}, 1024, true, true},
		"E-AC-3 dependent":         {[]byte{0x0b, 0x77, 0x41, 0xff, 0x3f, 0x80, 0, 0}, 1024, false, true},
		"E-AC-3 another programme": {[]byte{0x0b, 0x77, 0x09, 0xff, 0x3f, 0x80, 0, 0}, 1024, false, true},
		"reserved rate":            {[]byte{0x0b, 0x77, 0, 0, 0xd4, 0x40, 0, 0}, 0, false, false},
		"reserved size":            {[]byte{0x0b, 0x77, 0, 0, 0x3f, 0x40, 0, 0}, 0, false, false},
		"no sync word":             {[]byte{0x0b, 0x78, 0, 0, 0x14, 0x40, 0, 0}, 0, false, false},
		"too short":                {[]byte{0x0b, 0x77, 0, 0, 0x14, 0x40, 0}, 0, false, false},
	} {
		size, primary, ok := FrameSize(c.head)
		require.Equal(t, []any{c.size, c.primary, c.ok}, []any{size, primary, ok}, about)
	}
}

package segment

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPartTarget(t *testing.T) {
	const ms = time.Millisecond
	aac48, aac44 := 1024*time.Second/48000, 1024*time.Second/44100
	for _, c := range []struct {
		fps   float64
		sound time.Duration
		want  time.Duration
	}{
		{30, 0, 267 * ms}, // 8 and 7 frames
		{30, aac48, 267 * ms},
		{30, aac44, 267 * ms},
		{30000.0 / 1001, aac48, 267 * ms},
		{25, aac48, 280 * ms},
		{24, aac48, 250 * ms},
		{24, aac44, 292 * ms}, // 250 ms would be 10 frames of sound and never 9
		{50, aac48, 240 * ms},
		{60, aac48, 250 * ms},
		{15, 0, 267 * ms},
		{10, 0, 200 * ms},
		{5, 0, 200 * ms},
		{2, 0, 500 * ms},
		{1, aac48, 1000 * ms},
	} {
		t.Run(fmt.Sprint(c.fps, c.sound), func(t *testing.T) {
			frame := time.Duration(float64(time.Second) / c.fps)
			got := partTarget(250*ms, 4*time.Second, cadence{frame: frame, regular: true}, c.sound)
			require.Equal(t, c.want, got)
			if n := (got + rounding) / frame; frame <= 250*ms {
				require.GreaterOrEqual(t, float64(n*frame), leastFill*float64(got))
			}
			if c.sound > 0 {
				require.GreaterOrEqual(t, float64(got/c.sound*c.sound), leastFill*float64(got))
			}
		})
	}
	require.Equal(t, 250*ms, partTarget(250*ms, 4*time.Second, cadence{frame: 40 * ms}, 0), "irregular")
	require.Equal(t, 250*ms, partTarget(250*ms, 4*time.Second, cadence{}, aac48), "sound alone")
	require.Equal(t, 100*ms, partTarget(100*ms, 4*time.Second, cadence{frame: time.Second / 30, regular: true}, 0))
}

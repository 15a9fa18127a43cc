package segment

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPartsHoldADivisorOfASecondsFrames(t *testing.T) {
	for _, c := range []struct {
		fps  float64
		want time.Duration // PART-TARGET
	}{
		{24, 250 * time.Millisecond},
		{25, 200 * time.Millisecond},
		{30, 200 * time.Millisecond},
		{30000.0 / 1001, 201 * time.Millisecond},
		{50, 200 * time.Millisecond},
		{60, 250 * time.Millisecond},
		{15, 200 * time.Millisecond},
		{10, 200 * time.Millisecond},
		{5, 200 * time.Millisecond},
		{2, 500 * time.Millisecond},
		{13, 231 * time.Millisecond}, // 13 has no divisor that is long enough: 3 frames
	} {
		t.Run(fmt.Sprint(c.fps), func(t *testing.T) {
			frame := time.Duration(float64(time.Second) / c.fps)
			got := partTarget(250*time.Millisecond, cadence{frame: frame, regular: true}, 0)
			require.Equal(t, c.want, got)
			n := got / frame
			require.GreaterOrEqual(t, float64(n*frame), leastFill*float64(got))
		})
	}
}

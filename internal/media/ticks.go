package media

import (
	"math/bits"
	"time"
)

// ToTicks converts stream time to ticks of scale per second, rounded to the
// nearest tick (halves away from zero). It never truncates: truncating loses a
// tick at every conversion, rounding loses none over a round trip as long as
// scale ≤ 1e9.
func ToTicks(d time.Duration, scale uint32) int64 {
	if d < 0 {
		return -ToTicks(-d, scale)
	}
	hi, lo := bits.Mul64(uint64(d), uint64(scale))
	lo, carry := bits.Add64(lo, uint64(time.Second/2), 0)
	q, _ := bits.Div64(hi+carry, lo, uint64(time.Second))
	return int64(q) //nolint:gosec // d·scale/1e9 fits: d < 2^63 ns and scale < 2^32 keep hi below 1e9
}

// FromTicks converts ticks of scale per second to stream time, rounded to the
// nearest nanosecond. scale must not be 0.
func FromTicks(ticks int64, scale uint32) time.Duration {
	if ticks < 0 {
		return -FromTicks(-ticks, scale)
	}
	hi, lo := bits.Mul64(uint64(ticks), uint64(time.Second))
	lo, carry := bits.Add64(lo, uint64(scale)/2, 0)
	q, _ := bits.Div64((hi+carry)%uint64(scale), lo, uint64(scale))
	return time.Duration(q) //nolint:gosec // rounded nanoseconds of a tick count from a door
}

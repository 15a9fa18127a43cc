package segment

import (
	"math"
	"time"

	"github.com/klive-media/klive/internal/media"
)

// leastFill is how much of PART-TARGET a part that is not a segment's last has
// at least (RFC 8216bis, 4.4.3.7), with a little to spare for rounding.
const leastFill = 0.852

// leastPart is what a part lasts at least where the wish allows it: hls.js (1.6
// and 1.7) takes a segment for loaded when 200 ms of it are missing.
const leastPart = 205 * time.Millisecond

// maxFrame is the longest frame that PART-TARGET is made long enough for.
const maxFrame = time.Second

// rounding is what whole milliseconds on the wire do to a sum of frames.
const rounding = time.Millisecond

// cadence is what is known about how long the frames of the picture last.
type cadence struct {
	frame   time.Duration // 0: unknown
	regular bool
}

// measure finds the cadence of frames that begin at these times.
func measure(times []time.Duration) cadence {
	n := len(times) - 1
	if n < 1 {
		return cadence{}
	}
	shortest, longest := time.Duration(math.MaxInt64), time.Duration(0)
	for i := range n {
		d := times[i+1] - times[i]
		shortest, longest = min(shortest, d), max(longest, d)
	}
	mean := (times[n] - times[0]) / time.Duration(n)
	if mean <= 0 {
		return cadence{}
	}
	return cadence{frame: mean, regular: longest-shortest <= max(2*rounding, mean/8)}
}

// partTarget chooses PART-TARGET: a whole number of frames, so that parts of
// regular frames need no repair, that is near to wish; one frame if it alone is
// longer. Segments last about segment; sound is one frame of the sound, 0 if
// there is none.
//
// The number is the first, upwards from wish, that segments can be divided by
// without a splinter at their end, in picture and in sound: because it divides
// them, or because parts may be a frame shorter and still fill 85 %.
func partTarget(wish, segment time.Duration, c cadence, sound time.Duration) time.Duration {
	switch {
	case c.frame == 0 || !c.regular && c.frame <= wish || c.frame > maxFrame:
		return fitSound(wish, sound)
	}
	most := max((wish+rounding)/c.frame, 1)
	for n := most; 4*n*c.frame <= 5*wish; n++ { // no longer: the first part is waited for
		target := roundUp(n * c.frame)
		if divides(target, c.frame, segment, wish) && (sound == 0 || divides(target, sound, 0, wish)) {
			return target
		}
	}
	return fitSound(roundUp(most*c.frame), sound)
}

// divides reports whether segments can be made of parts of at most target
// without a splinter, when frames last frame. With segment 0 only parts of
// different lengths do it.
func divides(target, frame, segment, wish time.Duration) bool {
	n := (target + rounding) / frame
	fewest := time.Duration(math.Ceil(leastFill * float64(target) / float64(frame)))
	if n < 1 || fewest > n || fewest*frame < min(leastPart, wish*9/10) {
		return false
	}
	if fewest < n {
		return true
	}
	frames := (segment + frame/2) / frame
	return frames > 0 && frames%n == 0
}

// fitSound makes a target one that whole frames of sound fill well enough. (The
// picture can always be made to fit, sound cannot.) It is not longer than it
// was where that is possible.
func fitSound(target, sound time.Duration) time.Duration {
	if sound == 0 || float64(target/sound*sound) >= leastFill*float64(target) {
		return target
	}
	return roundUp(max(target/sound, 1) * sound)
}

// roundUp gives whole milliseconds: PART-TARGET is written with three decimals.
func roundUp(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}

// soundFrame is how long one packet of the track lasts; 0 when it varies.
func soundFrame(t *media.Track) time.Duration {
	if t == nil || t.Audio.SampleRate <= 0 || t.Audio.FrameSamples <= 0 {
		return 0
	}
	return media.FromTicks(int64(t.Audio.FrameSamples), uint32(t.Audio.SampleRate)) //nolint:gosec // a sample rate
}

// segmentTarget is TARGETDURATION for a wish.
func segmentTarget(wish time.Duration) time.Duration {
	return (wish + time.Second - 1).Truncate(time.Second)
}

// frameRates are the rates that pictures are made in.
var frameRates = [...]float64{
	12, 15, 24000.0 / 1001, 24, 25, 30000.0 / 1001, 30, 48, 50, 60000.0 / 1001, 60, 100, 120000.0 / 1001, 120,
}

// How far a measured frame rate may be from the usual one it is named by: over
// a few frames with times in milliseconds, and over a segment.
const (
	roughly = 0.005
	nearly  = 0.0002
	guess   = 0.012
)

// nameRate gives the usual rate that a measured one is nearest to, or itself.
func nameRate(fps, within float64) float64 {
	best, at := fps, within
	for _, r := range frameRates {
		if d := math.Abs(fps/r - 1); d < at {
			best, at = r, d
		}
	}
	return best
}

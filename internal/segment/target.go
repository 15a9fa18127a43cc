package segment

import (
	"math"
	"time"

	"github.com/klive-media/klive/internal/media"
)

// leastFill is how much of PART-TARGET a part that is not a segment's last has
// at least (RFC 8216bis, 4.4.3.7), with a little to spare.
const leastFill = 0.86

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

// partTarget chooses PART-TARGET: a whole number of frames that is not longer
// than wish (see framesOfPart), so that parts of regular frames need no repair;
// one frame if it alone is longer. The sound has to fit too: its parts are whole
// frames that fill at least 85 % of it; sound is one frame of it, 0 if there is
// none.
func partTarget(wish time.Duration, c cadence, sound time.Duration) time.Duration {
	target := wish
	switch {
	case c.frame == 0 || !c.regular && c.frame <= wish:
	case c.frame > maxFrame:
	case c.frame > wish:
		target = roundUp(c.frame)
	default:
		target = roundUp(framesOfPart(wish, c.frame) * c.frame)
	}
	if fits(target, sound) {
		return target
	}
	// Picture can always be made to fit, sound cannot: the nearest length that it
	// fills, not longer than wish where there is one.
	n := max(wish/sound, 1)
	return roundUp(n * sound)
}

// framesOfPart is how many frames a part has. Segments and GOPs mostly last
// whole seconds, so a number that divides the frames of a second is better than
// a somewhat larger one that does not: then a key frame begins a part, where
// players can join, and a segment does not end with a splinter of a part. (A
// splinter follows its predecessor so closely that hls.js 1.7 may still be
// appending that one when the segment is listed as complete; it then takes the
// segment for loaded and stalls.)
func framesOfPart(wish, frame time.Duration) time.Duration {
	most := (wish + rounding) / frame
	second := (time.Second + frame/2) / frame
	for n := most; 10*n >= 7*most; n-- {
		if second%n == 0 {
			return n
		}
	}
	return most
}

// fits reports whether whole frames of sound fill a part well enough.
func fits(target, sound time.Duration) bool {
	return sound == 0 || float64(target/sound*sound) >= leastFill*float64(target)
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

package rtmp

import "time"

// maxDataSkew is how far the timestamp of a data message may be from the
// media's: some encoders give metadata that they send in the middle of a
// stream the timestamp 0, which must not look like a jump of the timeline.
const maxDataSkew = 10 * time.Second

// clock unwraps the 32-bit milliseconds of the wire, which all tracks of a
// publication share, into one time without wrap. A step of less than half the
// circle in either direction is taken as such: 24 days.
type clock struct {
	started bool
	last    int64 // milliseconds
}

// media is the time of an audio or video message.
func (c *clock) media(ms uint32) time.Duration {
	c.last = c.unwrap(ms)
	c.started = true
	return time.Duration(c.last) * time.Millisecond
}

// data is the time of a data message. It moves nothing.
func (c *clock) data(ms uint32) time.Duration {
	at, last := time.Duration(c.unwrap(ms))*time.Millisecond, time.Duration(c.last)*time.Millisecond
	if c.started && (at-last).Abs() > maxDataSkew {
		return last
	}
	return at
}

func (c *clock) unwrap(ms uint32) int64 {
	if !c.started {
		return int64(ms)
	}
	return c.last + int64(int32(ms-uint32(c.last))) //nolint:gosec // modulo 2^32 is the point
}

package segment

import "time"

// rule is when a segment ends: at a key frame when waiting for the next
// expected one would pass the segment duration; without a key frame when there
// is no use in waiting for one.
type rule struct {
	wish    time.Duration // the segment duration
	limit   time.Duration // what no segment passes
	lastKey time.Duration
	keyed   bool // lastKey counts
	gops    [4]time.Duration
	n       int
}

// gop is the longest of the last distances between key frames: with a cadence
// that varies it is better to cut early than to be forced. 0: not known yet.
func (r *rule) gop() time.Duration {
	var most time.Duration
	for _, g := range r.gops[:min(r.n, len(r.gops))] {
		most = max(most, g)
	}
	return most
}

// patience is how much longer than the segment duration a segment may get for
// the sake of a key frame that is about to come.
func (r *rule) patience() time.Duration {
	return min(r.limit-r.wish, max(r.wish/8, slack/2))
}

// key notes a key frame and reports whether to cut there; since is where the
// open segment began.
func (r *rule) key(at, since time.Duration) bool {
	if r.keyed && at > r.lastKey {
		r.gops[r.n%len(r.gops)] = at - r.lastKey
		r.n++
	}
	r.lastKey, r.keyed = at, true
	if at <= since {
		return false
	}
	g := r.gop()
	return g == 0 || at+g-since > r.wish+r.patience()
}

// reset forgets the last key frame: the timeline broke.
func (r *rule) reset() { r.keyed = false }

// force reports whether to cut before a frame that is no key frame and lasts
// about frame.
func (r *rule) force(at, since, frame time.Duration) bool {
	age := at - since
	if age+frame <= r.wish+frame/4 {
		return false
	}
	if age+frame > r.limit {
		return true
	}
	// A key frame that is expected within what is allowed is waited for.
	g := r.gop()
	if g == 0 || !r.keyed {
		return true
	}
	next := r.lastKey + g
	return next-since > r.wish+r.patience() || at > next+frame
}

// clock gives the sound's samples decode times without the jitter that whole
// milliseconds on the wire bring: a frame of sound lasts what it lasts. It
// follows the wire's time by a tick per frame when it is off by more than the
// jitter, and at once when it is off by most of a frame.
type clock struct {
	frame   int64 // ticks a packet lasts; 0: unknown
	band    int64 // ticks of jitter
	next    int64
	running bool
}

// at gives the decode time of a sample that the wire says is at tick.
func (c *clock) at(tick int64) int64 {
	off := tick - c.next
	switch {
	case !c.running || c.frame == 0 || off > c.frame*3/4 || off < -c.frame*3/4:
		c.running = true
	case off > c.band:
		tick = c.next + 1
	case off < -c.band:
		tick = c.next - 1
	default:
		tick = c.next
	}
	c.next = tick + c.frame
	return tick
}

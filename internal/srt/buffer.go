package srt

import "time"

// Bounds of a receive buffer, in packets.
const (
	minSlots = 256
	// window is how many packets may be between the oldest that was not read and
	// the newest: 12 MB of the longest, 1.9 s at 50 Mbit/s.
	window = 8192
)

// slot is the place of one sequence number.
type slot struct {
	p       *packet
	dropped bool  // missing, and given up
	since   int64 // when it was noticed to be missing
	ask     int64 // when the peer is to be told of it, again
}

// buffer puts data packets in order. What is in order can be taken at once;
// behind a hole it waits until the hole is mended, or until the latency of the
// first packet behind it is over. It is pure: times come in, nothing goes out.
//
//	first        next            end
//	| in order   | hole, packets |
type buffer struct {
	slots            []slot // a ring, by sequence number; its length is a power of two
	first, next, end uint32
	latency          int64 // ns
	clock            clock
	// disorder is how long packets are overtaken on the way, in nanoseconds: so
	// long nobody is told that one is missing. 0 where packets come in order.
	disorder int64
	passed   int // given up since the packet that was taken last

	dropped, mended, late, twice, full uint64
}

// maxDisorder bounds the wait before a missing packet is asked for: what is
// asked for later is mended later.
const maxDisorder = int64(50 * time.Millisecond)

func newBuffer(sequence uint32, latency time.Duration) *buffer {
	return &buffer{slots: make([]slot, minSlots), first: sequence, next: sequence, end: sequence, latency: int64(latency)}
}

func (b *buffer) slot(sequence uint32) *slot { return &b.slots[int(sequence)&(len(b.slots)-1)] }

// put takes a packet in, and owns it if it says so. hole is the length of the
// hole that the packet shows and that the peer is to be told of at once; it
// ends before the packet.
func (b *buffer) put(p *packet, again int64) (taken bool, hole int) {
	s := p.sequence()
	b.clock.see(p.timestamp(), p.at)
	if ahead(s, b.next) < 0 {
		if p.retransmitted() {
			b.twice++ // or too late
		} else {
			b.late++
		}
		return false, 0
	}
	if !b.grow(ahead(s, b.first) + 1) {
		if !b.skipTo(s) {
			b.full++
			return false, 0
		}
	}
	at := b.slot(s)
	if ahead(s, b.end) >= 0 {
		ask := p.at + b.disorder
		if b.disorder == 0 {
			hole, ask = ahead(s, b.end), p.at+again
		}
		for m := b.end; m != s; m = advance(m, 1) {
			*b.slot(m) = slot{since: p.at, ask: ask}
		}
		*at = slot{}
		b.end = advance(s, 1)
	} else if at.p != nil {
		b.twice++
		return false, 0
	} else if p.retransmitted() {
		b.mended++
	} else {
		b.disorder = min(max(b.disorder, p.at-at.since), maxDisorder, b.latency/4)
	}
	at.p = p
	b.settle()
	return true, hole
}

// grow makes room for n packets from first on.
func (b *buffer) grow(n int) bool {
	if n <= len(b.slots) {
		return true
	}
	if n > window {
		return false
	}
	size := len(b.slots)
	for size < n {
		size *= 2
	}
	old := *b
	b.slots = make([]slot, size)
	for s := b.first; s != b.end; s = advance(s, 1) {
		*b.slot(s) = *old.slot(s)
	}
	return true
}

// skipTo gives up all before a packet that is further ahead than the buffer is
// long: the peer goes on after an outage that nothing can mend. It reports
// whether there is room now, which needs a reader that keeps up.
func (b *buffer) skipTo(s uint32) bool {
	if b.first != b.next || b.next != b.end || ahead(s, b.first) > 1<<24 {
		return false
	}
	n := uint64(ahead(s, b.end)) //nolint:gosec // ahead
	b.dropped += n
	b.passed += int(n) //nolint:gosec // below 2^24
	b.first, b.next, b.end = s, s, s
	return true
}

// settle moves next over all that is there or given up.
func (b *buffer) settle() {
	for b.next != b.end {
		if at := b.slot(b.next); at.p == nil && !at.dropped {
			return
		}
		b.next = advance(b.next, 1)
	}
}

// drop gives up what is missing up to before; it reports whether anything was.
func (b *buffer) drop(from, before uint32) bool {
	gave := false
	for s := from; s != before; s = advance(s, 1) {
		if at := b.slot(s); at.p == nil && !at.dropped {
			at.dropped = true
			b.dropped++
			gave = true
		}
	}
	b.settle()
	return gave
}

// expire gives up the holes whose time is over: what is behind them is due. It
// reports whether anything was given up.
func (b *buffer) expire(now int64) bool {
	gave := false
	for b.next != b.end {
		behind := b.next
		for b.slot(behind).p == nil {
			if behind = advance(behind, 1); behind == b.end {
				return gave // nothing behind the hole yet that tells when
			}
		}
		if now < b.clock.due(b.slot(behind).p.timestamp(), b.latency) {
			return gave
		}
		gave = b.drop(b.next, behind) || gave
	}
	return gave
}

// request gives up what the peer says it will not send any more, from first to
// last (§3.2.9). What was not heard of yet counts as lost.
func (b *buffer) request(first, last uint32) bool {
	if ahead(last, first) < 0 || ahead(last, b.next) < 0 {
		return false
	}
	if ahead(first, b.next) < 0 {
		first = b.next
	}
	if ahead(first, b.end) > 0 || ahead(last, b.first) >= window || !b.grow(ahead(last, b.first)+1) {
		return false // a hole before it is asked for when its end is known
	}
	for ahead(last, b.end) >= 0 {
		*b.slot(b.end) = slot{}
		b.end = advance(b.end, 1)
	}
	return b.drop(first, advance(last, 1))
}

// flush gives up all that is missing: the peer is gone.
func (b *buffer) flush() { b.drop(b.next, b.end) }

// missing appends a loss report (§3.2.4) of what is missing and to be asked for
// by now, which is due again later. It writes at most limit words.
func (b *buffer) missing(report []uint32, now, again int64, limit int) []uint32 {
	for s := b.next; s != b.end; {
		if !b.wanting(s, now) {
			s = advance(s, 1)
			continue
		}
		if len(report)+2 > limit {
			break
		}
		from := s
		for s != b.end && b.wanting(s, now) {
			b.slot(s).ask = now + again
			s = advance(s, 1)
		}
		report = appendRange(report, from, advance(s, -1))
	}
	return report
}

func (b *buffer) wanting(s uint32, now int64) bool {
	at := b.slot(s)
	return at.p == nil && !at.dropped && at.ask <= now
}

// calm forgets disorder that was not seen again; it is called each second.
func (b *buffer) calm() {
	if b.disorder -= b.disorder / 8; b.disorder < int64(time.Millisecond) {
		b.disorder = 0
	}
}

// appendRange adds a range to a loss report (appendix A).
func appendRange(report []uint32, first, last uint32) []uint32 {
	if first == last {
		return append(report, first)
	}
	return append(report, controlFlag|first, last)
}

// take moves packets that are in order to dst, and owns them no more. Each tells
// how many were given up before it.
func (b *buffer) take(dst []*packet) (n int) {
	for n < len(dst) && b.first != b.next {
		at := b.slot(b.first)
		if at.p != nil {
			at.p.missing, b.passed = b.passed, 0
			dst[n] = at.p
			n++
		} else {
			b.passed++
		}
		*at = slot{}
		b.first = advance(b.first, 1)
	}
	return n
}

// free is how many packets there is room for.
func (b *buffer) free() int { return window - ahead(b.end, b.first) }

// held is the stream time between the oldest packet that was not read and the
// newest, in nanoseconds.
func (b *buffer) held() int64 {
	for s := b.first; s != b.end; s = advance(s, 1) {
		if p := b.slot(s).p; p != nil {
			newest := b.slot(advance(b.end, -1)).p
			if newest == nil {
				return 0
			}
			return int64(int32(newest.timestamp()-p.timestamp())) * int64(time.Microsecond) //nolint:gosec // wraps
		}
	}
	return 0
}

// release frees all packets; the buffer is not used after.
func (b *buffer) release() {
	for s := b.first; s != b.end; s = advance(s, 1) {
		if p := b.slot(s).p; p != nil {
			p.free()
		}
	}
	b.slots, b.first, b.next, b.end = nil, 0, 0, 0
}

// rotate is how long the clock remembers the fastest packet at least.
const rotate = 10 * time.Second

// clock maps the peer's timestamps to this side's time. The packet that was
// fastest on its way shows the offset; it is looked for anew all the time, so
// that clocks may drift apart.
type clock struct {
	known     bool
	last      uint32
	unwrapped int64 // of last, in µs
	offset    int64 // ns: this side's time minus the peer's, of the fastest
	recent    int64 // the same, since began
	began     int64
}

// see learns from a packet that arrived.
func (c *clock) see(timestamp uint32, at int64) {
	if !c.known {
		c.known, c.last, c.unwrapped = true, timestamp, int64(timestamp)
		c.offset = at - c.unwrapped*int64(time.Microsecond)
		c.recent, c.began = c.offset, at
		return
	}
	t := c.unwrap(timestamp)
	c.last, c.unwrapped = timestamp, t
	o := at - t*int64(time.Microsecond)
	c.recent = min(c.recent, o)
	c.offset = min(c.offset, o)
	if at-c.began >= int64(rotate) {
		c.offset, c.recent, c.began = c.recent, o, at
	}
}

func (c *clock) unwrap(timestamp uint32) int64 {
	return c.unwrapped + int64(int32(timestamp-c.last)) //nolint:gosec // wraps on purpose
}

// due is when a packet of this timestamp is to be played at the latest.
func (c *clock) due(timestamp uint32, latency int64) int64 {
	return c.unwrap(timestamp)*int64(time.Microsecond) + c.offset + latency
}

package srt

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// data makes a data packet that arrived at a time.
func data(sequence uint32, sent, arrived time.Duration, again bool) *packet {
	p := &packet{n: headerSize + 4, at: int64(arrived)}
	binary.BigEndian.PutUint32(p.buf[:], sequence&sequenceMask)
	word := uint32(3 << 30)
	if again {
		word |= retransmitted
	}
	binary.BigEndian.PutUint32(p.buf[4:], word)
	binary.BigEndian.PutUint32(p.buf[8:], uint32(sent.Microseconds())) //nolint:gosec // wraps
	return p
}

// takeAll takes what is in order.
func takeAll(b *buffer) (out []uint32) {
	var dst [7]*packet
	for n := b.take(dst[:]); n > 0; n = b.take(dst[:]) {
		for _, p := range dst[:n] {
			out = append(out, p.sequence())
		}
	}
	return out
}

func TestSequenceNumbersWrap(t *testing.T) {
	for _, c := range []struct {
		a, b uint32
		want int
	}{
		{5, 3, 2}, {3, 5, -2}, {0, sequenceMask, 1}, {sequenceMask, 0, -1}, {2, sequenceMask - 1, 4}, {1 << 30, 1, 1<<30 - 1},
		{7, 7, 0},
	} {
		require.Equal(t, c.want, ahead(c.a, c.b), c)
		require.Equal(t, c.a, advance(c.b, c.want), c)
	}
}

const ms = time.Millisecond

// step is one thing that happens to a buffer with a latency of 100 ms, and what
// can be read then.
type step struct {
	put     int           // a packet, sent at ten times its number in ms; or -1
	at      time.Duration // when
	again   bool          // the packet was sent again
	request []uint32      // the peer gives these up, from first to last
	read    []uint32
	hole    int
}

func TestBuffer(t *testing.T) {
	for about, c := range map[string]struct {
		steps                 []step
		dropped, mended, late uint64
	}{
		"in order": {steps: []step{{put: 0, read: []uint32{0}}, {put: 1, at: 10 * ms, read: []uint32{1}}}},
		"mended": {mended: 1, steps: []step{
			{put: 0, read: []uint32{0}},
			{put: 2, at: 20 * ms, hole: 1},
			{put: 1, at: 119 * ms, again: true, read: []uint32{1, 2}},
		}},
		"given up when the packet behind is due": {dropped: 2, steps: []step{
			{put: 0, read: []uint32{0}},
			{put: 3, at: 30 * ms, hole: 2},
			{put: -1, at: 129 * ms},
			{put: -1, at: 131 * ms, read: []uint32{3}},
			{put: 1, at: 132 * ms, again: true},
		}},
		"overtaken": {steps: []step{
			{put: 0, read: []uint32{0}},
			{put: 2, at: 20 * ms, hole: 1},
			{put: 1, at: 23 * ms, read: []uint32{1, 2}},
			{put: 4, at: 40 * ms}, // who is told now waits
			{put: 3, at: 41 * ms, read: []uint32{3, 4}},
		}},
		"two holes, one after the other": {dropped: 2, steps: []step{
			{put: 0, read: []uint32{0}},
			{put: 2, at: 20 * ms, hole: 1},
			{put: 5, at: 50 * ms, hole: 2},
			{put: 4, at: 60 * ms, again: true},
			{put: -1, at: 121 * ms, read: []uint32{2}},
			{put: -1, at: 141 * ms, read: []uint32{4, 5}},
		}, mended: 1},
		"the peer gives up": {dropped: 2, steps: []step{
			{put: 0, read: []uint32{0}},
			{put: 3, at: 30 * ms, hole: 2},
			{put: -1, at: 31 * ms, request: []uint32{0, 2}, read: []uint32{3}},
		}},
		"the peer gives up what it never sent": {dropped: 3, steps: []step{
			{put: 0, read: []uint32{0}},
			{put: -1, at: 10 * ms, request: []uint32{1, 3}},
			{put: 4, at: 40 * ms, read: []uint32{4}},
		}},
		"twice": {late: 1, steps: []step{
			{put: 0, read: []uint32{0}},
			{put: 0, at: 1 * ms},
			{put: 2, at: 20 * ms, hole: 1},
			{put: 2, at: 21 * ms, again: true},
			{put: 1, at: 22 * ms, again: true, read: []uint32{1, 2}},
		}, mended: 1},
		"further ahead than the buffer is long": {dropped: 3 * window, steps: []step{
			{put: 0, read: []uint32{0}},
			{put: 3*window + 1, at: 10 * ms * (3*window + 1), read: []uint32{3*window + 1}},
		}},
	} {
		for _, begin := range []uint32{0, sequenceMask - 1, 77} { // also across the wrap
			t.Run(about, func(t *testing.T) {
				b := newBuffer(begin, 100*ms)
				for i, s := range c.steps {
					hole := 0
					switch {
					case s.put >= 0:
						_, hole = b.put(data(begin+uint32(s.put), time.Duration(s.put)*10*ms, s.at, s.again), int64(20*ms)) //nolint:gosec // wraps
					case s.request != nil:
						b.request(advance(begin, int(s.request[0])), advance(begin, int(s.request[1])))
					default:
						b.expire(int64(s.at))
					}
					require.Equal(t, s.hole, hole, "step %d", i)
					var want []uint32
					for _, n := range s.read {
						want = append(want, advance(begin, int(n)))
					}
					require.Equal(t, want, takeAll(b), "step %d", i)
				}
				require.Equal(t, []uint64{c.dropped, c.mended, c.late}, []uint64{b.dropped, b.mended, b.late})
			})
		}
	}
}

// TestBufferFindsAnOrder: whatever the network does, packets come out in order
// and once, and each that does not is counted.
func TestBufferFindsAnOrder(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test
		begin := uint32(sequenceMask - 500)
		const n = 3000
		b := newBuffer(begin, 120*ms)
		type event struct {
			at time.Duration
			p  *packet
		}
		var events []event
		for i := range n {
			sent := time.Duration(i) * 2 * ms
			for try := range 3 {
				if r.IntN(10) == 0 {
					continue // lost
				}
				at := sent + time.Duration(r.IntN(30))*ms + time.Duration(try)*40*ms
				events = append(events, event{at, data(advance(begin, i), sent, at, try > 0)})
				if r.IntN(50) != 0 {
					break // else it comes again
				}
			}
		}
		slices.SortStableFunc(events, func(a, b event) int { return int(a.at - b.at) })
		var got []uint32
		kept := 0
		for _, e := range events {
			taken, _ := b.put(e.p, int64(20*ms))
			if taken {
				kept++
			}
			b.expire(int64(e.at))
			if r.IntN(5) == 0 {
				got = append(got, takeAll(b)...)
			}
			require.LessOrEqual(t, len(b.slots), window)
		}
		b.flush()
		got = append(got, takeAll(b)...)
		require.Equal(t, kept, len(got))
		last := advance(begin, -1)
		for _, s := range got {
			require.Positive(t, ahead(s, last), "seed %d", seed)
			last = s
		}
		require.Equal(t, ahead(last, begin)+1, len(got)+int(b.dropped), "seed %d", seed) //nolint:gosec // small
		require.Greater(t, len(got), n*9/10)
	}
}

// TestBufferIsFull: a reader that does not come bounds what is held.
func TestBufferIsFull(t *testing.T) {
	b := newBuffer(0, 100*ms)
	for i := range 2 * window {
		b.put(data(uint32(i), 0, 0, false), 0) //nolint:gosec // small
	}
	require.EqualValues(t, window, b.full)
	require.Zero(t, b.free())
	require.Len(t, takeAll(b), window)
}

// TestLossReports: what is missing is reported in ranges, and again only later.
func TestLossReports(t *testing.T) {
	b := newBuffer(10, time.Second)
	again := int64(20 * ms)
	for _, s := range []uint32{10, 12, 16, 18} { // missing: 11, 13 to 15, 17
		b.put(data(s, 0, 0, false), again)
	}
	require.Empty(t, b.missing(nil, again-1, again, 100), "told when they were noticed")
	all := []uint32{11, controlFlag | 13, 15, 17}
	require.Equal(t, all, b.missing(nil, again, again, 100))
	require.Empty(t, b.missing(nil, again+1, again, 100))
	require.Equal(t, all[:1], b.missing(nil, 2*again, again, 2), "no more than there is room for")
	require.Equal(t, all[1:], b.missing(nil, 2*again, again, 100), "the rest next time")
}

// TestClock: timestamps wrap after 71 minutes, and clocks drift apart.
func TestClock(t *testing.T) {
	var c clock
	const latency = int64(100 * ms)
	start := int64(3 * time.Second)
	for i := range 600 { // ten hours
		sent := time.Duration(i) * time.Minute
		delay := int64(i%5) * int64(ms)
		drift := int64(sent) / 1e4 // 100 µs a second
		at := start + int64(sent) + drift + delay
		c.see(uint32(sent.Microseconds()), at) //nolint:gosec // wraps
		due := c.due(uint32(sent.Microseconds()), latency) - latency
		require.InDelta(t, start+int64(sent)+drift, due, float64(8*ms), "minute %d", i)
	}
	last := uint32((599 * time.Minute).Microseconds())
	require.Equal(t, int64(ms), c.due(last, 0)-c.due(last-1000, 0))
}

func FuzzBuffer(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 0, 1, 3, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		buf := newBuffer(sequenceMask-2, 100*ms)
		now, last := time.Duration(0), advance(sequenceMask-2, -1)
		for ; len(b) >= 3; b = b[3:] {
			now += time.Duration(b[0]) * ms
			s := advance(buf.next, int(int8(b[1]))*int(b[2]%64)) //nolint:gosec // signed on purpose
			switch b[2] >> 6 {
			case 0, 1:
				buf.put(data(s, now-time.Duration(b[1])*ms, now, b[2]>>6 == 1), int64(20*ms))
			case 2:
				buf.request(s, advance(s, int(b[1])))
			case 3:
				buf.expire(int64(now))
				buf.missing(nil, int64(now), int64(20*ms), 30)
			}
			require.GreaterOrEqual(t, ahead(buf.next, buf.first), 0)
			require.GreaterOrEqual(t, ahead(buf.end, buf.next), 0)
			require.LessOrEqual(t, ahead(buf.end, buf.first), window)
			if b[0]%3 == 0 {
				for _, got := range takeAll(buf) {
					require.Positive(t, ahead(got, last))
					last = got
				}
			}
		}
	})
}

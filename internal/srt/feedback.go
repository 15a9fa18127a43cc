package srt

import (
	"encoding/binary"
	"slices"
	"time"
)

// What is taken for the round trip until it was measured (§4.10).
const (
	initialRTT      = 100 * time.Millisecond
	initialVariance = 50 * time.Millisecond
)

// ackWindow is how many acknowledgements may wait for their answer.
const ackWindow = 64

// minAskAgain is how often missing packets are asked for at most, in one
// connection (§4.8.2).
const minAskAgain = 20 * time.Millisecond

// roundTrip measures it from acknowledgements and their answers (§4.10). The
// zero value is ready.
type roundTrip struct {
	measured      bool
	rtt, variance int64 // ns

	sent [ackWindow]struct {
		number, sequence uint32
		at               int64
	}
	number   uint32 // of the newest acknowledgement
	answered uint32 // the highest sequence number that the peer knows to be acknowledged
}

func (r *roundTrip) smooth() (rtt, variance time.Duration) {
	if !r.measured {
		return initialRTT, initialVariance
	}
	return time.Duration(r.rtt), time.Duration(r.variance)
}

// patience is how long an answer may take.
func (r *roundTrip) patience() int64 {
	rtt, variance := r.smooth()
	return int64(rtt + 4*variance)
}

// acknowledge gives the next acknowledgement its number.
func (r *roundTrip) acknowledge(sequence uint32, now int64) uint32 {
	r.number++
	at := &r.sent[r.number%ackWindow]
	at.number, at.sequence, at.at = r.number, sequence, now
	return r.number
}

// answer takes the answer to an acknowledgement.
func (r *roundTrip) answer(number uint32, now int64) {
	at := &r.sent[number%ackWindow]
	if at.number != number || at.at == 0 {
		return
	}
	if ahead(at.sequence, r.answered) > 0 {
		r.answered = at.sequence
	}
	sample := max(now-at.at, 0)
	at.at = 0
	if !r.measured {
		r.measured, r.rtt, r.variance = true, sample, sample/2
		return
	}
	r.variance += (max(r.rtt-sample, sample-r.rtt) - r.variance) / 4
	r.rtt += (sample - r.rtt) / 8
}

// probes is how many packet pairs the bandwidth is estimated from.
const probes = 16

// bandwidth estimates what the way carries from packets that were sent back to
// back: those whose number ends in 16 zeros and ones (§5.1.1, UDT's packet
// pairs). The zero value is ready.
type bandwidth struct {
	began     int64 // when the first of a pair came
	size      int
	intervals [probes]int64 // ns a byte, scaled
	n         int
}

// scale keeps fractions of a nanosecond a byte.
const scale = 1024

func (w *bandwidth) see(p *packet) {
	switch s := p.sequence() & 0xf; {
	case p.retransmitted():
		w.began = 0
	case s == 0:
		w.began, w.size = p.at, p.n
	case s == 1 && w.began != 0 && p.at > w.began:
		w.intervals[w.n%probes] = (p.at - w.began) * scale / int64(max(p.n+mtu-maxDatagram, 1))
		w.n++
		w.began = 0
	default:
		w.began = 0
	}
}

// estimate is in bit/s; 0 until there are enough pairs.
func (w *bandwidth) estimate() int64 {
	if w.n < probes {
		return 0
	}
	sorted := w.intervals
	slices.Sort(sorted[:])
	median := max(sorted[probes/2], 1)
	sum, n := int64(0), int64(0)
	for _, i := range sorted {
		if i > median/8 && i < median*8 {
			sum, n = sum+i, n+1
		}
	}
	if sum == 0 {
		return 0
	}
	return int64(8*time.Second) / int64(time.Nanosecond) * scale * n / sum
}

// rate counts what comes in a second.
type rate struct {
	began          int64
	bytes, packets int64 // since began
	perSecond      int64 // bytes
	packetsPerS    int64
}

func (r *rate) see(size int) {
	r.bytes += int64(size)
	r.packets++
}

// turn closes the count of a second, when it is over, and reports that it did.
func (r *rate) turn(now int64) bool {
	took := now - r.began
	if took < int64(time.Second) {
		return false
	}
	r.perSecond = int64(float64(r.bytes) / (float64(took) / 1e9))
	r.packetsPerS = int64(float64(r.packets) / (float64(took) / 1e9))
	r.began, r.bytes, r.packets = now, 0, 0
	return true
}

// appendACK writes a full acknowledgement (§3.2.3).
func appendACK(b []byte, head control, next uint32, c *Conn) []byte {
	rtt, variance := c.trip.smooth()
	b = head.append(b)
	for _, u := range []int64{
		int64(next), rtt.Microseconds(), variance.Microseconds(), int64(max(c.buf.free(), 2)),
		c.rate.packetsPerS, c.way.estimate() / 8 / mtu, c.rate.perSecond,
	} {
		b = binary.BigEndian.AppendUint32(b, uint32(min(u, 1<<31-1))) //nolint:gosec // not negative
	}
	return b
}

// appendNAK writes a loss report (§3.2.4).
func appendNAK(b []byte, head control, report []uint32) []byte {
	b = head.append(b)
	for _, u := range report {
		b = binary.BigEndian.AppendUint32(b, u)
	}
	return b
}

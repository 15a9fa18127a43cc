package ts

import "errors"

// Limits of a PES packet. Only those of video may be longer than 64 KiB
// (13818-1 §2.4.3.7); 8 MiB is a key frame of a second at 64 Mbit/s.
const (
	maxVideoPES = 8 << 20
	maxOtherPES = 256 << 10
	// keptPES is how large a buffer may be that is kept for the next packet.
	keptPES = 2 << 20
)

// timeScale is that of PTS and DTS (13818-1 §2.4.2.2).
const timeScale = 90000

var (
	errPESStart  = errors.New("ts: a PES packet does not begin with a start code")
	errPESHeader = errors.New("ts: a PES header ends too early")
	errPESLong   = errors.New("ts: a PES packet is longer than the limit")
)

// assembly puts a PES packet together. Its zero value waits for the start of
// one.
type assembly struct {
	buf    []byte
	open   bool // buf is the beginning of a PES packet
	want   int  // its size as it says; 0: until the next begins
	limit  int
	random bool // a random access indicator stood at its start
}

func (a *assembly) reset() {
	a.open, a.want, a.random = false, 0, false
	if cap(a.buf) > keptPES {
		a.buf = nil
	}
	a.buf = a.buf[:0]
}

// add takes the payload of a transport packet. done: the PES packet says that
// it is whole.
func (a *assembly) add(payload []byte) (done bool, err error) {
	if len(a.buf)+len(payload) > a.limit {
		a.reset()
		return false, errPESLong
	}
	a.buf = append(a.buf, payload...)
	if a.want == 0 && len(a.buf) >= 6 {
		if n := int(a.buf[4])<<8 | int(a.buf[5]); n > 0 {
			a.want = 6 + n
		}
	}
	return a.want > 0 && len(a.buf) >= a.want, nil
}

// times are those of a PES header, 33 bits.
type times struct {
	pts, dts       int64
	hasPTS, hasDTS bool
}

// readPES reads the header of a PES packet (13818-1 §2.4.3.7). payload is a
// view of b; it is nil for the kinds of PES packets that have no header.
func readPES(b []byte) (t times, payload []byte, err error) {
	if len(b) < 6 || b[0] != 0 || b[1] != 0 || b[2] != 1 {
		return t, nil, errPESStart
	}
	switch b[3] {
	case 0xbc, 0xbe, 0xbf, 0xf0, 0xf1, 0xf2, 0xf8, 0xff: // maps, padding, private stream 2, ECM, EMM, DSM-CC, H.222.1 E, directory
		return t, nil, nil
	}
	if len(b) < 9 || len(b) < 9+int(b[8]) {
		return t, nil, errPESHeader
	}
	header := b[9 : 9+int(b[8])]
	if b[7]&0x80 != 0 {
		if len(header) < 5 {
			return t, nil, errPESHeader
		}
		t.pts, t.hasPTS = stamp(header), true
		if b[7]&0x40 != 0 {
			if len(header) < 10 {
				return t, nil, errPESHeader
			}
			t.dts, t.hasDTS = stamp(header[5:]), true
		}
	}
	return t, b[9+int(b[8]):], nil
}

// stamp reads 33 bits that stand in 5 bytes between markers.
func stamp(b []byte) int64 {
	return int64(b[0]>>1&7)<<30 | int64(b[1])<<22 | int64(b[2]>>1)<<15 | int64(b[3])<<7 | int64(b[4]>>1)
}

// clock unwraps the 33-bit timestamps of a program, which all its elementary
// streams share. A step of less than half the circle in either direction is
// taken as such: 13 hours.
type clock struct {
	started bool
	last    int64 // ticks, unwrapped
}

// media is the time of picture or sound. It moves the clock.
func (c *clock) media(stamp int64) int64 {
	c.last = c.unwrap(stamp)
	c.started = true
	return c.last
}

// unwrap is the time of a stamp near the clock's. It moves nothing.
func (c *clock) unwrap(stamp int64) int64 {
	if !c.started {
		return stamp
	}
	const spare = 64 - 33
	return c.last + (stamp-c.last)<<spare>>spare
}

package app

import (
	"time"

	"github.com/klive-media/klive/internal/media"
)

// The PIDs of the transport streams made here. A picture of another codec
// takes a PID of its own, as encoders have it.
const (
	tsPacket  = 188
	pidPAT    = 0
	pidPMT    = 0x1000
	pidAVC    = 0x100
	pidSound  = 0x101
	pidHEVC   = 0x102
	pidID3    = 0x103
	pidSCTE35 = 0x104
)

// tsMux writes a transport stream (13818-1) as an encoder does: a PAT and a PMT
// before each key frame, pictures without a length.
type tsMux struct {
	out      []byte
	counters map[int]byte
}

// take gives what was written, in messages of seven packets.
func (m *tsMux) take() (list [][]byte) {
	for b := m.out; len(b) > 0; {
		n := min(7*tsPacket, len(b))
		list, b = append(list, b[:n]), b[n:]
	}
	m.out = nil
	return list
}

// put cuts a payload into packets; pcr, in ticks, stands in the first one
// unless it is negative.
func (m *tsMux) put(pid int, payload []byte, pcr int64) {
	for first := true; len(payload) > 0; first = false {
		head := []byte{0x47, byte(pid >> 8), byte(pid), 0x10 | m.counters[pid]}
		m.counters[pid] = (m.counters[pid] + 1) & 15
		var field []byte // the adaptation field behind its length
		if first {
			head[1] |= 0x40
			if pcr >= 0 {
				base := pcr & (1<<33 - 1)
				field = []byte{0x10, byte(base >> 25), byte(base >> 17), byte(base >> 9), byte(base >> 1), byte(base<<7) | 0x7e, 0}
			}
		}
		room := tsPacket - len(head)
		if field != nil {
			room -= 1 + len(field)
		}
		n := min(room, len(payload))
		if stuff := room - n; stuff > 0 {
			if field == nil {
				stuff-- // of the length
				if stuff > 0 {
					field, stuff = []byte{0}, stuff-1
				} else {
					field = []byte{}
				}
			}
			for range stuff {
				field = append(field, 0xff)
			}
		}
		if field != nil {
			head[3] |= 0x20
			head = append(append(head, byte(len(field))), field...)
		}
		m.out = append(append(m.out, head...), payload[:n]...)
		payload = payload[n:]
	}
}

// section writes a PSI section.
func (m *tsMux) section(pid int, id byte, version byte, body []byte) {
	size := 5 + len(body) + 4
	b := append([]byte{id, 0xb0 | byte(size>>8), byte(size), 0, 1, 0xc1 | version<<1, 0, 0}, body...)
	m.put(pid, append([]byte{0}, appendCRC(b)...), -1)
}

// appendCRC puts the CRC of 13818-1 annex A behind b.
func appendCRC(b []byte) []byte {
	crc := ^uint32(0)
	for _, c := range b {
		crc ^= uint32(c) << 24
		for range 8 {
			over := crc>>31 == 1
			crc <<= 1
			if over {
				crc ^= 0x04c11db7
			}
		}
	}
	return append(b, byte(crc>>24), byte(crc>>16), byte(crc>>8), byte(crc))
}

// tables writes PAT and PMT.
func (m *tsMux) tables(video media.Codec) {
	m.section(pidPAT, 0, 0, []byte{0, 1, 0xe0 | pidPMT>>8, pidPMT & 0xff})
	pid, kind, version := pidAVC, byte(0x1b), byte(0)
	if video == media.HEVC {
		pid, kind, version = pidHEVC, 0x24, 1
	}
	body := []byte{0xe0 | byte(pid>>8), byte(pid), 0xf0, 0}
	for _, e := range []struct {
		kind        byte
		pid         int
		descriptors string
	}{
		{kind, pid, ""}, {0x0f, pidSound, ""}, {0x86, pidSCTE35, "\x05\x04CUEI"},
		{0x15, pidID3, "\x26\x0d\xff\xffID3 \xffID3 \x00\x0f"}, // metadata_descriptor of timed ID3
	} {
		body = append(body, e.kind, 0xe0|byte(e.pid>>8), byte(e.pid), 0xf0, byte(len(e.descriptors)))
		body = append(body, e.descriptors...)
	}
	m.section(pidPMT, 2, version, body)
}

// pes writes a PES packet; one without a length ends where the next begins.
func (m *tsMux) pes(pid int, id byte, pts, dts int64, payload []byte, measured bool, pcr int64) {
	head, mark := tsStamp(2, pts), byte(0x80)
	if pts != dts {
		head, mark = append(tsStamp(3, pts), tsStamp(1, dts)...), 0xc0
	}
	n := 0
	if measured {
		n = 3 + len(head) + len(payload)
	}
	b := append([]byte{0, 0, 1, id, byte(n >> 8), byte(n), 0x80, mark, byte(len(head))}, head...)
	m.put(pid, append(b, payload...), pcr)
}

func tsStamp(mark byte, t int64) []byte {
	t &= 1<<33 - 1
	return []byte{mark<<4 | byte(t>>29)&14 | 1, byte(t >> 22), byte(t>>14) | 1, byte(t >> 7), byte(t<<1) | 1}
}

// tsTicks are those of 90 kHz.
func tsTicks(d time.Duration) int64 {
	return int64((d*9 + 50*time.Microsecond) / (100 * time.Microsecond))
}

// frame writes one.
func (m *tsMux) frame(f *frame) {
	dts := tsTicks(f.at)
	switch f.kind {
	case media.Video:
		if f.key {
			m.tables(f.picture.codec)
		}
		pid, units := pidAVC, [][]byte{{0x09, 0xf0}}
		if f.picture.codec == media.HEVC {
			pid, units = pidHEVC, [][]byte{{0x46, 0x01, 0x50}}
		}
		if f.key {
			units = append(units, f.picture.sets...)
		}
		var b []byte
		for _, u := range append(units, f.units...) {
			b = append(append(b, 0, 0, 0, 1), u...)
		}
		m.pes(pid, 0xe0, tsTicks(f.at+f.shown), dts, b, false, dts)
	case media.Audio:
		n := 7 + len(f.body)
		b := append([]byte{0xff, 0xf1, 0x40 | f.sound.index<<2, 0x80 | byte(n>>11), byte(n >> 3), byte(n<<5) | 0x1f, 0xfc}, f.body...)
		m.pes(pidSound, 0xc0, dts, dts, b, true, -1)
	default:
		if f.data == media.SCTE35 {
			m.put(pidSCTE35, append([]byte{0}, f.body...), -1)
		} else {
			m.pes(pidID3, 0xbd, dts, dts, f.body, true, -1)
		}
	}
}

// spliceSection is a splice_null of SCTE 35 (§9.6, §9.7.1) that is told from
// others by its tier.
func spliceSection(n int) []byte {
	b := []byte{0xfc, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, byte(n >> 4), byte(n << 4), 0, 0, 0, 0}
	b[2] = byte(len(b) + 4 - 3)
	return appendCRC(b)
}

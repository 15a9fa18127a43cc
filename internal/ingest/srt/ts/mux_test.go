package ts

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// Parameter sets as x264 makes them.
var (
	spsSmall = string(unhex("6742c00cda05067e7c0440000003004000000c83c50aa8")) // 320x180
	spsLarge = string(unhex("64001eacd940a02ff970110000030001000003003c0f162d96"))
	ppsSmall = string(unhex("68ce0fc8"))
	ppsLarge = string(unhex("68ef8fcb"))
)

// The first bytes of slices: an IDR picture, one that is needed, one that is not.
const (
	delimiter  = "\x09\xf0"
	idr        = "\x65idr"
	reference  = "\x41reference"
	disposable = "\x01disposable"
)

// annexB puts NAL units behind start codes, the first one's with a zero more.
func annexB(units ...string) []byte {
	b := []byte{0}
	for _, u := range units {
		b = append(append(b, 0, 0, 1), u...)
	}
	return b
}

// lengths puts NAL units behind 4-byte lengths.
func lengths(units ...string) []byte {
	var b []byte
	for _, u := range units {
		b = append(b, 0, 0, byte(len(u)>>8), byte(len(u)))
		b = append(b, u...)
	}
	return b
}

// adtsFrame is a frame of AAC-LC, 48 kHz, stereo.
func adtsFrame(body string) []byte {
	n := 7 + len(body)
	return append([]byte{0xff, 0xf1, 0x4c, 0x80 | byte(n>>11), byte(n >> 3), byte(n<<5) | 0x1f, 0xfc}, body...)
}

// mux writes a transport stream.
type mux struct {
	out      []byte
	counters map[uint16]uint8
}

func newMux() *mux { return &mux{counters: make(map[uint16]uint8)} }

// take gives what was written and forgets it.
func (m *mux) take() []byte {
	b := m.out
	m.out = nil
	return b
}

// put cuts a payload into packets.
func (m *mux) put(pid uint16, payload []byte, flags byte) {
	for first := true; len(payload) > 0; first = false {
		head := []byte{syncByte, byte(pid >> 8), byte(pid), 0x10 | m.counters[pid]}
		m.counters[pid] = (m.counters[pid] + 1) & 0x0f
		room := PacketSize - 4
		if first {
			head[1] |= 0x40
		}
		n := min(room, len(payload))
		if stuff := room - n; stuff > 0 || first && flags != 0 {
			stuff = max(stuff, 2)
			n = min(n, room-stuff)
			head[3] |= 0x20
			head = append(head, byte(stuff-1))
			if stuff > 1 {
				head = append(head, 0)
				if first {
					head[5] = flags
				}
				for len(head) < 4+stuff {
					head = append(head, 0xff)
				}
			}
		}
		m.out = append(append(m.out, head...), payload[:n]...)
		payload = payload[n:]
	}
}

// table writes a section with its CRC.
func (m *mux) table(pid uint16, id byte, number uint16, body []byte) {
	size := 5 + len(body) + 4
	b := append([]byte{0, id, 0xb0 | byte(size>>8), byte(size), byte(number >> 8), byte(number), 0xc1, 0, 0}, body...)
	b = append(b, crcOf(b[1:])...)
	m.put(pid, b, 0)
}

func crcOf(b []byte) []byte {
	c := sectionCRC(b)
	return []byte{byte(c >> 24), byte(c >> 16), byte(c >> 8), byte(c)}
}

const (
	pmtPID   = 0x1000
	videoPID = 0x100
	audioPID = 0x101
)

func (m *mux) pat(pid uint16) {
	m.table(patPID, tablePAT, 1, []byte{0, 1, 0xe0 | byte(pid>>8), byte(pid)})
}

// es is an elementary stream of a PMT.
type es struct {
	pid         uint16
	streamType  byte
	descriptors []byte
}

func (m *mux) pmt(list ...es) {
	body := []byte{0xe1, 0x00, 0xf0, 0}
	for _, e := range list {
		body = append(body, e.streamType, 0xe0|byte(e.pid>>8), byte(e.pid), 0xf0|byte(len(e.descriptors)>>8), byte(len(e.descriptors)))
		body = append(body, e.descriptors...)
	}
	m.table(pmtPID, tablePMT, 1, body)
}

func languageDescriptor(code string) []byte { return append([]byte{tagLanguage, 4}, code+"\x00"...) }

// tables writes a PAT and the PMT of H.264 and AAC.
func (m *mux) tables() {
	m.pat(pmtPID)
	m.pmt(es{videoPID, 0x1b, nil}, es{audioPID, 0x0f, languageDescriptor("ger")})
}

func stampOf(mark byte, t int64) []byte {
	return []byte{mark<<4 | byte(t>>29)&0x0e | 1, byte(t >> 22), byte(t>>14) | 1, byte(t >> 7), byte(t<<1) | 1}
}

// pes writes a PES packet; measured says whether it tells its length. Times
// are in ticks; pts below 0 is none.
func (m *mux) pes(pid uint16, id byte, pts, dts int64, payload []byte, measured bool, flags byte) {
	var header []byte
	mark := byte(0)
	switch {
	case pts < 0:
	case pts == dts:
		mark, header = 0x80, stampOf(2, pts&(1<<33-1))
	default:
		mark, header = 0xc0, append(stampOf(3, pts&(1<<33-1)), stampOf(1, dts&(1<<33-1))...)
	}
	n := 0
	if measured {
		n = 3 + len(header) + len(payload)
	}
	b := append([]byte{0, 0, 1, id, byte(n >> 8), byte(n), 0x80, mark, byte(len(header))}, header...)
	m.put(pid, append(b, payload...), flags)
}

func (m *mux) video(pts, dts int64, units ...string) {
	m.pes(videoPID, 0xe0, pts, dts, annexB(units...), false, 0)
}

func (m *mux) audio(pts int64, frames ...string) {
	var b []byte
	for _, f := range frames {
		b = append(b, adtsFrame(f)...)
	}
	m.pes(audioPID, 0xc0, pts, pts, b, true, 0)
}

// seconds writes a stream of n seconds from a time on: 25 pictures a second, a
// key frame each second, a PES packet of two AAC frames at a time.
func (m *mux) seconds(from int64, n int) {
	sound := from
	for i := range int64(25 * n) {
		at := from + i*3600
		if i%25 == 0 {
			m.tables()
			m.video(at+3600, at, delimiter, spsSmall, ppsSmall, idr)
		} else {
			m.video(at+3600, at, delimiter, reference)
		}
		for ; sound < at+3600; sound += 2 * 1920 {
			m.audio(sound, "aac", "AAC")
		}
	}
}

// recorder is a Sink that remembers.
type recorder struct {
	told     [][]*media.Track
	complete []bool
	packets  []media.Packet
	bad      []error
	refuse   error
}

func (r *recorder) Tracks(tracks []*media.Track, complete bool) error {
	r.told, r.complete = append(r.told, tracks), append(r.complete, complete)
	return r.refuse
}

func (r *recorder) Packet(p media.Packet) error {
	r.packets = append(r.packets, p)
	return nil
}

// of are the packets of a kind.
func (r *recorder) of(k media.Kind) (list []media.Packet) {
	for _, p := range r.packets {
		if p.Track.Kind == k {
			list = append(list, p)
		}
	}
	return list
}

// last are the tracks told last.
func (r *recorder) last() []*media.Track { return r.told[len(r.told)-1] }

func newDemuxer(r *recorder) *Demuxer {
	return New(Options{Sink: r, Slab: new(media.Slab), Start: time.Unix(1000, 0), Bad: func(err error) { r.bad = append(r.bad, err) }})
}

// demux reads a whole stream, cut into pieces of a size.
func demux(t testing.TB, b []byte, size int) (*recorder, Stats) {
	t.Helper()
	r := new(recorder)
	d := newDemuxer(r)
	for len(b) > 0 {
		n := min(size, len(b))
		require.NoError(t, d.Write(b[:n], time.Unix(1001, 0)))
		b = b[n:]
	}
	require.NoError(t, d.Finish())
	return r, d.Stats()
}

func ticks(n int64) time.Duration { return media.FromTicks(n, timeScale) }

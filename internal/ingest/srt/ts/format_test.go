package ts

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
)

// everyFormat is a stream with a unit of every format. It seeds the fuzz
// target too.
func everyFormat() []byte {
	m := newMux()
	m.pat(pmtPID)
	opus := unhex("05044f7075737f028006")
	m.pmt(es{0x100, 0x1b, nil}, es{0x101, 0x24, nil}, es{0x102, 0x0f, nil}, es{0x103, 0x11, nil}, es{0x104, 0x04, nil},
		es{0x105, 0x81, nil}, es{0x106, 0x06, opus}, es{0x107, 0x06, []byte{tagEAC3, 0}}, es{0x108, 0x15, unhex("050449443320")})
	mp3 := append(unhex("fffb9064"), make([]byte, 413)...)
	ac3 := append(unhex("0b7700000040401000"), make([]byte, 119)...)
	for range 2 {
		m.pes(0x100, 0xe0, 0, 0, annexB(delimiter, spsSmall, ppsSmall, idr), false, 0)
		m.pes(0x101, 0xe0, 0, 0, annexB("\x46\x01\x50", "\x40\x01vps", "\x26\x01idr"), false, 0)
		m.pes(0x102, 0xc0, 0, 0, adtsFrame("aac"), true, 0)
		m.pes(0x103, 0xc0, 0, 0, latmFrame(0, asc, "aac", true), true, 0)
		m.pes(0x104, 0xc0, 0, 0, mp3, true, 0)
		m.pes(0x105, 0xbd, 0, 0, ac3, true, 0)
		m.pes(0x106, 0xbd, 0, 0, append(unhex("7ffc0b0001000201ff"), "\xfcopus"...), true, 0)
		m.pes(0x107, 0xbd, 0, 0, unhex("0b7700033f8000000b7740033f800000"), true, 0)
		m.pes(0x108, 0xbd, 0, 0, []byte("ID3"), true, 0)
	}
	return m.take()
}

func TestEveryFormat(t *testing.T) {
	r, stats := demux(t, everyFormat(), 1316)
	codecs := map[media.Codec]int{}
	for _, p := range r.packets {
		codecs[p.Track.Codec]++
	}
	require.Equal(t, 2, codecs[media.H264], "%v", r.bad)
	require.Equal(t, 4, codecs[media.AAC])
	require.Equal(t, 2, codecs[media.MP3])
	require.Equal(t, 2, codecs[media.AC3])
	require.Equal(t, 2, codecs[media.ID3])
	require.Zero(t, stats.ContinuityErrors)
}

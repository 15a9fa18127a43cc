package ts

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/bits"
)

// asc is AAC-LC, 48 kHz, stereo.
var asc = []byte{0x11, 0x90}

// latmFrame writes an AudioSyncStream with one frame.
func latmFrame(version uint32, config []byte, body string, other bool) []byte {
	var w bits.Writer
	w.Flag(config == nil)
	if config != nil {
		w.U(1, version)
		if version == 1 {
			w.U(1, 0)
			w.U(2, 0)
			w.U(8, 0xff)
		}
		w.U(1, 1)
		w.U(6+4+3, 0)
		if version == 1 {
			w.U(2, 0)
			w.U(8, uint32(8*len(config)))
		}
		for _, c := range config {
			w.U(8, uint32(c))
		}
		w.U(3, 0)
		w.U(8, 0xff)
		w.Flag(other)
		if other && version == 0 {
			w.Flag(true)
			w.U(8, 1)
			w.Flag(false)
			w.U(8, 2)
		} else if other {
			w.U(2, 0)
			w.U(8, 3)
		}
		w.Flag(true) // CRC
		w.U(8, 0x5a)
	}
	for n := len(body); ; n -= 255 {
		w.U(8, uint32(min(n, 255)))
		if n < 255 {
			break
		}
	}
	for _, c := range []byte(body) {
		w.U(8, uint32(c))
	}
	b := w.Bytes()
	return append([]byte{0x56, 0xe0 | byte(len(b)>>8), byte(len(b))}, b...)
}

// latmStream is a stream with two frames of sound in LATM.
func latmStream(t testing.TB) []byte {
	t.Helper()
	m := newMux()
	m.pat(pmtPID)
	m.pmt(es{audioPID, 0x11, nil})
	long := make([]byte, 300)
	for i := range long {
		long[i] = byte(i)
	}
	for i, b := range [][]byte{
		latmFrame(0, nil, "early", false),
		latmFrame(0, asc, "first", true),
		latmFrame(0, nil, string(long), false),
		latmFrame(1, asc, "third", true),
	} {
		m.pes(audioPID, 0xc0, int64(i)*1920, int64(i)*1920, b, true, 0)
	}
	return m.take()
}

func TestLATM(t *testing.T) {
	r, stats := demux(t, latmStream(t), 1316)
	require.EqualValues(t, 1, stats.Waiting)
	require.Zero(t, stats.Corrupt, r.bad)
	require.Len(t, r.told, 1)
	require.Equal(t, "audio 0 mp4a.40.2 48000 Hz 2 ch", r.last()[0].String())
	require.Len(t, r.packets, 3)
	require.Equal(t, "first", string(r.packets[0].Payload))
	require.Equal(t, ticks(1920), r.packets[0].DTS)
	require.Len(t, r.packets[1].Payload, 300)
	require.Equal(t, byte(299&0xff), r.packets[1].Payload[299])
	require.Equal(t, "third", string(r.packets[2].Payload))
}

func TestLATMThatCannotBeRead(t *testing.T) {
	program := slices.Clone(asc)
	program[1] = 0x80 // channels in a program config element
	for about, frame := range map[string][]byte{
		"program config element": latmFrame(0, program, "x", false),
		"not AAC-LC":             latmFrame(0, []byte{0xb9, 0x90, 0}, "x", false),
		"cut":                    {0x56, 0xe0, 1, 0x80},
		"longer than it is":      {0x56, 0xe0, 3, 0x7f, 0xff, 0xff},
		"empty":                  {0x56, 0xe0, 0},
		"other version":          {0x56, 0xe0, 2, 0x60, 0},
	} {
		t.Run(about, func(t *testing.T) {
			m := newMux()
			m.pat(pmtPID)
			m.pmt(es{audioPID, 0x11, nil})
			m.pes(audioPID, 0xc0, 0, 0, frame, true, 0)
			r, stats := demux(t, m.take(), 1316)
			require.Empty(t, r.packets)
			require.NotZero(t, stats.Corrupt+stats.Waiting)
			require.NoError(t, newDemuxer(r).Write(nil, time.Now()))
		})
	}
	_, _, err := new(latm).frame(latmFrame(0, nil, "x", false), new(media.Slab))
	require.ErrorIs(t, err, errNoConfig)
}

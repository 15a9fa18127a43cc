package ts

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

func TestTracksAndPackets(t *testing.T) {
	m := newMux()
	m.tables()
	m.video(7200, 3600, delimiter, spsSmall, ppsSmall, idr)
	m.audio(5000, "one", "two")
	m.video(14400, 7200, delimiter, reference)
	m.video(10800, 10800, delimiter, disposable)
	r, stats := demux(t, m.take(), 1316)

	require.Len(t, r.told, 2)
	require.Equal(t, []bool{false, true}, []bool{r.complete[0], r.complete[1]}, "the picture's unit is whole only with the next, so sound is first")
	tracks := r.last()
	require.Equal(t, "video 0 avc1.42c00c 320x180", tracks[0].String())
	require.Equal(t, "audio 0 mp4a.40.2 48000 Hz 2 ch", tracks[1].String())
	require.Equal(t, "de", tracks[1].Language)
	require.EqualValues(t, timeScale, tracks[0].TimeScale)

	video := r.of(media.Video)
	require.Len(t, video, 3)
	require.Equal(t, lengths(idr), video[0].Payload, "parameter sets and delimiters do not stay")
	require.Equal(t, []media.Flags{media.Key, 0, media.Droppable}, []media.Flags{video[0].Flags, video[1].Flags, video[2].Flags})
	require.Equal(t, []time.Duration{ticks(3600), ticks(7200), ticks(10800)}, []time.Duration{video[0].DTS, video[1].DTS, video[2].DTS})
	require.Equal(t, ticks(3600), video[0].CompositionOffset())
	require.Equal(t, time.Unix(1001, 0), video[0].Captured)

	audio := r.of(media.Audio)
	require.Len(t, audio, 2)
	require.Equal(t, []string{"one", "two"}, []string{string(audio[0].Payload), string(audio[1].Payload)})
	require.Equal(t, ticks(5000), audio[0].DTS)
	require.Equal(t, ticks(1920), audio[0].Duration)
	require.InDelta(t, ticks(6920), audio[1].DTS, 1)
	require.Equal(t, uint64(0), stats.ContinuityErrors+stats.Corrupt+stats.LostSync)
	require.Empty(t, r.bad)
}

// summary is what came out, in a form that is compared.
func summary(r *recorder) (lines []string) {
	for _, p := range r.packets {
		lines = append(lines, fmt.Sprintf("%s %d %v %v %q %s", p.Track.Kind, p.Track.ID, p.DTS, p.PTS, p.Payload, p.Flags))
	}
	return lines
}

func TestCutAnywhere(t *testing.T) {
	m := newMux()
	m.seconds(0, 1)
	whole := m.take()
	want, _ := demux(t, whole, len(whole))
	require.Len(t, want.of(media.Video), 25)
	for _, size := range []int{1, 7, 187, 188, 189, 376, 1316, 1456} {
		got, stats := demux(t, whole, size)
		require.Equal(t, summary(want), summary(got), "pieces of %d bytes", size)
		require.Zero(t, stats.LostSync)
	}
}

// packetsOf are the transport packets of a stream.
func packetsOf(b []byte) [][]byte { return slices.Collect(slices.Chunk(b, PacketSize)) }

// ofPID finds the n-th packet with a PID.
func ofPID(list [][]byte, pid uint16, n int) int {
	for i, p := range list {
		if uint16(p[1]&0x1f)<<8|uint16(p[2]) == pid {
			if n == 0 {
				return i
			}
			n--
		}
	}
	return -1
}

func TestTimestampsWrap(t *testing.T) {
	const wrap = 1 << 33
	m := newMux()
	m.seconds(wrap-90000, 3)
	r, _ := demux(t, m.take(), 1316)
	for _, kind := range []media.Kind{media.Video, media.Audio} {
		list := r.of(kind)
		require.NotEmpty(t, list)
		for i := range list[1:] {
			step := list[i+1].DTS - list[i].DTS
			require.Positive(t, step)
			require.LessOrEqual(t, step, 41*time.Millisecond)
		}
		require.Greater(t, list[len(list)-1].DTS, ticks(wrap), "%s goes on behind 26.5 hours", kind)
	}
}

func TestPMTChanges(t *testing.T) {
	m := newMux()
	m.tables()
	m.video(0, 0, spsSmall, ppsSmall, idr)
	m.audio(0, "aac")
	m.video(3600, 3600, reference)
	// A second language comes, and the first moves to another PID.
	m.pmt(es{videoPID, 0x1b, nil}, es{0x111, 0x0f, languageDescriptor("eng")}, es{0x112, 0x0f, languageDescriptor("fra")})
	m.video(7200, 7200, reference)
	m.pes(0x111, 0xc0, 7200, 7200, adtsFrame("one"), true, 0)
	m.pes(0x112, 0xc1, 7200, 7200, adtsFrame("two"), true, 0)
	m.audio(7200, "gone")
	// Only the second language stays.
	m.pmt(es{videoPID, 0x1b, nil}, es{0x112, 0x0f, languageDescriptor("nld")})
	m.pes(0x112, 0xc1, 9000, 9000, adtsFrame("still"), true, 0)
	r, _ := demux(t, m.take(), 1316)

	var sound []string
	for _, p := range r.of(media.Audio) {
		sound = append(sound, fmt.Sprintf("%d %s %s", p.Track.ID, p.Track.Language, p.Payload))
	}
	require.Equal(t, []string{"0 de aac", "0 en one", "1 fr two", "1 nl still"}, sound)
	require.Len(t, r.of(media.Video), 3, "what goes on in the program goes on")
	require.Len(t, r.last(), 2)
	require.True(t, r.complete[len(r.complete)-1])
}

func TestConfigurationChanges(t *testing.T) {
	m := newMux()
	m.tables()
	m.video(0, 0, reference) // joined in the middle
	m.video(0, 0, spsSmall, ppsSmall, idr)
	m.video(3600, 3600, spsSmall, ppsSmall, idr)
	m.video(7200, 7200, "\x67"+spsLarge, ppsLarge, idr)
	r, stats := demux(t, m.take(), 1316)
	video := r.of(media.Video)
	require.Len(t, video, 3)
	require.EqualValues(t, 1, stats.Waiting)
	require.Equal(t, []media.Flags{media.Key, media.Key, media.Key | media.NewConfig}, []media.Flags{video[0].Flags, video[1].Flags, video[2].Flags})
	require.Equal(t, 640, video[2].Track.Video.Width)
	require.Same(t, video[0].Track, video[1].Track)
	require.Len(t, r.told, 2)
}

func TestSeveralPicturesInOnePES(t *testing.T) {
	m := newMux()
	m.tables()
	m.video(0, 0, delimiter, spsSmall, ppsSmall, idr)
	m.video(3600, 3600, delimiter, reference, delimiter, disposable)
	m.video(-1, -1, delimiter, reference)
	r, _ := demux(t, m.take(), 1316)
	var at []time.Duration
	for _, p := range r.of(media.Video) {
		at = append(at, p.DTS)
	}
	require.Equal(t, []time.Duration{0, ticks(3600), ticks(7200), ticks(10800)}, at)
}

func TestSoundAcrossPES(t *testing.T) {
	m := newMux()
	m.tables()
	b := slices.Concat(adtsFrame("first"), adtsFrame("second"), adtsFrame("third"), adtsFrame("fourth"))
	m.pes(audioPID, 0xc0, 0, 0, b[:20], true, 0)         // one and a half
	m.pes(audioPID, 0xc0, 3840, 3840, b[20:30], true, 0) // the rest of the second, some of the third
	m.pes(audioPID, 0xc0, 5760, 5760, b[30:], true, 0)
	r, stats := demux(t, m.take(), 188)
	var got []string
	for _, p := range r.of(media.Audio) {
		got = append(got, fmt.Sprint(string(p.Payload), " ", media.ToTicks(p.DTS, timeScale)))
	}
	require.Equal(t, []string{"first 0", "second 1920", "third 3840", "fourth 5760"}, got)
	require.Zero(t, stats.Corrupt)

	m.pes(audioPID, 0xc0, 7680, 7680, append([]byte("junk\xff"), adtsFrame("fifth")...), true, 0)
	r, stats = demux(t, append(tablesOnly(), m.take()...), 188)
	require.Equal(t, "fifth", string(r.of(media.Audio)[0].Payload), "found again behind junk")
	require.Equal(t, media.Key|media.Discontinuity, r.of(media.Audio)[0].Flags)
	require.NotZero(t, stats.Corrupt)
}

func tablesOnly() []byte {
	m := newMux()
	m.tables()
	return m.take()
}

func TestData(t *testing.T) {
	splice := unhex("fc302000000000000000fff00f05000000007fefff003400000000000a0008") // made up, the CRC is put behind it
	splice = append(splice, crcOf(splice)...)
	splice[2] = byte(len(splice) - 3)
	splice = append(splice[:len(splice)-4], crcOf(splice[:len(splice)-4])...)
	m := newMux()
	m.pat(pmtPID)
	m.pmt(es{videoPID, 0x1b, nil}, es{0x102, 0x86, []byte{tagRegistration, 4, 'C', 'U', 'E', 'I'}},
		es{0x103, 0x15, unhex("260dffff49443320ff49443320000f")}, es{0x104, 0x06, nil})
	m.video(90000, 90000, spsSmall, ppsSmall, idr)
	m.video(93600, 93600, reference)
	m.put(0x102, append([]byte{0}, splice...), 0)
	m.pes(0x103, 0xbd, 95000, 95000, []byte("ID3\x04tag"), true, 0)
	m.pes(0x103, 0xbd, -1, -1, []byte("ID3\x04late"), true, 0)
	m.pes(0x104, 0xbd, 95000, 95000, []byte("private"), true, 0)
	bad := bytes.Clone(splice)
	bad[8] ^= 1
	m.put(0x102, append([]byte{0}, bad...), 0)
	r, stats := demux(t, m.take(), 1316)

	require.Len(t, r.last(), 3)
	data := r.of(media.Data)
	require.Len(t, data, 3)
	require.Equal(t, media.SCTE35, data[0].Track.Codec)
	require.Equal(t, splice, data[0].Payload)
	require.Equal(t, ticks(93600)-ticks(3600), data[0].DTS, "at the newest picture that is whole")
	require.Equal(t, media.ID3, data[1].Track.Codec)
	require.Equal(t, "ID3\x04tag", string(data[1].Payload))
	require.Equal(t, ticks(95000), data[1].PTS)
	require.Equal(t, "ID3\x04late", string(data[2].Payload))
	require.EqualValues(t, 1, stats.Corrupt)
}

func TestRefusedPrograms(t *testing.T) {
	for about, c := range map[string]struct {
		list     []es
		sentence string
	}{
		"MPEG-2 video":                        {[]es{{videoPID, 0x02, nil}, {audioPID, 0x0f, nil}}, "the video codec MPEG-2 video is not supported over SRT; set the encoder to H.264"},
		"private":                             {[]es{{videoPID, 0x1b, nil}, {audioPID, 0x06, []byte("\x05\x04BSSD")}}, `the audio codec "BSSD" is not supported over SRT; set the encoder to AAC`},
		"a second, carried language saves it": {[]es{{videoPID, 0x1b, nil}, {audioPID, 0x06, []byte("\x05\x04DTS1")}, {0x102, 0x0f, nil}}, ""},
		"subtitles":                           {[]es{{videoPID, 0x1b, nil}, {0x104, 0x06, []byte("\x59\x00")}}, ""},
	} {
		t.Run(about, func(t *testing.T) {
			m := newMux()
			m.pat(pmtPID)
			m.pmt(c.list...)
			err := newDemuxer(new(recorder)).Write(m.take(), time.Now())
			if c.sentence == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, fault.UnsupportedCodec, fault.ReasonOf(err))
			require.Contains(t, err.Error(), c.sentence)
		})
	}
}

// lies are tables that do not tell the truth. They seed the fuzz target too.
func lies() map[string][]byte {
	media := func(m *mux) []byte {
		m.video(0, 0, spsSmall, ppsSmall, idr)
		m.video(3600, 3600, reference)
		return m.take()
	}
	lies := make(map[string][]byte)
	add := func(about string, tables func(m *mux)) {
		m := newMux()
		tables(m)
		lies[about] = append(m.take(), media(m)...)
	}
	add("PIDs of the tables themselves", func(m *mux) {
		m.pat(pmtPID)
		m.pmt(es{patPID, 0x1b, nil}, es{pmtPID, 0x0f, nil}, es{nullPID, 0x0f, nil})
	})
	add("PMT on the PAT's PID", func(m *mux) { m.pat(patPID) })
	add("PMT on the null PID", func(m *mux) { m.pat(nullPID) })
	add("one PID for all", func(m *mux) {
		m.pat(pmtPID)
		m.pmt(es{videoPID, 0x1b, nil}, es{videoPID, 0x0f, nil}, es{videoPID, 0x86, nil})
	})
	add("more streams than there are numbers", func(m *mux) {
		m.pat(pmtPID)
		var list []es
		for i := range uint16(60) {
			list = append(list, es{0x200 + i, 0x0f, nil})
		}
		m.pmt(list...)
	})
	add("info longer than the table", func(m *mux) {
		m.pat(pmtPID)
		m.table(pmtPID, tablePMT, 1, []byte{0xe1, 0, 0xff, 0xff, 0x1b, 0xe1, 0, 0xf0, 0})
	})
	add("descriptors longer than the table", func(m *mux) {
		m.pat(pmtPID)
		m.table(pmtPID, tablePMT, 1, []byte{0xe1, 0, 0xf0, 0, 0x1b, 0xe1, 0, 0xff, 0xff})
	})
	add("another program", func(m *mux) {
		m.pat(pmtPID)
		m.table(pmtPID, tablePMT, 2, []byte{0xe1, 0, 0xf0, 0, 0x1b, 0xe1, 0, 0xf0, 0})
	})
	add("wrong checksum", func(m *mux) {
		m.pat(pmtPID)
		m.pmt(es{videoPID, 0x1b, nil})
		m.out[len(m.out)-1] ^= 1
	})
	add("the program changes its PMT", func(m *mux) {
		m.tables()
		m.pat(videoPID)
	})
	add("no streams", func(m *mux) {
		m.tables()
		m.pmt()
	})
	add("pointer behind the packet", func(m *mux) { m.put(patPID, []byte{200, 1, 2, 3}, 0) })
	add("adaptation field behind the packet", func(m *mux) {
		m.tables()
		m.out = append(m.out, append([]byte{syncByte, 0x41, 0, 0x30, 255}, make([]byte, 183)...)...)
	})
	return lies
}

func TestTablesThatLie(t *testing.T) {
	for about, b := range lies() {
		t.Run(about, func(t *testing.T) {
			r, _ := demux(t, b, 1316)
			for _, tracks := range r.told {
				require.LessOrEqual(t, len(tracks), 3*media.MaxTracksPerKind)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	m := newMux()
	m.tables()
	m.video(0, 0, spsSmall, ppsSmall, idr)
	m.video(0, 0, idr+strings.Repeat("x", maxVideoPES))
	m.video(3600, 3600, idr)
	r, stats := demux(t, m.take(), 1316)
	require.Len(t, r.of(media.Video), 2)
	require.NotZero(t, stats.Corrupt)
	require.True(t, r.of(media.Video)[1].Flags.Has(media.Discontinuity))

	m.tables()
	m.pes(videoPID, 0xe0, 0, 0, bytes.Repeat([]byte{0, 0, 1, 9}, maxNALs+1), false, 0)
	m.video(3600, 3600, spsSmall, ppsSmall, idr)
	r, _ = demux(t, m.take(), 1316)
	require.Len(t, r.of(media.Video), 1)
}

func TestScrambled(t *testing.T) {
	m := newMux()
	m.tables()
	m.video(0, 0, spsSmall, ppsSmall, idr)
	b := m.take()
	b[len(b)-PacketSize+3] |= 0x80
	r, stats := demux(t, b, 1316)
	require.Empty(t, r.packets)
	require.EqualValues(t, 1, stats.Scrambled)
}

func TestErrorsOfTheSinkEnd(t *testing.T) {
	m := newMux()
	m.seconds(0, 1)
	r := &recorder{refuse: fault.New(fault.UnsupportedLayout, "no")}
	require.ErrorIs(t, newDemuxer(r).Write(m.take(), time.Now()), r.refuse)
}

func TestLanguages(t *testing.T) {
	for code, want := range map[string]string{
		"eng": "en", "ger": "de", "deu": "de", "fre": "fr", "ENG": "en", "und": "", "qaa": "qaa", "zzz": "", "\x00\x01\x02": "", "mul": "mul",
	} {
		require.Equal(t, want, languageOf(languageDescriptor(code)), code)
	}
	require.Empty(t, languageOf(nil))
	require.Empty(t, languageOf([]byte{tagLanguage, 200, 'e'}))
}

// discard is a Sink without memory.
type discard struct{ packets int }

func (*discard) Tracks([]*media.Track, bool) error { return nil }
func (d *discard) Packet(media.Packet) error       { d.packets++; return nil }

func TestTheHotPathDoesNotAllocate(t *testing.T) {
	m := newMux()
	m.seconds(0, 1)
	second := m.take() // the same second over and over: counters and times repeat
	d := New(Options{Sink: new(discard), Slab: new(media.Slab), Start: time.Now()})
	now := time.Now()
	require.NoError(t, d.Write(second, now))
	per := testing.AllocsPerRun(50, func() {
		for b := second; len(b) > 0; b = b[min(1316, len(b)):] {
			_ = d.Write(b[:min(1316, len(b))], now)
		}
	})
	require.LessOrEqual(t, per, 3.0, "a slab now and then, in 25 pictures and 47 frames of sound")
}

func BenchmarkDemux(b *testing.B) {
	m := newMux()
	m.tables()
	m.video(0, 0, delimiter, spsSmall, ppsSmall, idr)
	body := strings.Repeat("\x12\x00\x34\x56\x78\x01", 4000)
	for i := range int64(25) {
		m.video(i*3600, i*3600, delimiter, reference+body)
		m.audio(i*3600, strings.Repeat("a", 300), strings.Repeat("b", 300))
	}
	stream := m.take()
	d := New(Options{Sink: new(discard), Slab: new(media.Slab), Start: time.Now()})
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		for rest := stream; len(rest) > 0; rest = rest[min(1316, len(rest)):] {
			_ = d.Write(rest[:min(1316, len(rest))], time.Time{})
		}
	}
}

package ts

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
)

func TestLoss(t *testing.T) {
	big := strings.Repeat("x", 1000)
	stream := func() [][]byte {
		m := newMux()
		m.tables()
		for i := range int64(10) {
			m.video(i*3600, i*3600, delimiter, spsSmall, ppsSmall, idr+big)
			m.audio(i*3600, "aac")
		}
		return packetsOf(m.take())
	}
	for about, c := range map[string]struct {
		change         func([][]byte) [][]byte
		video, audio   int
		discontinuous  media.Kind // of the one packet that says so
		errors, repeat uint64
	}{
		"nothing": {change: func(l [][]byte) [][]byte { return l }, video: 10, audio: 10},
		"a packet in the middle of a picture": {change: func(l [][]byte) [][]byte {
			i := ofPID(l, videoPID, 8)
			return slices.Delete(l, i, i+1)
		}, video: 9, audio: 10, discontinuous: media.Video, errors: 1},
		"the first packet of a picture": {change: func(l [][]byte) [][]byte {
			i := ofPID(l, videoPID, 12)
			require.NotZero(t, l[i][1]&0x40)
			return slices.Delete(l, i, i+1)
		}, video: 8, audio: 10, discontinuous: media.Video, errors: 1},
		"a frame of sound": {change: func(l [][]byte) [][]byte {
			i := ofPID(l, audioPID, 4)
			return slices.Delete(l, i, i+1)
		}, video: 10, audio: 9, discontinuous: media.Audio, errors: 1},
		"a packet twice": {change: func(l [][]byte) [][]byte {
			i := ofPID(l, videoPID, 8)
			return slices.Insert(l, i, l[i])
		}, video: 10, audio: 10},
		"a packet marked as damaged": {change: func(l [][]byte) [][]byte {
			l[ofPID(l, videoPID, 8)][1] |= 0x80
			return l
		}, video: 9, audio: 10, discontinuous: media.Video, errors: 1},
	} {
		t.Run(about, func(t *testing.T) {
			r, stats := demux(t, slices.Concat(c.change(stream())...), 1316)
			require.Len(t, r.of(media.Video), c.video)
			require.Len(t, r.of(media.Audio), c.audio)
			require.Equal(t, c.errors, stats.ContinuityErrors)
			var marked []media.Kind
			for _, p := range r.packets {
				if p.Flags.Has(media.Discontinuity) {
					marked = append(marked, p.Track.Kind)
				}
			}
			if c.discontinuous == media.UnknownKind {
				require.Empty(t, marked)
			} else {
				require.Equal(t, []media.Kind{c.discontinuous}, marked)
			}
		})
	}
}

// TestPicturesBehindALoss: those that need what was lost are left out, up to the
// next key frame, or for so long that none seems to come.
func TestPicturesBehindALoss(t *testing.T) {
	for about, c := range map[string]struct {
		key   int64 // the picture that is a key frame, beside the first
		first int64 // that is passed on behind the loss
	}{"key frame": {10, 10}, "none": {1000, 4 + 50}} {
		t.Run(about, func(t *testing.T) {
			m := newMux()
			m.tables()
			for i := range int64(60) {
				units := []string{delimiter, reference}
				if i == 0 || i == c.key {
					units = []string{delimiter, spsSmall, ppsSmall, idr}
				}
				m.video(i*9000, i*9000, units...)
				m.audio(i*9000, "aac")
			}
			l := packetsOf(m.take())
			i := ofPID(l, videoPID, 3)
			r, stats := demux(t, slices.Concat(slices.Delete(l, i, i+1)...), 1316)
			video := r.of(media.Video)
			require.Len(t, r.of(media.Audio), 60, "sound goes on")
			require.Len(t, video, 2+60-int(c.first), "it is not known whether the picture before the loss is whole")
			back := video[2]
			require.Equal(t, time.Duration(c.first-1)*100*time.Millisecond, back.DTS-video[1].DTS)
			require.True(t, back.Flags.Has(media.Discontinuity))
			require.EqualValues(t, c.first-4, stats.Undecodable)
			require.EqualValues(t, 1, stats.ContinuityErrors)
		})
	}
}

// TestCountersThatComeRound: sixteen lost packets of a track show only in what
// the carrier knows.
func TestCountersThatComeRound(t *testing.T) {
	for _, told := range []int{0, 15, 16} {
		m := newMux()
		m.tables()
		for i := range int64(40) {
			m.video(i*3600, i*3600, delimiter, spsSmall, ppsSmall, idr)
			m.audio(i*3600, "aac")
		}
		l := packetsOf(m.take())
		from, to := ofPID(l, audioPID, 4), ofPID(l, audioPID, 20)
		r := new(recorder)
		d := New(Options{Sink: r, Slab: new(media.Slab), Start: time.Now()})
		require.NoError(t, d.Write(slices.Concat(l[:from]...), time.Now()))
		d.Missing(told)
		require.NoError(t, d.Write(slices.Concat(l[to:]...), time.Now()))
		require.NoError(t, d.Finish())
		marked := 0
		for _, p := range r.packets {
			if p.Flags.Has(media.Discontinuity) {
				marked++
			}
		}
		want := 0
		if told >= 16 {
			want = 2
		}
		require.Equal(t, want, marked, told)
	}
}

func TestResync(t *testing.T) {
	m := newMux()
	m.seconds(0, 2)
	list := packetsOf(m.take())
	whole, _ := demux(t, slices.Concat(list...), 1316)
	for about, junk := range map[string][]byte{
		"one byte more":         {0},
		"a sync byte more":      {syncByte},
		"some bytes more":       bytes.Repeat([]byte{syncByte, 1, 2}, 30),
		"more than two packets": bytes.Repeat([]byte("junk"), 100),
	} {
		t.Run(about, func(t *testing.T) {
			i := len(list) / 2
			r, stats := demux(t, slices.Concat(slices.Concat(list[:i]...), junk, slices.Concat(list[i:]...)), 1316)
			require.GreaterOrEqual(t, len(r.packets), len(whole.packets)-3)
			require.NotZero(t, stats.LostSync)
			require.LessOrEqual(t, stats.LostSync, uint64(len(junk)+2*PacketSize))
		})
	}
	i := len(list) / 2
	_, stats := demux(t, slices.Concat(slices.Concat(list[:i]...), list[i][60:], slices.Concat(list[i+1:]...)), 1316)
	require.NotZero(t, stats.LostSync, "part of a packet is missing")
	require.NotZero(t, stats.ContinuityErrors)
}

package ts

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/pipeline"
)

// steady is a Sink that holds every packet to the time it must have on the
// stream's timeline.
type steady struct {
	t       *testing.T
	time    *pipeline.Normalizer
	packets [media.Data + 1]int
}

func (s *steady) Tracks([]*media.Track, bool) error { return nil }

func (s *steady) Packet(p media.Packet) error {
	p.Track = &media.Track{ID: media.NewTrackID(0, p.Track.Kind, 0), Kind: p.Track.Kind}
	require.Equal(s.t, pipeline.NoRepair, s.time.Map(&p))
	require.False(s.t, p.Flags.Has(media.Discontinuity))
	n := s.packets[p.Track.Kind]
	require.Equal(s.t, time.Duration(n)*time.Second, p.DTS, "%s %d", p.Track.Kind, n)
	s.packets[p.Track.Kind]++
	return nil
}

// TestTwoDays: picture and sound keep their time, to the tick, over 54 hours, in
// which the clock of the transport stream comes round twice.
func TestTwoDays(t *testing.T) {
	for from, hours := range map[int64]int{0: 54, 1<<33 - 5*timeScale: 1, 1<<32 - 7: 1} {
		sink := &steady{t: t, time: pipeline.NewNormalizer(pipeline.NormalizerOptions{})}
		began := time.Unix(1000, 0)
		d := New(Options{Sink: sink, Slab: new(media.Slab), Start: began, Bad: func(err error) { require.NoError(t, err) }})
		m := newMux()
		for i := range int64(hours) * 3600 {
			at := from + i*timeScale
			if i%10 == 0 {
				m.tables()
			}
			m.video(at+3600, at, delimiter, spsSmall, ppsSmall, idr)
			m.audio(at, "aac")
			require.NoError(t, d.Write(m.out, began.Add(time.Duration(i)*time.Second)))
			m.out = m.out[:0]
		}
		require.NoError(t, d.Finish())
		require.Equal(t, hours*3600, sink.packets[media.Video])
		require.Equal(t, hours*3600, sink.packets[media.Audio])
	}
}

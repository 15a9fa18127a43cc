package srt

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/ingest/srt/ts"
	"github.com/klive-media/klive/internal/media"
)

func newTestFeeder(p *publication, now time.Time) *feeder {
	return newFeeder(p, slog.New(slog.DiscardHandler), now)
}

var (
	picture = &media.Track{Kind: media.Video, Codec: media.H264}
	sound   = &media.Track{Kind: media.Audio, Codec: media.AAC}
	second  = &media.Track{ID: 1, Kind: media.Audio, Codec: media.AAC}
	splices = &media.Track{Kind: media.Data, Codec: media.SCTE35}
)

func packet(t *media.Track, at time.Duration) media.Packet {
	return media.Packet{Track: t, DTS: at, PTS: at, Payload: []byte{1}}
}

// at lets a feeder look at the time, as bytes that hold nothing do.
func at(t testing.TB, f *feeder, now time.Time) {
	t.Helper()
	require.NoError(t, f.write(ts.New(ts.Options{Sink: f, Slab: new(media.Slab), Start: now}), nil, now))
}

func TestAnnouncedWhenComplete(t *testing.T) {
	p, now := newPublication(), time.Now()
	f := newTestFeeder(p, now)
	require.NoError(t, f.Tracks([]*media.Track{sound}, false))
	require.NoError(t, f.Packet(packet(sound, 0)))
	at(t, f, now.Add(ingest.AnnounceWait-1))
	require.Empty(t, p.announced, "the picture is promised")
	require.NoError(t, f.Tracks([]*media.Track{picture, sound}, true))
	require.Equal(t, [][]*media.Track{{picture, sound}}, p.announced)
	require.Len(t, p.packets, 1, "what was held back")
	require.NoError(t, f.Packet(packet(picture, 1)))
	require.Len(t, p.packets, 2)
}

func TestAnnouncedAfterAWhile(t *testing.T) {
	p, now := newPublication(), time.Now()
	f := newTestFeeder(p, now)
	require.NoError(t, f.Tracks([]*media.Track{splices}, false))
	at(t, f, now.Add(time.Minute))
	require.NoError(t, f.Tracks([]*media.Track{sound, splices}, false))
	require.NoError(t, f.Packet(packet(sound, 0)))
	require.Empty(t, p.announced, "the wait begins with the first sound, not with data")
	at(t, f, now.Add(time.Minute+ingest.AnnounceWait))
	require.Equal(t, [][]*media.Track{{sound, splices}}, p.announced)
	require.Len(t, p.packets, 1)
	require.NoError(t, f.Tracks([]*media.Track{picture, sound, splices}, true))
	require.Len(t, p.announced, 2, "the picture came late")
}

func TestWhatIsHeldBackIsBounded(t *testing.T) {
	p, now := newPublication(), time.Now()
	f := newTestFeeder(p, now)
	require.NoError(t, f.Tracks([]*media.Track{splices}, false))
	for range 2 * maxHeld {
		require.NoError(t, f.Packet(packet(splices, 0)))
	}
	require.Len(t, f.held, maxHeld, "data alone goes nowhere")
	require.NoError(t, f.Tracks([]*media.Track{sound, splices}, false))
	require.Len(t, p.announced, 1, "no more fits: on air with what there is")
}

func TestATrackThatChangedBeforeItWasAnnounced(t *testing.T) {
	p, now := newPublication(), time.Now()
	f := newTestFeeder(p, now)
	require.NoError(t, f.Tracks([]*media.Track{sound}, false))
	require.NoError(t, f.Packet(packet(sound, 0)))
	changed := *sound
	require.NoError(t, f.Tracks([]*media.Track{&changed}, false))
	require.NoError(t, f.Packet(packet(&changed, 1)))
	at(t, f, now.Add(ingest.AnnounceWait))
	require.Len(t, p.packets, 1)
	require.Same(t, &changed, p.packets[0].Track)
}

func TestSeveralSoundsWhereOneIsCarried(t *testing.T) {
	p, now := newPublication(), time.Now()
	p.refuse = func(tracks []*media.Track) error {
		if len(tracks) > 3 {
			return fault.New(fault.UnsupportedLayout, "one picture and one sound")
		}
		return nil
	}
	f := newTestFeeder(p, now)
	require.NoError(t, f.Tracks([]*media.Track{picture, sound, second, splices}, true))
	require.Equal(t, []*media.Track{picture, sound, splices}, p.announced[1])
	for _, track := range []*media.Track{picture, sound, second, splices} {
		require.NoError(t, f.Packet(packet(track, 0)))
	}
	require.Len(t, p.packets, 3)

	p.refuse = func([]*media.Track) error { return fault.New(fault.UnsupportedLayout, "no") }
	require.Error(t, newTestFeeder(p, now).Tracks([]*media.Track{picture}, true), "nothing can be left out")
}

func TestEndOfAShortStream(t *testing.T) {
	p, now := newPublication(), time.Now()
	f := newTestFeeder(p, now)
	d := ts.New(ts.Options{Sink: f, Slab: new(media.Slab), Start: now})
	for _, b := range messages(t, 1, 0) {
		require.NoError(t, f.write(d, b, now))
	}
	require.Empty(t, p.packets)
	require.NoError(t, f.end(d))
	require.Len(t, p.packets, 1, "the last picture is whole only with the end")

	f = newTestFeeder(p, now)
	p.cause = fault.New(fault.Superseded, "gone")
	require.NoError(t, f.end(d))
}

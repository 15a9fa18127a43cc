package srt

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/ingest/srt/ts"
	"github.com/klive-media/klive/internal/media"
)

func newTestFeeder(p *publication, now time.Time) *feeder {
	return newFeeder(p, new(further), now)
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
	require.Empty(t, p.packets, "there is no picture yet")
	require.NoError(t, f.Packet(packet(sound, 2)))
	require.NoError(t, f.Packet(packet(picture, 1)))
	require.NoError(t, f.Packet(packet(picture, 3)))
	var order []time.Duration
	for _, q := range p.packets {
		order = append(order, q.DTS)
	}
	require.Equal(t, []time.Duration{0, 1, 2, 3}, order)
}

// A track that sends nothing does not keep the others off the air.
func TestATrackWithoutPackets(t *testing.T) {
	p, now := newPublication(), time.Now()
	f := newTestFeeder(p, now)
	require.NoError(t, f.Tracks([]*media.Track{picture, sound}, true))
	require.NoError(t, f.Packet(packet(sound, 0)))
	at(t, f, now.Add(ingest.AnnounceWait-1))
	require.Empty(t, p.packets)
	at(t, f, now.Add(ingest.AnnounceWait))
	require.Len(t, p.packets, 1)
	require.NoError(t, f.Packet(packet(sound, 1)))
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

func TestFurtherTracks(t *testing.T) {
	p, now := newPublication(), time.Now()
	answers, asked, left := map[int]chan opening{}, []int{}, []string{}
	onAir := int64(0)
	more := &further{
		index: 1,
		open: func(index int) <-chan opening {
			asked = append(asked, index)
			answers[index] = make(chan opening, 1)
			return answers[index]
		},
		taken:   func(n int64) { onAir += n },
		refused: func(t *media.Track, err error) { left = append(left, t.String()+" "+string(fault.ReasonOf(err))) },
	}
	f := newFeeder(p, more, now)
	third := &media.Track{ID: 2, Kind: media.Audio, Codec: media.AAC}
	small := &media.Track{ID: 1, Kind: media.Video, Codec: media.H264}
	all := []*media.Track{picture, small, sound, second, third, splices}
	require.NoError(t, f.Tracks(all, true))
	require.Equal(t, [][]*media.Track{{picture, sound, splices}}, p.announced)
	for i := range 300 {
		for _, track := range all {
			require.NoError(t, f.Packet(packet(track, time.Duration(i))))
		}
	}
	require.Len(t, p.packets, 900)
	require.Equal(t, []int{2, 1000, 1001}, asked)

	language := newPublication()
	answers[1000] <- opening{pub: language}
	answers[1001] <- opening{err: fault.New(fault.BackendRefused, "no")}
	for range 2 {
		require.NoError(t, f.Packet(packet(second, 300)))
		require.NoError(t, f.Packet(packet(third, 300)))
	}
	require.Equal(t, [][]*media.Track{{second}}, language.announced)
	require.Len(t, language.packets, maxFurtherHeld+2, "the newest of what came before the answer")
	require.Equal(t, []string{"audio 2 AAC 0 Hz 0 ch BACKEND_REFUSED"}, left)
	require.EqualValues(t, 1, onAir)

	changed := *second
	require.NoError(t, f.Tracks([]*media.Track{picture, small, sound, &changed, third, splices}, true))
	require.Len(t, p.announced, 1, "nothing of its own changed")
	require.NoError(t, f.Packet(packet(&changed, 301)))
	require.Len(t, language.announced, 2)
	language.dismiss(fault.New(fault.Superseded, "gone"))
	require.NoError(t, f.Packet(packet(&changed, 302)))
	require.Equal(t, fault.Superseded, fault.ReasonOf(language.end))
	require.Zero(t, onAir)

	rendition := newPublication()
	answers[2] <- opening{pub: rendition}
	require.NoError(t, f.Packet(packet(small, 303)))
	more.finish(fault.New(fault.Unpublished, "bye"))
	require.Equal(t, fault.Unpublished, fault.ReasonOf(rendition.end))
	require.Zero(t, onAir)
}

func TestFurtherTracksAreBounded(t *testing.T) {
	left := 0
	f := newFeeder(newPublication(), &further{
		index:   1,
		open:    func(int) <-chan opening { return make(chan opening) },
		taken:   func(int64) {},
		refused: func(*media.Track, error) { left++ },
	}, time.Now())
	var all []*media.Track
	for id := range media.TrackID(media.MaxTracksPerKind) {
		all = append(all, &media.Track{ID: id, Kind: media.Audio, Codec: media.AAC})
	}
	require.NoError(t, f.Tracks(all, true))
	for range 3 {
		for _, track := range all {
			require.NoError(t, f.Packet(packet(track, 0)))
		}
	}
	require.Equal(t, media.MaxTracksPerKind-1-maxFurther, left)
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

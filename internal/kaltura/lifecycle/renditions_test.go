package lifecycle

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/kaltura/profile"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/stream"
)

// meter is what was measured.
type meter struct {
	mu   sync.Mutex // guards list
	list []Measured
}

func (m *meter) set(list ...Measured) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = list
}

func (m *meter) read(string, int) []Measured {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.list
}

const update = "entryServerNode.update"

func TestRenditionsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m meter
		w := newWorld(t, nil, func(o *Options) { o.Bitrates = m.read })
		defer w.halt()
		w.onAir(primary)
		w.pass(10 * time.Second)
		require.Zero(t, w.count(update), "not measured yet")
		m.set(Measured{source, 2_800_000, 128_000, 29.97})
		w.pass(gatherFor)
		row, _ := w.row(primary)
		require.Len(t, row.Streams, 1)
		require.Equal(t, "2928000", row.Streams[0]["bitrate"])
		require.Equal(t, "32", row.Streams[0]["flavorId"])
		require.Equal(t, "1280", row.Streams[0]["width"])
		require.Equal(t, "720", row.Streams[0]["height"])
		require.Equal(t, "h264", row.Streams[0]["codec"])
		require.Equal(t, "30", row.Streams[0]["frameRate"])
		require.NotContains(t, row.Streams[0], "language", "the backend would take it for sound alone")
		require.Equal(t, 1, w.count("entryServerNode.list"))

		m.set(Measured{source, 2_900_000, 128_000, 29.97})
		w.pass(20 * time.Minute)
		require.Equal(t, 1, w.count(update), "that is no change")
		m.set(Measured{source, 4_000_000, 128_000, 29.97})
		w.pass(lookEvery)
		require.Equal(t, 2, w.count(update))
		require.Equal(t, 1, w.count("entryServerNode.list"))

		// A second ingest is told soon, sound alone with its language.
		m.set(Measured{source, 4_000_000, 128_000, 29.97}, Measured{"100", 0, 64_000, 0})
		w.live.edit(primary, func(b *stream.BroadcastStatus) {
			b.Renditions = append(b.Renditions, stream.RenditionStatus{ID: "100", Index: 1000, Playable: true,
				Tracks: []*media.Track{{Kind: media.Audio, Codec: media.AAC, Language: "de-AT"}}})
		})
		w.pass(gatherFor)
		row, _ = w.row(primary)
		require.Len(t, row.Streams, 2)
		require.Equal(t, map[string]string{"objectType": "KalturaLiveStreamParams", "flavorId": "100", "bitrate": "64000", "width": "0",
			"height": "0", "codec": "aac", "frameRate": "0", "language": "deu"}, row.Streams[1])
		r, _ := w.registration(primary)
		require.Equal(t, []stream.RegisteredStream{
			{Rendition: source, Bitrate: 4_128_000, Width: 1280, Height: 720, Codec: "h264", FrameRate: 29.97},
			{Rendition: "100", Bitrate: 64_000, Codec: "aac", Language: "deu"},
		}, r.Streams)
	})
}

// What is never measured is told by what its session brings.
func TestRenditionsThatAreNotMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m meter
		w := newWorld(t, nil, func(o *Options) { o.Bitrates = m.read })
		defer w.halt()
		w.onAir(primary)
		w.pass(measureFor + enough)
		row, _ := w.row(primary)
		require.Len(t, row.Streams, 1)
		require.Equal(t, "1500000", row.Streams[0]["bitrate"])
	})
}

// While nothing can be played there is nothing to tell; after the backend made
// the row anew everything is to be told again.
func TestRenditionsFollowTheRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		require.NoError(t, w.authenticate(primary))
		w.live.begin(primary)
		w.pass(time.Minute)
		require.Zero(t, w.count(update))
		w.live.play(primary, true)
		w.pass(enough)
		require.Equal(t, 1, w.count(update))
		mend := w.inject(kalturatest.Fault{Kind: kalturatest.Down})
		w.pass(10 * time.Minute)
		mend()
		w.pass(40 * time.Second)
		row, ok := w.row(primary)
		require.True(t, ok)
		require.Len(t, row.Streams, 1)
	})
}

// The row may be made anew without our seeing it: another call tells.
func TestRenditionsOfARowThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m meter
		m.set(Measured{source, 1_000_000, 0, 30})
		w := newWorld(t, nil, func(o *Options) { o.Bitrates = m.read })
		defer w.halt()
		w.onAir(primary)
		w.pass(enough)
		require.Equal(t, 1, w.count(update))
		require.NoError(t, w.client.Unregister(t.Context(), house, client.Place{Entry: entry, Host: host}))
		w.pass(keepMax)
		m.set(Measured{source, 3_000_000, 0, 30})
		w.pass(lookEvery)
		row, _ := w.row(primary)
		require.Len(t, row.Streams, 1)
	})
}

func TestThreeLetters(t *testing.T) {
	for tag, want := range map[string]string{"": "", "en": "eng", "de-AT": "deu", "eng": "eng", "spa": "spa", "und": "", "x!": "", "zh-Hant-TW": "zho"} {
		require.Equal(t, want, threeLetters(tag), tag)
	}
}

func TestLadderIsResolvedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		w.onAir(primary)
		w.pass(10 * time.Minute)
		r, _ := w.registration(primary)
		require.Len(t, r.Ladder, 4)
		require.Equal(t, "template", r.LadderFrom)
		require.Empty(t, r.LadderError)
		resolved := w.journal.of(stream.LadderResolved)
		require.Len(t, resolved, 1)
		require.Equal(t, "32,33,34,35", resolved[0].Facts["rungs"])
		require.Equal(t, 1, w.count("wowza_liveConversionProfile.serve"))
		g, _ := w.book.Get(primary)
		require.Equal(t, kalturatest.ProfileTranscode, g.Profile.ID, "the profile that the book lacked")
		w.live.leave(primary)
		w.pass(enough)
		w.live.back(primary)
		w.pass(time.Minute)
		require.Equal(t, 1, w.count("wowza_liveConversionProfile.serve"), "once per broadcast")
		w.live.end(primary)
		w.pass(enough)
		w.onAir(primary)
		require.Equal(t, 2, w.count("wowza_liveConversionProfile.serve"))
	})
}

func TestLadderAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		mend := w.inject(kalturatest.Fault{Kind: kalturatest.HTML, Service: "wowza_liveConversionProfile"})
		more := w.inject(kalturatest.Fault{Kind: kalturatest.Status, Service: "conversionProfileAssetParams"})
		w.onAir(primary)
		w.pass(enough)
		r, _ := w.registration(primary)
		require.Empty(t, r.Ladder)
		require.NotEmpty(t, r.LadderError)
		mend()
		more()
		w.pass(2 * ladderAgain)
		r, _ = w.registration(primary)
		require.Len(t, r.Ladder, 4)
		require.Empty(t, r.LadderError)
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
	})
}

func TestIngestNotInTheProfile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		mend := w.inject(kalturatest.Fault{Kind: kalturatest.Code, Service: "wowza_liveConversionProfile", Code: "INGEST_NOT_FOUND_IN_CONVERSION_PROFILE"})
		require.NoError(t, w.authenticate(primary))
		w.live.begin(primary)
		w.pass(time.Second)
		require.Len(t, w.live.disconnected, 1)
		require.Equal(t, fault.NotInProfile, fault.ReasonOf(w.live.disconnected[0]))
		for range 5 { // the encoder tries again and again
			w.live.back(primary)
			w.pass(2 * time.Second)
		}
		require.Len(t, w.live.disconnected, 6)
		require.Equal(t, 1, w.count("wowza_liveConversionProfile.serve"), "answered from memory for a while")
		mend()
		w.pass(missingFor)
		w.live.back(primary)
		w.pass(time.Minute)
		require.Len(t, w.live.disconnected, 6, "the profile was mended")
		r, _ := w.registration(primary)
		require.Len(t, r.Ladder, 4)
	})
}

// A backend that is slow with what may wait does not delay what may not.
func TestPlayableIsNotKeptWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		for _, service := range []string{"wowza_liveConversionProfile", "conversionProfileAssetParams", "entryServerNode"} {
			w.inject(kalturatest.Fault{Kind: kalturatest.Slow, Delay: 6 * time.Second, Service: service})
		}
		w.onAir(primary) // 4 s after BROADCASTING: it looks at once
		w.pass(gatherFor + time.Minute)
		r, _ := w.registration(primary)
		require.Len(t, r.Ladder, 4, "what was given up is done later")
		require.Len(t, r.Streams, 1)
		w.l.Resync()
		w.pass(time.Second)
		gets := w.count("liveStream.get")
		w.live.play(primary, false)
		synctest.Wait()
		require.Equal(t, kalturatest.StatusBroadcasting, w.status(primary))
		w.pass(time.Minute)
		require.Equal(t, gets+1, w.count("liveStream.get"), "the resync was given up and is made up for")
	})
}

func TestNoResolver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, func(o *Options) { o.Resolver = nil })
		defer w.halt()
		w.onAir(primary)
		w.pass(time.Minute)
		require.Zero(t, w.count("wowza_liveConversionProfile.serve"))
	})
}

// Two hundred entries for an hour: what it costs the backend.
func TestSoak(t *testing.T) {
	const entries, minutes = 200, soakMinutes
	synctest.Test(t, func(t *testing.T) {
		keys := make([]book.Key, entries)
		var m meter
		m.set(Measured{source, 2_800_000, 128_000, 30})
		w := newWorld(t, func(o *kalturatest.Options) {
			for i := range keys {
				keys[i] = book.Key{Entry: fmt.Sprintf("0_soak%04d", i)}
				o.Entries = append(o.Entries, entryOf(keys[i].Entry))
			}
		}, func(o *Options) {
			o.Bitrates = m.read
			o.Resolver = profile.NewResolver(o.Client, profile.FromFlavors)
		})
		defer w.halt()
		for _, k := range keys {
			require.NoError(t, w.authenticate(k))
			w.live.begin(k)
		}
		synctest.Wait()
		for _, k := range keys {
			w.live.play(k, true)
		}
		w.pass(time.Minute)
		before := w.backend.State().Counts
		w.pass(minutes * time.Minute)
		after := w.backend.State().Counts
		total := 0
		for action, n := range after {
			if d := n - before[action]; d > 0 {
				t.Logf("%s: %.3f calls per entry and minute", action, float64(d)/entries/minutes)
				total += d
			}
		}
		perMinute := float64(total) / entries / minutes
		t.Logf("all: %.3f calls per entry and minute, %.1f calls per second for %d entries", perMinute, float64(total)/minutes/60, entries)
		require.LessOrEqual(t, perMinute, 60.0/45)
		require.Equal(t, entries, before["entryservernode.update"], "once for each entry, in the first minute")
		require.Equal(t, entries, before["entryservernode.list"])
		for _, k := range keys {
			require.Equal(t, kalturatest.StatusPlayable, w.status(k))
		}
		writes := w.grants.Writes()
		w.pass(10 * time.Minute)
		require.Equal(t, writes, w.grants.Writes(), "keep-alives do not touch the disk")
	})
}

// PLAYABLE waits for what the backend's addresses list, and is told at once
// when it is there.
func TestPlaysWhenWholeSegmentsAreListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lists atomic.Bool
		w := newWorld(t, nil, func(o *Options) { o.Plays = func(string, int) bool { return lists.Load() } })
		defer w.halt()
		require.NoError(t, w.authenticate(primary))
		w.live.begin(primary)
		w.pass(time.Second)
		w.live.play(primary, true)
		w.pass(5 * time.Second)
		require.Equal(t, kalturatest.StatusBroadcasting, w.status(primary))
		lists.Store(true)
		w.pass(listsEach)
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
		w.pass(enough)
		require.Equal(t, 1, w.count(update))
		lists.Store(false) // a moment in which nothing is listed is not the broadcast's end
		w.live.leave(primary)
		w.pass(time.Minute)
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
	})
}

// A registration whose recording is not finished outlives its broadcast, and
// the next one finds what was told of the last: players are not left with that
// until everything is measured.
func TestRenditionsOfTheBroadcastBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m meter
		w := newWorld(t, func(o *kalturatest.Options) {
			o.Partners[1].Features = append(o.Partners[1].Features, kalturatest.FeatureRecording)
		}, func(o *Options) { o.Bitrates = m.read })
		defer w.halt()
		flavors := func() (list []string) {
			row, _ := w.row(primary)
			for _, s := range row.Streams {
				list = append(list, s["flavorId"]+" "+s["bitrate"])
			}
			return list
		}
		m.set(Measured{source, 2_000_000, 0, 30}, Measured{"36", 500_000, 0, 30})
		w.onAir(primary)
		w.live.edit(primary, func(b *stream.BroadcastStatus) {
			b.Renditions = append(b.Renditions, stream.RenditionStatus{ID: "36", Index: 2, Playable: true, Tracks: tracks()})
		})
		w.pass(2 * gatherFor)
		require.Equal(t, []string{"32 2000000", "36 500000"}, flavors())
		w.live.end(primary)
		w.pass(time.Minute)
		require.Equal(t, kalturatest.StatusMarkedForDeletion, w.status(primary))
		require.Len(t, flavors(), 2)

		m.set()
		w.onAir(primary)
		w.pass(gatherFor)
		require.Equal(t, []string{"32 1500000"}, flavors(), "what its session brings")
		m.set(Measured{source, 4_000_000, 0, 30})
		w.pass(gatherFor)
		require.Equal(t, []string{"32 4000000"}, flavors(), "it is told as soon as it is known")
		w.live.end(primary)
		w.pass(time.Minute)

		m.set()
		updates := w.count(update)
		w.onAir(primary)
		w.pass(measureFor - gatherFor)
		require.Equal(t, updates, w.count(update), "nobody is misled by the same renditions")
	})
}

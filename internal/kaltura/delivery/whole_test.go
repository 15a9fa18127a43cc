package delivery

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/stream"
)

func TestWholeRecordings(t *testing.T) {
	for name, change := range map[string]func(*Options){"shared disk": nil, "in place": func(o *Options) { o.SharedDir = "" }, "uploads": uploads} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				h.backend.SetPartner(kalturatest.Partner{ID: partner, Secret: secret, Features: []string{kalturatest.FeatureLive, kalturatest.FeatureRecording}})
				q, stop := h.start(change)
				r, backup := h.recs.begin("rec1", entry, 0), h.recs.begin("rec2", entry, 1)
				h.recs.piece(backup, "32", 1, true)
				for n := 1; n <= 3; n++ {
					h.recs.piece(r, "32", n, n == 3)
					h.recs.piece(r, "33", n, n == 3)
					time.Sleep(time.Minute)
				}
				require.LessOrEqual(t, h.backend.State().Count("liveStream.appendRecording"), 3, "at most one answer for each lane")
				require.Empty(t, h.backend.State().Segments)
				require.Len(t, q.Open(), 6)
				require.Equal(t, []string{"32/1 DELIVERED"}, states(q, "rec2"), "not needed")
				require.True(t, q.Holds("rec1", "33", 1))
				ok, _ := q.Settled(entry, 0)
				require.False(t, ok)
				stop()
				q, stop = h.start(change)
				defer stop()
				h.inject(kalturatest.Fault{Kind: kalturatest.Code, Code: "LOCK_TIMED_OUT", Action: "setRecordedContent", Times: 1})
				h.recs.end(r)
				time.Sleep(time.Minute)
				segments := h.backend.State().Segments
				require.Len(t, segments, 1)
				require.True(t, segments[0].Content)
				require.InDelta(t, 2700, segments[0].Duration, 0.001)
				require.EqualValues(t, len(content("rec1", "32", 1))*3, segments[0].Size)
				require.Empty(t, q.Open())
				require.Contains(t, stateOf(q, "rec1", "33", 1).Error, "whole recording")
				require.Equal(t, 1, h.journal.count(stream.PieceDelivered))
				require.False(t, q.Holds("rec1", "33", 1))
				ok, _ = q.Settled(entry, 0)
				require.True(t, ok)
				time.Sleep(26 * time.Hour)
				left, err := os.ReadDir(h.work)
				require.NoError(t, err)
				require.Empty(t, left)
			})
		})
	}
}

func TestAWholeRecordingInDoubtOrRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		recording := kalturatest.Partner{ID: partner, Secret: secret, Features: []string{kalturatest.FeatureLive, kalturatest.FeatureRecording}}
		h.backend.SetPartner(recording)
		q, stop := h.start(nil)
		defer stop()
		r := h.recs.begin("rec1", entry, 0)
		h.recs.piece(r, "32", 1, false)
		h.recs.piece(r, "32", 2, true)
		h.inject(kalturatest.Fault{Kind: kalturatest.Lost, Action: "setRecordedContent", Times: 1})
		h.recs.end(r)
		time.Sleep(10 * time.Minute)
		require.Equal(t, []string{"32/1 IN_DOUBT", "32/2 IN_DOUBT"}, states(q, "rec1"))
		require.Equal(t, 1, h.journal.count(stream.DeliveryDoubted))
		require.True(t, q.Holds("rec1", "32", 1))
		require.Len(t, h.backend.State().Segments, 1)
		n, err := q.Retry(t.Context(), "rec1", "32", 1)
		require.NoError(t, err)
		require.Equal(t, 2, n, "it is one thing")
		time.Sleep(time.Minute)
		require.Equal(t, []string{"32/1 DELIVERED", "32/2 DELIVERED"}, states(q, "rec1"))
		require.Len(t, h.backend.State().Segments, 2)

		// The partner's recordings become ordinary ones in between.
		r = h.recs.begin("rec2", entry, 0)
		h.recs.piece(r, "32", 1, false)
		h.recs.piece(r, "32", 2, true)
		time.Sleep(time.Minute)
		recording.Features = recording.Features[:1]
		h.backend.SetPartner(recording)
		h.recs.end(r)
		time.Sleep(time.Minute)
		require.Equal(t, codeContentOff, stateOf(q, "rec2", "32", 2).Code)
		ok, _ := q.Settled(entry, 0)
		require.True(t, ok, "it waits for a person")
		_, err = q.Retry(t.Context(), "rec2", "", 0)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"32/1 DELIVERED", "32/2 DELIVERED"}, states(q, "rec2"))
		require.Equal(t, want("rec2", "32", 1, 2), h.got()[lane1(entry, "32", 0)])
		require.NoFileExists(t, filepath.Join(h.work, "rec2.part"))
	})
}

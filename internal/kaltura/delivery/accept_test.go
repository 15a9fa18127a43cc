package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/stream"
)

// jane is who decides.
func jane(t *testing.T) context.Context {
	return auth.NewContext(t.Context(), auth.Principal{Name: "jane", Role: auth.Admin})
}

// last is the newest event.
func (j *journal) last() stream.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.events[len(j.events)-1]
}

// asJSON is a delivery as text: its times do not depend on the zone.
func asJSON(t *testing.T, d stream.Delivery) string {
	for _, at := range []*time.Time{&d.Queued, &d.Tried, &d.Next, &d.Done} {
		*at = at.UTC()
	}
	text, err := json.Marshal(d)
	require.NoError(t, err)
	return string(text)
}

func TestAcceptingWhatIsInDoubt(t *testing.T) {
	for name, change := range map[string]func(*Options){"shared disk": nil, "in place": func(o *Options) { o.SharedDir = "" }, "uploads": uploads} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				q, stop := h.start(change)
				_, err := q.Accept(jane(t), "nothing", "", 0)
				require.Equal(t, fault.RecordingNotFound, fault.ReasonOf(err))
				r := h.recs.begin("rec1", entry, 0)
				_, err = q.Accept(jane(t), "rec1", "", 0)
				require.Equal(t, fault.NothingToDeliver, fault.ReasonOf(err))

				h.inject(kalturatest.Fault{Kind: kalturatest.Lost, Action: "appendRecording", Times: 2})
				h.recs.piece(r, "33", 1, false)
				h.recs.piece(r, "34", 1, false)
				time.Sleep(10 * time.Minute)
				h.recs.piece(r, "33", 2, false)
				time.Sleep(10 * time.Minute)
				require.Equal(t, []string{"33/1 IN_DOUBT", "33/2 DELIVERED", "34/1 IN_DOUBT"}, states(q, "rec1"))
				_, err = q.Accept(jane(t), "rec1", "33", 2)
				require.Equal(t, fault.NothingToDeliver, fault.ReasonOf(err), "nobody doubts it")

				doubted := stateOf(q, "rec1", "33", 1)
				changed := q.Changed()
				n, err := q.Accept(jane(t), "rec1", "33", 0)
				require.NoError(t, err)
				require.Equal(t, 1, n)
				<-changed
				require.Equal(t, []string{"34/1"}, open(q))
				d := stateOf(q, "rec1", "33", 1)
				require.Equal(t, stream.DeliveryDelivered, d.State)
				require.Equal(t, stream.DeliveryInDoubt, d.Accepted)
				require.Equal(t, "jane", d.AcceptedBy)
				require.Equal(t, "accepted as delivered by jane ("+doubted.Error+")", d.Error)
				require.Equal(t, doubted.Attempts, d.Attempts)
				require.Zero(t, stateOf(q, "rec1", "33", 2).Accepted)
				e := h.journal.last()
				require.Equal(t, stream.PieceDelivered, e.Type)
				require.Equal(t, "IN_DOUBT", e.Facts["accepted"])
				require.Equal(t, "jane", e.Facts["principal"])
				require.Equal(t, []string{"33", "1"}, []string{e.Facts["rendition"], e.Facts["number"]})
				_, err = q.Accept(jane(t), "rec1", "33", 1)
				require.Equal(t, fault.NothingToDeliver, fault.ReasonOf(err), "once")
				_, err = q.Retry(t.Context(), "rec1", "33", 1)
				require.Equal(t, fault.NothingToDeliver, fault.ReasonOf(err), "it is delivered")
				s := q.Stats()
				require.Equal(t, []uint64{1, 2, 0, 1}, []uint64{s.Sent, s.Doubted, s.Rejected, s.Accepted})
				stop()

				q, stop = h.start(change)
				defer stop()
				require.Equal(t, asJSON(t, d), asJSON(t, stateOf(q, "rec1", "33", 1)), "it is on the disk")
				n, err = q.Accept(t.Context(), "rec1", "", 0)
				require.NoError(t, err)
				require.Equal(t, 1, n)
				require.Contains(t, stateOf(q, "rec1", "34", 1).Error, "accepted as delivered by somebody")
				h.recs.piece(r, "33", 3, true)
				h.recs.piece(r, "34", 2, true)
				h.recs.end(r)
				time.Sleep(25 * time.Hour)
				require.Empty(t, q.Open())
				for _, p := range h.recs.List("")[0].Pieces {
					require.False(t, q.Holds("rec1", p.Rendition, p.Number))
				}
				require.Equal(t, want("rec1", "33", 1, 3), h.got()[lane1(entry, "33", 0)], "nothing twice")
				ok, _ := q.Settled(entry, 0)
				require.True(t, ok)
			})
		})
	}
}

func TestGivingUpWhatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		q, stop := h.start(nil)
		r := h.recs.begin("rec1", entry, 0)
		h.recs.piece(r, "32", 1, false)
		time.Sleep(time.Minute)
		h.inject(kalturatest.Fault{Kind: kalturatest.Code, Code: "FILE_CONTENT_NOT_SECURE", Action: "appendRecording", Times: 1})
		h.recs.piece(r, "32", 2, false)
		h.recs.piece(r, "32", 3, false)
		time.Sleep(time.Hour)
		require.Equal(t, []string{"32/1 DELIVERED", "32/2 REFUSED", "32/3 QUEUED"}, states(q, "rec1"))
		for _, rendition := range []string{"", "32"} {
			_, err := q.Accept(jane(t), "rec1", rendition, 0)
			require.Equal(t, fault.NothingToDeliver, fault.ReasonOf(err))
			require.ErrorContains(t, err, "name its rendition and number")
		}
		_, err := q.Accept(jane(t), "rec1", "32", 3)
		require.Equal(t, fault.NothingToDeliver, fault.ReasonOf(err), "it only waits")

		n, err := q.Accept(jane(t), "rec1", "32", 2)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		e := h.journal.last()
		require.Equal(t, "REFUSED", e.Facts["accepted"])
		require.Equal(t, "FILE_CONTENT_NOT_SECURE", e.Facts["code"])
		synctest.Wait()
		require.Equal(t, []string{"32/1 DELIVERED", "32/2 DELIVERED", "32/3 DELIVERED"}, states(q, "rec1"), "those behind it go on at once")
		require.False(t, q.Holds("rec1", "32", 2))
		given := stateOf(q, "rec1", "32", 2)
		require.Equal(t, stream.DeliveryRefused, given.Accepted)
		require.Equal(t, "FILE_CONTENT_NOT_SECURE", given.Code)
		require.Contains(t, given.Error, "given up by jane, so the backend does not have it")
		stop()

		q, stop = h.start(nil)
		defer stop()
		require.Equal(t, asJSON(t, given), asJSON(t, stateOf(q, "rec1", "32", 2)), "it is on the disk")
		// What was given up does not spoil how the next lost answer is judged.
		time.Sleep(5 * time.Minute)
		h.inject(kalturatest.Fault{Kind: kalturatest.Lost, Action: "appendRecording", Times: 1})
		h.recs.piece(r, "32", 4, true)
		h.recs.end(r)
		time.Sleep(5 * time.Minute)
		require.Empty(t, q.Open())
		require.Equal(t, append(want("rec1", "32", 1, 1), want("rec1", "32", 3, 4)...), h.got()[lane1(entry, "32", 0)])
	})
}

func TestAcceptingAWholeRecording(t *testing.T) {
	for name, c := range map[string]struct {
		fault  kalturatest.Fault
		before []string
		number int // what is named, of rendition 32
		count  int
		note   string
	}{
		"in doubt": {
			fault: kalturatest.Fault{Kind: kalturatest.Lost}, before: []string{"32/1 IN_DOUBT", "32/2 IN_DOUBT", "33/1 IN_DOUBT"},
			number: 1, count: 3, note: "accepted as delivered by jane",
		},
		"refused": {
			fault: kalturatest.Fault{Kind: kalturatest.Code, Code: "FILE_CONTENT_NOT_SECURE"}, before: []string{"32/1 QUEUED", "32/2 REFUSED", "33/1 QUEUED"},
			number: 2, count: 1, note: "given up by jane",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				h.backend.SetPartner(kalturatest.Partner{ID: partner, Secret: secret, Features: []string{kalturatest.FeatureLive, kalturatest.FeatureRecording}})
				q, stop := h.start(nil)
				defer stop()
				r := h.recs.begin("rec1", entry, 0)
				h.recs.piece(r, "32", 1, false)
				h.recs.piece(r, "32", 2, true)
				h.recs.piece(r, "33", 1, true)
				c.fault.Action, c.fault.Times = "setRecordedContent", 1
				h.inject(c.fault)
				h.recs.end(r)
				time.Sleep(10 * time.Minute)
				require.Equal(t, c.before, states(q, "rec1"))
				calls := h.backend.State().Count("liveStream.setRecordedContent")
				n, err := q.Accept(jane(t), "rec1", "32", c.number)
				require.NoError(t, err)
				require.Equal(t, c.count, n)
				time.Sleep(time.Hour)
				require.Empty(t, q.Open())
				for _, d := range q.Of("rec1") {
					require.Equal(t, "jane", d.AcceptedBy)
					require.Contains(t, d.Error, c.note)
				}
				require.Equal(t, calls, h.backend.State().Count("liveStream.setRecordedContent"))
				require.False(t, q.Holds("rec1", "33", 1))
			})
		})
	}
}

func TestADecisionThatCannotBeNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		q, stop := h.start(nil)
		defer stop()
		h.inject(kalturatest.Fault{Kind: kalturatest.Lost, Action: "appendRecording", Times: 1})
		r := h.recs.begin("rec1", entry, 0)
		h.recs.piece(r, "33", 1, false)
		time.Sleep(time.Minute)
		h.disk.set(nil, errors.New("the disk is full"))
		_, err := q.Accept(jane(t), "rec1", "", 0)
		require.Equal(t, fault.StoreUnavailable, fault.ReasonOf(err))
		require.Equal(t, []string{"33/1 IN_DOUBT"}, states(q, "rec1"))
		require.Zero(t, h.journal.count(stream.PieceDelivered))
		h.disk.set(nil, nil)

		// Somebody else retries it between the look and the note: theirs counts.
		retried := false
		h.disk.set(func(_ context.Context, _ string, r *row, after bool) error {
			if !after && !retried && r.Accepted != 0 {
				retried = true
				n, err := q.Retry(t.Context(), "rec1", "33", 1)
				require.NoError(t, err)
				require.Equal(t, 1, n)
			}
			return nil
		}, nil)
		_, err = q.Accept(jane(t), "rec1", "33", 1)
		require.True(t, retried)
		require.Equal(t, fault.NothingToDeliver, fault.ReasonOf(err))
		time.Sleep(time.Minute)
		require.Zero(t, stateOf(q, "rec1", "33", 1).Accepted)
		require.Equal(t, []string{"33/1 DELIVERED"}, states(q, "rec1"))
		require.Len(t, h.backend.State().Segments, 2, "because somebody asked for it")
	})
}

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

var renditions = []string{"32", "33", "34"}

// record finishes pieces 1 to 5 of three renditions, one every minute.
func (h *house) record(r *stream.Recording) {
	for n := 1; n <= 5; n++ {
		for _, rd := range renditions {
			h.recs.piece(r, rd, n, n == 5)
		}
		time.Sleep(time.Minute)
	}
	h.recs.end(r)
}

// allArrived demands that every piece of the recording arrived once and in
// order.
func (h *house) allArrived(recording string) {
	h.t.Helper()
	got := h.got()
	for _, rd := range renditions {
		require.Equal(h.t, want(recording, rd, 1, 5), got[lane1(entry, rd, 0)], "rendition %s", rd)
	}
}

func TestPiecesArriveOnceAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		q, stop := h.start(nil)
		defer stop()
		r := h.recs.begin("rec1", entry, 0)
		require.True(t, q.Holds("rec1", "32", 1), "a piece that was not seen yet is held")
		h.recs.change(func() { r.Pieces = append(r.Pieces, stream.Piece{Rendition: "32", Number: 1}) })
		synctest.Wait()
		ok, changed := q.Settled(entry, 0)
		require.False(t, ok, "one grows")
		require.Empty(t, q.Of("rec1"))
		h.recs.change(func() { r.Pieces = nil })
		h.record(r)
		synctest.Wait()
		select {
		case <-changed:
		default:
			t.Fatal("nobody said that something changed")
		}
		h.allArrived("rec1")
		ok, _ = q.Settled(entry, 0)
		require.True(t, ok)
		require.Empty(t, q.Open())
		require.False(t, q.Holds("rec1", "32", 1))
		require.Equal(t, 15, h.journal.count(stream.PieceDelivered))
		require.Equal(t, "0_rkij47dr", h.journal.events[0].Stream)
		require.Subset(t, h.journal.events[0].Facts, map[string]string{"recording": "rec1", "number": "1", "server_index": "0"})
		require.Equal(t, 15, q.Stats().Delivered)
		state := h.backend.State()
		require.Len(t, state.CancelledReplace, 1, "before the last piece of the anchor")
		lasts := 0
		for _, s := range state.Segments {
			if s.Last {
				lasts++
			}
		}
		require.Equal(t, 3, lasts)
		e, _ := state.Entry(entry)
		require.Equal(t, 5*900_000, e.LengthMS)
		d := stateOf(q, "rec1", "33", 2)
		require.Equal(t, e.Assets[33], d.Asset)
		require.Equal(t, 1, d.Attempts)
		left, err := os.ReadDir(h.shared)
		require.NoError(t, err)
		require.Empty(t, left, "the backend took the links")
		_, err = os.Stat(filepath.Join(h.recs.dir, "rec1-32-1.mp4"))
		require.NoError(t, err, "our own stays")
	})
}

func TestTheBackendIsAway(t *testing.T) {
	for name, c := range map[string]struct {
		while time.Duration
		way   func(h *house) (back func())
	}{
		"10 minutes, nobody there": {10 * time.Minute, func(h *house) func() { h.line.set(true); return func() { h.line.set(false) } }},
		"2 days, nobody there":     {48 * time.Hour, func(h *house) func() { h.line.set(true); return func() { h.line.set(false) } }},
		"2 hours, dropped":         {2 * time.Hour, during(kalturatest.Fault{Kind: kalturatest.Down})},
		"2 hours, 500":             {2 * time.Hour, during(kalturatest.Fault{Kind: kalturatest.Status})},
		"2 hours, HTML":            {2 * time.Hour, during(kalturatest.Fault{Kind: kalturatest.HTML})},
		"2 hours, empty":           {2 * time.Hour, during(kalturatest.Fault{Kind: kalturatest.Empty})},
		"2 hours, slow":            {2 * time.Hour, during(kalturatest.Fault{Kind: kalturatest.Slow, Delay: 31 * time.Second})},
		"2 hours, refuses us":      {2 * time.Hour, during(kalturatest.Fault{Kind: kalturatest.Code, Code: "SERVICE_FORBIDDEN"})},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				q, stop := h.start(nil)
				defer stop()
				r := h.recs.begin("rec1", entry, 0)
				h.recs.piece(r, "32", 1, false)
				synctest.Wait()
				require.Equal(t, stream.DeliveryDelivered, stateOf(q, "rec1", "32", 1).State)
				back := c.way(h)
				h.recs.piece(r, "33", 1, false)
				h.recs.piece(r, "34", 1, false)
				for n := 2; n <= 5; n++ {
					for _, rd := range renditions {
						h.recs.piece(r, rd, n, n == 5)
					}
				}
				h.recs.end(r)
				time.Sleep(c.while)
				require.Len(t, h.backend.State().Segments, 1)
				d := stateOf(q, "rec1", "32", 2)
				require.NotEmpty(t, d.Error)
				require.NotZero(t, d.Attempts)
				if d.State != stream.DeliverySending { // it just tries
					require.Equal(t, stream.DeliveryQueued, d.State)
					require.True(t, d.Next.After(time.Now()), "it says when")
					require.LessOrEqual(t, time.Until(d.Next), time.Minute)
				}
				require.Len(t, q.Open(), 14)
				require.True(t, q.Holds("rec1", "32", 2))
				back()
				time.Sleep(2 * time.Minute)
				h.allArrived("rec1")
				require.Empty(t, q.Open())
				require.Zero(t, q.Stats().Doubted)
			})
		})
	}
}

func during(f kalturatest.Fault) func(h *house) func() {
	return func(h *house) func() {
		id := h.inject(f)
		return func() { h.backend.ClearFaults(id) }
	}
}

func TestLostAnswers(t *testing.T) {
	for name, kind := range map[string]kalturatest.FaultKind{"carried out": kalturatest.Lost, "not carried out": kalturatest.Down} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				q, stop := h.start(nil)
				defer stop()
				r := h.recs.begin("rec1", entry, 0)
				h.recs.piece(r, "32", 1, false)
				h.recs.piece(r, "33", 1, false)
				synctest.Wait()
				h.inject(kalturatest.Fault{Kind: kind, Action: "appendRecording", Times: 1})
				h.recs.piece(r, "32", 2, false) // right behind the first: its length is certain all the same
				synctest.Wait()
				require.Equal(t, stream.DeliverySending, stateOf(q, "rec1", "32", 2).State)
				h.recs.piece(r, "32", 3, false)
				time.Sleep(5 * time.Second)
				if kind == kalturatest.Lost {
					require.Equal(t, stream.DeliveryDelivered, stateOf(q, "rec1", "32", 3).State)
				} else {
					require.Equal(t, stream.DeliveryQueued, stateOf(q, "rec1", "32", 3).State, "in order")
					time.Sleep(settled - 10*time.Second)
					require.Len(t, h.backend.State().Segments, 2, "the backend may still be working at it")
					time.Sleep(25 * time.Second)
				}
				require.Equal(t, want("rec1", "32", 1, 3), h.got()[lane1(entry, "32", 0)])
				require.Zero(t, h.journal.count(stream.DeliveryDoubted))

				h.inject(kalturatest.Fault{Kind: kind, Action: "appendRecording", Times: 1})
				h.recs.piece(r, "33", 2, false)
				h.recs.piece(r, "33", 3, true)
				synctest.Wait()
				time.Sleep(workTime - time.Second)
				require.Equal(t, []string{"33/2 IN_DOUBT", "33/3 QUEUED"}, states(q, "rec1")[4:], "the backend may still be working at it")
				time.Sleep(2 * time.Second)
				require.Equal(t, []string{"32/1 DELIVERED", "32/2 DELIVERED", "32/3 DELIVERED", "33/1 DELIVERED", "33/2 IN_DOUBT", "33/3 DELIVERED"}, states(q, "rec1"))
				require.Equal(t, 1, h.journal.count(stream.DeliveryDoubted))
				require.True(t, q.Holds("rec1", "33", 2), "the file is kept")
				require.Len(t, q.Open(), 1, "and it is listed")
				require.Equal(t, 1, q.Stats().InDoubt)
				arrived := want("rec1", "33", 1, 3)
				if kind == kalturatest.Down {
					arrived = append(want("rec1", "33", 1, 1), want("rec1", "33", 3, 3)...)
				}
				time.Sleep(24 * time.Hour)
				require.Equal(t, arrived, h.got()[lane1(entry, "33", 0)], "nothing is sent twice by itself")
				n, err := q.Retry(t.Context(), "rec1", "33", 2)
				require.NoError(t, err)
				require.Equal(t, 1, n)
				time.Sleep(time.Second)
				require.Equal(t, append(arrived, want("rec1", "33", 2, 2)...), h.got()[lane1(entry, "33", 0)])
				require.Empty(t, q.Open())
			})
		})
	}
}

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/test/e2e/harness"
	"github.com/klive-media/klive/test/e2e/hlscheck"
)

func itoa(n int) string { return strconv.Itoa(n) }

// outage is how long the backend is away.
const outage = 30 * time.Second

// kalturaOutage takes the backend away during a broadcast. Viewers and publisher notice nothing, a publisher that
// reconnects in the middle gets in, and on return all is told and every piece arrives once and in order.
func kalturaOutage(t *testing.T) {
	b := harness.StartBackend(t, "--record", "per-session", "--entry", entry, "--entry", "0_newcomer")
	s := b.Serve(t, "live1.example.com", "reconnect_window: 20s", "recording: { segment_duration: 10s }\n")
	awaitNode(t, s)
	address := b.PublishURL(t, entry, 0, 1)
	first := harness.StartEncoder(t, s, address, small)
	awaitPlayable(t, s, entry)
	awaitRow(t, b, entry, kalturatest.StatusPlayable, patience)
	broadcast := s.Stream(t, entry).GetBroadcasts()[0].GetId()
	video, audio := rows(t, s, entry)
	ledger := new(hlscheck.Ledger)
	// Sparse: on a busy machine an encoder that is late leaves its parts closed a millisecond early.
	followers := []*hlscheck.Follower{{URL: video, Ledger: ledger, Sparse: true}, {URL: audio, Ledger: ledger, Sparse: true}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, len(followers))
	for _, f := range followers {
		go func() { done <- f.Follow(ctx) }()
	}
	harness.Wait(t, patience, "a first piece arrives", func() (bool, error) { return len(b.State(t).Segments) > 0, nil })

	end := b.Inject(t, `{"kind":"down"}`)
	away := time.Now()
	before := b.State(t)
	resync(t, s) // so that it is noticed now, and not at the next keep-alive
	awaitEvents(t, s, klivev1.EventType_EVENT_TYPE_BACKEND_LOST, 1, patience)
	require.False(t, bridge(t, s).GetBackend().GetAvailable())
	lost, err := s.Metric(t.Context(), "klive_kaltura_backend_away")
	require.NoError(t, err)
	require.Equal(t, 1.0, lost)

	// The publisher comes back in the middle; a new broadcast has to wait.
	require.False(t, first.Ended(), "the publisher noticed")
	first.Kill()
	harness.Wait(t, patience, "the entry waits for its publisher", func() (bool, error) {
		return s.Stream(t, entry).GetBroadcasts()[0].GetReconnectDeadline() != nil, nil
	})
	second := harness.StartEncoder(t, s, address, small)
	harness.Wait(t, patience, "the publisher is let in while the backend is away", func() (bool, error) {
		return s.Stream(t, entry).GetBroadcasts()[0].GetReconnectDeadline() == nil, nil
	})
	require.Contains(t, refusal(t, b.PublishURL(t, "0_newcomer", 0, 1)), "backend")

	harness.Wait(t, 2*outage, "the outage passes", func() (bool, error) { return time.Since(away) > outage, nil })
	require.Equal(t, before.Count("liveStream.authenticate"), b.State(t).Count("liveStream.authenticate"))
	end()
	harness.Wait(t, 90*time.Second, "the entry is registered again", func() (bool, error) {
		return b.State(t).Count("liveStream.registerMediaServer") > before.Count("liveStream.registerMediaServer"), nil
	})
	awaitEvents(t, s, klivev1.EventType_EVENT_TYPE_BACKEND_BACK, 1, patience)
	awaitRow(t, b, entry, kalturatest.StatusPlayable, patience)
	require.False(t, second.Ended(), "the publisher noticed")
	require.Equal(t, broadcast, s.Stream(t, entry).GetBroadcasts()[0].GetId())
	cancel()
	for range followers {
		if err := <-done; err != nil {
			require.ErrorIs(t, err, context.Canceled)
		}
	}
	for _, f := range followers {
		require.Empty(t, f.Findings.List(), f.URL)
		require.Greater(t, f.Parts, 100)
		all := f.Last().All()
		require.EqualValues(t, 1, all[len(all)-1].Discontinuity, "only the reconnect is seen by viewers")
	}
	second.Stop()
	awaitOffAir(t, b, s, entry, patience)
	require.GreaterOrEqual(t, len(arrivedOnce(t, b, s, entry, 32)), 5)
	require.Equal(t, before.Count("liveStream.authenticate"), b.State(t).Count("liveStream.authenticate"), "the return was decided here")
}

// kalturaLostAnswers lets pieces arrive without an answer. Nothing is sent twice by itself; what cannot be known is listed
// and can be sent again.
func kalturaLostAnswers(t *testing.T) {
	b := harness.StartBackend(t, "--record", "appended")
	s := b.Serve(t, "live1.example.com", "reconnect_window: 3s", "recording: { segment_duration: 10s }\n")
	awaitNode(t, s)
	// The source is the anchor, whose length can be read back; of the second bitrate nothing can be known.
	end := b.Inject(t, `{"kind":"lost","service":"liveStream","action":"appendRecording"}`)
	source := harness.StartEncoder(t, s, b.PublishURL(t, entry, 0, 1), small)
	further := harness.StartEncoder(t, s, b.PublishURL(t, entry, 0, 2), small)
	harness.Wait(t, patience, "a piece of each bitrate arrives", func() (bool, error) { return len(b.State(t).Segments) >= 2, nil })
	doubted := awaitEvents(t, s, klivev1.EventType_EVENT_TYPE_RECORDING_DELIVERY_IN_DOUBT, 1, patience)
	end()

	pending := bridge(t, s).GetPendingDeliveries()
	require.NotEmpty(t, pending)
	require.Equal(t, klivev1.DeliveryState_DELIVERY_STATE_IN_DOUBT, pending[0].GetDelivery().GetState())
	require.Equal(t, "36", pending[0].GetRendition())
	require.EqualValues(t, 1, pending[0].GetNumber())
	require.Equal(t, "streams/"+entry, doubted[0].GetStream())
	require.EqualValues(t, 1, bridge(t, s).GetPendingDeliveryCounts().GetInDoubt())
	metric, err := s.Metric(t.Context(), "klive_kaltura_deliveries", `state="IN_DOUBT"`)
	require.NoError(t, err)
	require.Equal(t, 1.0, metric)

	// Further pieces go on, and nothing comes twice.
	harness.Wait(t, patience, "further pieces arrive", func() (bool, error) { return len(b.State(t).Segments) >= 4, nil })
	source.Stop()
	further.Stop()
	awaitOffAir(t, b, s, entry, 2*patience) // behind a doubt the next piece waits until the backend is done with the call, for sure
	arrivedOnce(t, b, s, entry, 32)         // read back: the anchor's piece is known to be there
	sums := map[string]int{}
	for _, piece := range b.State(t).Segments {
		sums[piece.SHA256]++
	}
	for sum, n := range sums {
		require.Equal(t, 1, n, "piece %s arrived more than once", sum)
	}
	require.EqualValues(t, 1, bridge(t, s).GetPendingDeliveryCounts().GetTotal())

	// Somebody decides that it did not arrive.
	retried, err := klivev1.NewRecordingServiceClient(s.Dial(t)).RetryDelivery(t.Context(), &klivev1.RetryDeliveryRequest{Name: pending[0].GetRecording(), Rendition: "36", Number: 1})
	require.NoError(t, err)
	require.EqualValues(t, 1, retried.GetPieceCount())
	harness.Wait(t, patience, "the piece is delivered once more", func() (bool, error) {
		return bridge(t, s).GetPendingDeliveryCounts().GetTotal() == 0, nil
	})
	require.Len(t, b.State(t).Segments, len(sums)+1)
}

// kalturaCrash kills the server between the end of a piece and its delivery, and in the middle of one. After the restart
// each piece arrives once; the publisher returns while the backend is away.
func kalturaCrash(t *testing.T) {
	b := harness.StartBackend(t, "--record", "per-session")
	s := b.Serve(t, "live1.example.com", "reconnect_window: 30s", "recording: { segment_duration: 10s }\n")
	awaitNode(t, s)
	address := b.PublishURL(t, entry, 0, 1)
	harness.StartEncoder(t, s, address, small)
	awaitPlayable(t, s, entry)
	awaitRow(t, b, entry, kalturatest.StatusPlayable, patience)
	away := b.Inject(t, `{"kind":"down"}`)
	broadcast := s.Stream(t, entry).GetBroadcasts()[0].GetId()
	harness.Wait(t, patience, "a piece is finished and waits", func() (bool, error) {
		return bridge(t, s).GetPendingDeliveryCounts().GetTotal() > 0, nil
	})
	s.Kill()
	require.NoError(t, s.Relaunch(t.Context()))
	second := harness.StartEncoder(t, s, address, small)
	harness.Wait(t, patience, "the publisher is let in after the restart without the backend", func() (bool, error) {
		all := s.Stream(t, entry).GetBroadcasts()
		return len(all) > 0 && all[0].GetReconnectDeadline() == nil && all[0].GetState() == klivev1.BroadcastState_BROADCAST_STATE_PLAYABLE, nil
	})
	require.Equal(t, broadcast, s.Stream(t, entry).GetBroadcasts()[0].GetId())
	require.Equal(t, 1, b.State(t).Count("liveStream.authenticate"))
	require.Empty(t, b.State(t).Segments)
	away()
	harness.Wait(t, 60*time.Second, "the piece is delivered", func() (bool, error) { return len(b.State(t).Segments) > 0, nil })

	// Killed while a piece is on its way. The backend takes it all the same.
	b.Inject(t, `{"kind":"slow","delay":"4s","times":1,"service":"liveStream","action":"appendRecording"}`)
	harness.Wait(t, patience, "a piece is on its way", func() (bool, error) { return len(b.State(t).Faults) == 0, nil })
	require.EqualValues(t, 1, bridge(t, s).GetPendingDeliveryCounts().GetSending())
	s.Kill()
	require.NoError(t, s.Relaunch(t.Context()))
	require.True(t, second.Wait(10*time.Second))
	third := harness.StartEncoder(t, s, address, small)
	harness.Wait(t, patience, "nothing waits any more", func() (bool, error) {
		counts := bridge(t, s).GetPendingDeliveryCounts()
		return counts.GetQueued()+counts.GetSending() == 0, nil
	})
	require.Zero(t, bridge(t, s).GetPendingDeliveryCounts().GetTotal(), "the length was read back")
	harness.Wait(t, patience, "a third piece grows", func() (bool, error) {
		pieces := recordings(t, s, entry)[0].GetPieces()
		return pieces[len(pieces)-1].GetNumber() >= 3, nil
	})
	third.Stop()
	awaitOffAir(t, b, s, entry, patience)
	arrived := arrivedOnce(t, b, s, entry, 32)
	require.GreaterOrEqual(t, len(arrived), 3)
	require.True(t, arrived[len(arrived)-1].Last)
	require.Equal(t, 1, b.State(t).Count("liveStream.authenticate"))
}

// kalturaTakeover lets a second server take the entry. The first never ends the other's registration.
func kalturaTakeover(t *testing.T) {
	b := harness.StartBackend(t)
	a := b.Serve(t, "a.example.com", "reconnect_window: 15s", "")
	c := b.Serve(t, "b.example.com", "reconnect_window: 3s", "")
	awaitNode(t, a)
	awaitNode(t, c)
	first := harness.StartEncoder(t, a, b.PublishURL(t, entry, 0, 1), small)
	awaitRow(t, b, entry, kalturatest.StatusPlayable, patience)
	require.Equal(t, "a.example.com", holder(t, b))
	first.Kill()
	harness.StartEncoder(t, c, b.PublishURLAt(t, c, entry, 0, 1), small)
	harness.Wait(t, patience, "the second server has the entry", func() (bool, error) {
		return holder(t, b) == "b.example.com" && b.Row(t, entry, "0").Status == kalturatest.StatusPlayable, nil
	})
	resync(t, a)
	awaitEvents(t, a, klivev1.EventType_EVENT_TYPE_ENTRY_TAKEN_OVER, 1, 70*time.Second)
	a.AwaitState(t, entry, klivev1.BroadcastState_BROADCAST_STATE_STOPPED, patience)
	over := time.Now()
	harness.Wait(t, patience, "the first server has nothing to do", func() (bool, error) {
		require.Equal(t, kalturatest.StatusPlayable, b.Row(t, entry, "0").Status)
		require.Equal(t, "b.example.com", holder(t, b))
		r := registered(t, a, entry, 0)
		return time.Since(over) > 3*time.Second && (r == nil || r.GetTakenOver()), nil
	})
	require.Zero(t, b.State(t).Count("liveStream.unregisterMediaServer"), "the first server ended the other's registration")
	require.False(t, registered(t, c, entry, 0).GetTakenOver())
}

// holder is the host that has the entry's primary.
func holder(t *testing.T, b *harness.Backend) string {
	t.Helper()
	state := b.State(t)
	row, ok := state.Registration(entry, "0")
	if !ok {
		return ""
	}
	for _, n := range state.Nodes {
		if n.ID == row.Node {
			return n.HostName
		}
	}
	return fmt.Sprintf("node %d", row.Node)
}

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/rtmp"
	"github.com/klive-media/klive/test/e2e/encoder"
	"github.com/klive-media/klive/test/e2e/harness"
	"github.com/klive-media/klive/test/e2e/hlscheck"
)

// The first connection hangs without a FIN, as after a lost network. A newcomer is refused while the first may be alive,
// and is on air within a second once it may not.
func TestFrozenPublisherIsReplaced(t *testing.T) {
	media := clip(t)
	s := harness.Start(t, catalog)
	first := harness.StartEncoder(t, s, s.PublishURL("lobby", token), harness.Picture{})
	s.AwaitPlayable(t, "lobby")
	video, _ := rows(t, s, "lobby")
	follower := &hlscheck.Follower{URL: video}
	step(t, follower)
	broadcast := s.Stream(t, "lobby").GetBroadcasts()[0].GetId()

	first.Freeze()
	frozen := time.Now()
	address := encoder.Catalog(s.RTMP, "lobby", token)
	var refusal *rtmp.StatusError
	_, err := encoder.Dial(t.Context(), address)
	require.Less(t, time.Since(frozen), 2*time.Second)
	require.ErrorAs(t, err, &refusal, "the newcomer was let in beside a living publisher")
	require.Equal(t, rtmp.PublishBadName, refusal.Code)
	t.Logf("the newcomer is told: %s", refusal.Description)
	require.Contains(t, refusal.Description, "already being published")

	// takeover_after is 3 s; some media may still have been on its way when the encoder froze.
	harness.Wait(t, 5*time.Second, "the first publisher is no longer alive", func() (bool, error) { return time.Since(frozen) > 3200*time.Millisecond, nil })
	edgeNumber, edgePart := follower.Last().Edge()
	tried := time.Now()
	second, err := encoder.Dial(t.Context(), address)
	require.NoError(t, err, "the newcomer must get in after takeover_after")
	ctx, cancel := context.WithCancel(t.Context())
	played := make(chan error, 1)
	go func() { played <- second.Play(ctx, media, time.Now(), 0, nil) }()
	t.Cleanup(func() { cancel(); <-played; second.Close() })
	onAir := false
	for !onAir {
		p := step(t, follower)
		for _, seg := range p.All() {
			onAir = onAir || seg.Number >= edgeNumber && seg.Discontinuity > 0 && len(seg.Parts) > 0
		}
		require.Less(t, time.Since(tried), 10*time.Second, "no part of the second publisher came")
	}
	took := time.Since(tried)
	t.Logf("on air %v after the retry; the edge was %d.%d", took, edgeNumber, edgePart)
	require.LessOrEqual(t, took, time.Second)

	require.Equal(t, broadcast, s.Stream(t, "lobby").GetBroadcasts()[0].GetId(), "it is another broadcast")
	sessions := s.Sessions(t, "lobby")
	require.Len(t, sessions, 2)
	require.Equal(t, klivev1.BroadcastState_BROADCAST_STATE_FAILED, sessions[1].GetState())
	require.Equal(t, "SUPERSEDED", sessions[1].GetReason())

	// The old one thaws and does not get its place back.
	first.Thaw()
	require.True(t, first.Wait(10*time.Second), "the superseded encoder still runs")
	last := step(t, follower)
	require.EqualValues(t, 1, last.All()[len(last.All())-1].Discontinuity, "more than one discontinuity")
	require.Empty(t, follower.Findings.List())
}

// A publisher that is killed and back within the window continues the same playlist.
func TestReconnectContinuesThePlaylist(t *testing.T) {
	s := harness.Start(t, catalog)
	first := harness.StartEncoder(t, s, s.PublishURL("lobby", token), harness.Picture{})
	s.AwaitPlayable(t, "lobby")
	video, audio := rows(t, s, "lobby")
	ledger := new(hlscheck.Ledger)
	followers := []*hlscheck.Follower{{URL: video, Ledger: ledger}, {URL: audio, Ledger: ledger}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, len(followers))
	for _, f := range followers {
		go func() { done <- f.Follow(ctx) }()
	}
	edge := func() uint64 {
		_, body, err := harness.Get(t.Context(), video)
		require.NoError(t, err)
		p, err := hlscheck.ParseMedia(body)
		require.NoError(t, err)
		number, _ := p.Edge()
		return number
	}
	for round := range 3 {
		from := edge()
		harness.Wait(t, 20*time.Second, "a segment passes", func() (bool, error) { return edge() > from, nil })
		first.Kill()
		harness.Wait(t, 10*time.Second, "the stream waits for its publisher", func() (bool, error) {
			return s.Stream(t, "lobby").GetBroadcasts()[0].GetReconnectDeadline() != nil, nil
		})
		require.Equal(t, klivev1.BroadcastState_BROADCAST_STATE_PLAYABLE, s.Stream(t, "lobby").GetState(), "the stream keeps its state within the window")
		first = harness.StartEncoder(t, s, s.PublishURL("lobby", token), harness.Picture{})
		t.Logf("round %d: back", round)
	}
	from := edge()
	harness.Wait(t, 20*time.Second, "two segments pass", func() (bool, error) { return edge() > from+1, nil })
	cancel()
	for range followers {
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("follow: %v", err)
		}
	}
	for _, f := range followers {
		for _, seg := range f.Last().All() {
			t.Logf("segment %d.%d from %v for %v in %d parts", seg.Discontinuity, seg.Number, seg.Time.Format("05.000"), seg.Duration, len(seg.Parts))
		}
		require.Empty(t, f.Findings.List())
		all := f.Last().All()
		t.Logf("%s: %d parts, discontinuity number %d", f.URL, f.Parts, all[len(all)-1].Discontinuity)
	}
	require.Empty(t, ledger.Changed())
	v, a := followers[0].Last().All(), followers[1].Last().All()
	require.Equal(t, v[len(v)-1].Discontinuity, a[len(a)-1].Discontinuity)
}

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/test/e2e/encoder"
	"github.com/klive-media/klive/test/e2e/harness"
	"github.com/klive-media/klive/test/e2e/hlscheck"
)

// insistent publishes again whenever its connection ends, as encoders do, until the test's end.
func insistent(t *testing.T, s *harness.Server, id, secret string) {
	t.Helper()
	media := clip(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		for ctx.Err() == nil {
			c, err := encoder.Dial(ctx, encoder.Catalog(s.RTMP, id, secret))
			if err != nil {
				pause(ctx, 100*time.Millisecond)
				continue
			}
			_ = c.Play(ctx, media, time.Now(), 0, nil) // the server was killed
			c.Abort()
		}
	})
	t.Cleanup(func() { cancel(); wait.Wait() })
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// onlooker follows a media playlist through the crashes of the server and holds every playlist against the last one
// seen before, also across crashes.
type onlooker struct {
	mu       sync.Mutex // guards follower while the watcher runs
	follower *hlscheck.Follower
	across   hlscheck.Findings
	reloads  int
}

func (o *onlooker) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := o.step(ctx); err != nil {
			pause(ctx, 50*time.Millisecond)
		}
	}
}

func (o *onlooker) step(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.follower.Last()
	p, err := o.follower.Step(ctx)
	if p != nil && before != nil {
		o.reloads++
		hlscheck.CheckNext(before, p, &o.across)
	}
	if err != nil {
		o.follower.Interrupted()
	}
	return err
}

// Killed at random moments while publishing and while players wait, the server comes back with everything it had shown.
func TestKilledServerForgetsNothing(t *testing.T) {
	s := harness.Start(t, catalog)
	made, err := klivev1.NewStreamServiceClient(s.Dial(t)).CreateStream(t.Context(), &klivev1.CreateStreamRequest{StreamId: "made", Stream: &klivev1.Stream{DisplayName: "Made by the API"}})
	require.NoError(t, err)
	require.NotEmpty(t, made.GetToken())
	insistent(t, s, "lobby", token)
	insistent(t, s, "made", made.GetToken())
	s.AwaitPlayable(t, "lobby")
	s.AwaitPlayable(t, "made")

	ledger := new(hlscheck.Ledger)
	var lookers []*onlooker
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for _, id := range []string{"lobby", "made"} {
		video, audio := rows(t, s, id)
		for _, address := range []string{video, audio} {
			o := &onlooker{follower: &hlscheck.Follower{URL: address, Ledger: ledger, Client: &http.Client{Transport: new(http.Transport), Timeout: 15 * time.Second}}}
			require.NoError(t, o.step(ctx))
			lookers = append(lookers, o)
			wait.Go(func() { o.run(ctx) })
		}
	}
	defer wait.Wait()
	defer cancel()

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	for round := range 10 {
		moment := time.Duration(500+random.IntN(2500)) * time.Millisecond
		pause(t.Context(), moment)
		s.Kill()
		before := finished(lookers)
		require.NoError(t, s.Relaunch(t.Context()))
		checkCatalog(t, s)
		checkKept(t, lookers, before, fmt.Sprintf("after crash %d, %v into the run", round, moment))
		if t.Failed() {
			return
		}
	}
	harness.Wait(t, 20*time.Second, "the streams are on air after the last crash", func() (bool, error) {
		return s.Stream(t, "lobby").GetBroadcasts()[0].GetReconnectDeadline() == nil && s.Stream(t, "made").GetBroadcasts()[0].GetReconnectDeadline() == nil, nil
	})
	pause(t.Context(), 6*time.Second)
	cancel()
	wait.Wait()
	alive, err := ledger.Verify(t.Context(), http.DefaultClient)
	require.NoError(t, err)
	require.Empty(t, ledger.Changed(), "addresses that held two contents")
	for _, o := range lookers {
		require.Empty(t, o.across.List(), "%s across crashes", o.follower.URL)
		require.Empty(t, o.follower.Findings.List(), o.follower.URL)
		all := o.follower.Last().All()
		t.Logf("%s: %d reloads, %d parts, edge at segment %d, discontinuity number %d", o.follower.URL, o.reloads, o.follower.Parts, all[len(all)-1].Number, all[len(all)-1].Discontinuity)
		require.GreaterOrEqual(t, o.reloads, 20)
	}
	t.Logf("%d addresses were read twice, %d of them are still there", ledger.Len(), alive)
}

// finished are the newest playlists seen.
func finished(lookers []*onlooker) []*hlscheck.Playlist {
	var list []*hlscheck.Playlist
	for _, o := range lookers {
		o.mu.Lock()
		list = append(list, o.follower.Last())
		o.mu.Unlock()
	}
	return list
}

func checkCatalog(t *testing.T, s *harness.Server) {
	t.Helper()
	made := s.Stream(t, "made")
	require.Equal(t, "Made by the API", made.GetDisplayName())
	require.Empty(t, made.GetToken())
	require.Equal(t, "lobby", s.Stream(t, "lobby").GetId())
}

// checkKept checks that every finished segment that was listed before a crash is listed after it, unless the window has
// passed over it, and can be read.
func checkKept(t *testing.T, lookers []*onlooker, before []*hlscheck.Playlist, when string) {
	t.Helper()
	for i, o := range lookers {
		var after *hlscheck.Playlist
		harness.Wait(t, 10*time.Second, "the playlist is served "+when, func() (bool, error) {
			status, body, err := harness.Get(t.Context(), o.follower.URL)
			if err != nil || status != http.StatusOK {
				return false, nil //nolint:nilerr // not yet
			}
			after, err = hlscheck.ParseMedia(body)
			return true, err
		})
		kept := make(map[string]bool)
		for _, seg := range after.Segments {
			kept[seg.URI] = true
		}
		lost := slices.DeleteFunc(slices.Clone(before[i].Segments), func(seg hlscheck.Segment) bool { return kept[seg.URI] || seg.Number < after.MediaSequence })
		require.Empty(t, lost, "segments of %s that are lost %s", o.follower.URL, when)
		for _, seg := range slices.Backward(after.Segments) {
			if seg.Gap {
				continue
			}
			status, _, err := harness.Get(t.Context(), against(t, o.follower.URL, seg.URI))
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, status, "the newest finished segment, %s, %s", seg.URI, when)
			break
		}
	}
}

package authority_test

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
)

func TestAWrongTokenIsAnsweredFromMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newBackend(t, nil), nil)
		wrong := func(calls int) {
			t.Helper()
			_, err := b.try(t, withToken("wrong"))
			require.Equal(t, fault.BadToken, fault.ReasonOf(err))
			require.Equal(t, "LIVE_STREAM_INVALID_TOKEN", fault.From(err).Metadata["code"])
			require.Equal(t, calls, b.calls(authenticate))
		}
		// It is asked for again after 30 s, 60 s, and then every 120 s.
		calls := 0
		for _, hold := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 2 * time.Minute} {
			calls++
			wrong(calls)
			for range 20 {
				wrong(calls)
			}
			time.Sleep(hold - time.Second)
			wrong(calls)
			time.Sleep(time.Second)
		}
		calls++
		wrong(calls)
		time.Sleep(10 * time.Minute) // it counts no more
		calls++
		wrong(calls)
		time.Sleep(31 * time.Second)

		// When it is right at last, that is found out.
		require.NoError(t, b.backend.AddEntry(liveEntry(entry, func(e *kalturatest.Entry) { e.Token = "wrong" })))
		_, err := b.try(t, withToken("wrong"))
		require.NoError(t, err)
	})
}

func TestStrangersDoNotHoldUpTheGoodOne(t *testing.T) {
	for name, onAir := range map[string]bool{"before its first broadcast": false, "on air": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, newBackend(t, nil), nil)
				b.inject(t, kalturatest.Fault{Kind: kalturatest.Slow, Delay: 20 * time.Millisecond}) // as far away as backends are
				if onAir {
					_, err := b.try(t, request(nil))
					require.NoError(t, err)
					b.live.begin(primary)
				}
				var strangers sync.WaitGroup
				for i := range 300 {
					strangers.Go(func() {
						_, err := b.Authenticate(t.Context(), request(func(r *ingest.Request) {
							r.Token = fmt.Sprint("guess", i)
							if i%3 > 0 { // the rest comes from where the good one is
								r.Remote = address(i % 50)
							}
						}))
						require.Contains(t, []fault.Reason{fault.BadToken, fault.TooManyAttempts, fault.BackendUnavailable}, fault.ReasonOf(err))
					})
				}
				synctest.Wait()
				began := time.Now()
				_, err := b.try(t, request(func(r *ingest.Request) { r.Remote = elsewhere }))
				require.NoError(t, err)
				require.Less(t, time.Since(began), 8*time.Second)
				if onAir {
					require.Zero(t, time.Since(began))
				}
				_, err = b.try(t, request(nil))
				require.NoError(t, err, "nor does who guesses from the same address")
				strangers.Wait()

				// Now everybody there is known for guessing. The good one returns for its
				// next broadcast, and goes before all of them.
				require.NoError(t, b.book.End(t.Context(), primary, time.Now()))
				for i := range 300 {
					strangers.Go(func() {
						_, err := b.Authenticate(t.Context(), withToken(fmt.Sprint("another", i)))
						require.Error(t, err)
					})
				}
				synctest.Wait()
				began = time.Now()
				_, err = b.try(t, request(nil))
				require.NoError(t, err)
				require.Less(t, time.Since(began), 200*time.Millisecond)
				strangers.Wait()
			})
		})
	}
}

func TestAFloodReachesTheBackendAsATrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newBackend(t, nil), nil)
		b.inject(t, kalturatest.Fault{Kind: kalturatest.Slow, Delay: 20 * time.Millisecond})
		began := time.Now()
		var flood sync.WaitGroup
		for i := range 3000 { // from one address, a new token every 10 ms
			flood.Go(func() {
				_, err := b.Authenticate(t.Context(), withToken(fmt.Sprint("guess", i)))
				require.Error(t, err)
			})
			time.Sleep(10 * time.Millisecond)
		}
		flood.Wait()
		// 64 at once, and two each second.
		require.LessOrEqual(t, b.calls(authenticate), 64+2*int(time.Since(began).Seconds())+2)
		began = time.Now()
		_, err := b.try(t, request(func(r *ingest.Request) { r.Remote = elsewhere }))
		require.NoError(t, err)
		require.Less(t, time.Since(began), time.Second)
	})
}

func TestAHouseFullOfEncodersStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const encoders = 40
		backend := newBackend(t, func(o *kalturatest.Options) {
			o.Partners[1].MaxPassthrough = 1000
			for i := range encoders {
				o.Entries = append(o.Entries, liveEntry(fmt.Sprintf("0_house%03d", i), nil))
			}
		})
		b := newBench(t, backend, nil)
		b.inject(t, kalturatest.Fault{Kind: kalturatest.Slow, Delay: 50 * time.Millisecond})
		began := time.Now()
		var all sync.WaitGroup
		var crowded atomic.Bool
		for i := range encoders * 3 {
			all.Go(func() {
				for { // as encoders do
					_, err := b.Authenticate(t.Context(), request(func(r *ingest.Request) {
						r.Stream, r.Index = fmt.Sprintf("0_house%03d", i/3), i%3+1
					}))
					if err == nil {
						return
					}
					require.Equal(t, fault.TooManyAttempts, fault.ReasonOf(err))
					require.ErrorContains(t, err, "many encoders wait to be let in", "nothing is wrong with their tokens")
					crowded.Store(true)
					time.Sleep(2 * time.Second)
				}
			})
		}
		all.Wait()
		require.True(t, crowded.Load())
		require.Less(t, time.Since(began), 10*time.Second)
		require.Equal(t, encoders, b.calls(authenticate))
	})
}

func TestUnknownEntriesCountByAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newBackend(t, nil), nil)
		_, err := b.try(t, request(nil))
		require.NoError(t, err)
		b.live.begin(primary)
		ask := func(i int, from netip.AddrPort) fault.Reason {
			_, err := b.try(t, request(func(r *ingest.Request) { r.Stream, r.Remote = fmt.Sprintf("0_scan%04d", i), from }))
			return fault.ReasonOf(err)
		}
		for i := range 10 {
			require.Equal(t, fault.StreamNotFound, ask(i, here))
		}
		require.Equal(t, fault.StreamNotFound, ask(3, here), "from memory")
		_, err = b.try(t, request(func(r *ingest.Request) { r.Stream, r.Remote = "0_scan0099", here }))
		require.ErrorContains(t, err, "wrong tokens or unknown entries")
		before := b.calls(authenticate)
		for i := range 50 {
			require.Equal(t, fault.TooManyAttempts, ask(100+i, here))
		}
		require.Equal(t, before, b.calls(authenticate))
		require.Equal(t, fault.StreamNotFound, ask(7, elsewhere))
		_, err = b.try(t, request(func(r *ingest.Request) { r.ServerIndex = 1 }))
		require.NoError(t, err, "an entry that was here before is not among them")
		time.Sleep(2 * time.Minute)
		require.Equal(t, fault.StreamNotFound, ask(500, here))
	})
}

func TestASlash64IsOneSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newBackend(t, nil), nil)
		for i := range 20 {
			_, err := b.try(t, request(func(r *ingest.Request) {
				r.Token, r.Remote = "wrong", netip.MustParseAddrPort(fmt.Sprintf("[2001:db8::%x]:5000", i+1))
			}))
			require.Equal(t, fault.BadToken, fault.ReasonOf(err))
		}
		require.Equal(t, 1, b.calls(authenticate))
		_, err := b.try(t, request(func(r *ingest.Request) { r.Token, r.Remote = "wrong", netip.AddrPort{} }))
		require.Equal(t, fault.BadToken, fault.ReasonOf(err))
		require.Equal(t, 2, b.calls(authenticate))
	})
}

func TestSlowStrangersTimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newBackend(t, nil), nil)
		b.inject(t, kalturatest.Fault{Kind: kalturatest.Slow, Delay: time.Hour})
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				began := time.Now()
				_, err := b.Authenticate(t.Context(), withToken(fmt.Sprint("guess", i)))
				require.Equal(t, fault.BackendUnavailable, fault.ReasonOf(err))
				require.Less(t, time.Since(began), 13*time.Second)
			})
		}
		all.Wait()
	})
}

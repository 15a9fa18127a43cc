package authority_test

import (
	"context"
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
	"github.com/klive-media/klive/internal/kaltura/authority"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/kaltura/ks"
)

const (
	passphrase = "mySrtPassphrase1" // of every entry of the fixture
	plainEntry = "0_plain000"
)

// withPlain adds an entry without a passphrase.
func withPlain(o *kalturatest.Options) {
	o.Entries = append(o.Entries, liveEntry(plainEntry, func(e *kalturatest.Entry) { e.SRTPassphrase = "" }))
}

// caller is a good publisher by SRT. Its partner is not in the address.
func caller(change func(*ingest.Request)) ingest.Request {
	return request(func(r *ingest.Request) {
		r.Protocol, r.Partner = "srt", 0
		if change != nil {
			change(r)
		}
	})
}

func plainCaller(r *ingest.Request) { r.Stream = plainEntry }

// handshake is how long the door waits.
const handshake = 2 * time.Second

// ask asks as the door does.
func (b *bench) ask(t *testing.T, r ingest.Request) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), handshake)
	defer cancel()
	return b.Passphrase(ctx, r)
}

// requirePass asks and expects a passphrase.
func (b *bench) requirePass(t *testing.T, want string, r ingest.Request) {
	t.Helper()
	got, err := b.ask(t, r)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// inSynctest runs a test of an authority in virtual time, and the authority.
func inSynctest(t *testing.T, backend func(*kalturatest.Options), test func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newBackend(t, backend), nil)
		defer b.run(t)()
		test(t, b)
	})
}

func TestPassphraseOfAnEntry(t *testing.T) {
	inSynctest(t, withPlain, func(t *testing.T, b *bench) {
		b.requirePass(t, passphrase, caller(nil))
		b.requirePass(t, "", caller(plainCaller))
		require.Equal(t, 2, b.calls(getEntry))
		for range 10 {
			b.requirePass(t, passphrase, caller(func(r *ingest.Request) { r.Token, r.Remote, r.Partner = "another", elsewhere, 103 }))
			b.requirePass(t, "", caller(plainCaller))
		}
		require.Equal(t, 2, b.calls(getEntry), "from memory, for everybody")

		// The partner is known by it, so that one call is enough to let in.
		_, err := b.try(t, caller(nil))
		require.NoError(t, err)
		require.Equal(t, 2, b.calls(getEntry))
		require.Equal(t, 1, b.calls(authenticate))
	})
}

func TestAPartnerPublishesItsOwnEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newBackend(t, nil), func(o *authority.Options, c *client.Options) {
			o.SaaS, o.Partner, c.Partner = false, partner, partner
		})
		b.requirePass(t, passphrase, caller(nil))
		_, err := b.ask(t, caller(func(r *ingest.Request) { r.Partner = 103 }))
		require.Equal(t, fault.WrongPartner, fault.ReasonOf(err))
		require.Equal(t, 1, b.calls(getEntry))
	})
}

func TestTheFirstCallerIsToldToTryAgainAndTheNextIsAnswered(t *testing.T) {
	inSynctest(t, nil, func(t *testing.T, b *bench) {
		b.inject(t, kalturatest.Fault{Kind: kalturatest.Slow, Action: "get", Delay: 3 * time.Second})
		began := time.Now()
		_, err := b.ask(t, caller(nil))
		require.Equal(t, handshake, time.Since(began))
		require.Equal(t, fault.BackendUnavailable, fault.ReasonOf(err))
		require.Equal(t, fault.Unavailable, fault.From(err).Code)
		require.ErrorContains(t, err, "try again in a moment")
		require.NotContains(t, err.Error(), passphrase)

		time.Sleep(time.Second) // the encoder's pause
		began = time.Now()
		b.requirePass(t, passphrase, caller(nil))
		require.Zero(t, time.Since(began))
		require.Equal(t, 1, b.calls(getEntry))
	})
}

func TestManyCallersOfAnEntryAreOneCall(t *testing.T) {
	inSynctest(t, nil, func(t *testing.T, b *bench) {
		b.inject(t, kalturatest.Fault{Kind: kalturatest.Slow, Action: "get", Delay: time.Second})
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				b.requirePass(t, passphrase, caller(func(r *ingest.Request) {
					r.Index = i%3 + 1
					if i%2 > 0 {
						r.Remote = address(i)
					}
				}))
			})
		}
		all.Wait()
		require.Equal(t, 1, b.calls(getEntry))
	})
}

func TestFewFetchesRunAtOnce(t *testing.T) {
	const entries = 40
	inSynctest(t, func(o *kalturatest.Options) {
		for i := range entries {
			o.Entries = append(o.Entries, liveEntry(fmt.Sprintf("0_house%03d", i), nil))
		}
	}, func(t *testing.T, b *bench) {
		b.inject(t, kalturatest.Fault{Kind: kalturatest.Slow, Action: "get", Delay: 900 * time.Millisecond})
		var all sync.WaitGroup
		var answered, told atomic.Int32
		for i := range entries {
			all.Go(func() {
				got, err := b.ask(t, caller(func(r *ingest.Request) { r.Stream, r.Remote = fmt.Sprintf("0_house%03d", i), address(i%20) }))
				if err == nil && got == passphrase {
					answered.Add(1)
					return
				}
				require.Equal(t, fault.BackendUnavailable, fault.ReasonOf(err))
				told.Add(1)
			})
		}
		all.Wait()
		require.EqualValues(t, 16, answered.Load(), "eight at once, twice while the door waits")
		require.EqualValues(t, entries-16, told.Load())
		time.Sleep(3 * time.Second)
		require.LessOrEqual(t, b.calls(getEntry), entries)
		require.GreaterOrEqual(t, b.calls(getEntry), 24, "it goes on behind them")
	})
}

func TestAPassphraseThatChangedIsTakenUp(t *testing.T) {
	inSynctest(t, nil, func(t *testing.T, b *bench) {
		change := func(text string) {
			t.Helper()
			require.NoError(t, b.backend.AddEntry(liveEntry(entry, func(e *kalturatest.Entry) { e.SRTPassphrase = ks.Secret(text) })))
		}
		b.requirePass(t, passphrase, caller(nil))
		change("the second one")
		time.Sleep(9 * time.Second)
		b.requirePass(t, passphrase, caller(nil))
		require.Equal(t, 1, b.calls(getEntry), "for ten seconds one is as good as new")
		time.Sleep(time.Second)
		b.requirePass(t, passphrase, caller(nil))
		synctest.Wait()
		b.requirePass(t, "the second one", caller(nil)) // fetched behind the caller before
		require.Equal(t, 2, b.calls(getEntry))
		change("the third one")
		time.Sleep(time.Minute)
		b.requirePass(t, "the third one", caller(nil)) // at once
		change("")
		time.Sleep(time.Minute)
		b.requirePass(t, "", caller(nil))
		require.Equal(t, 4, b.calls(getEntry))
	})
}

func TestAPassphraseOutlivesTheBackend(t *testing.T) {
	for name, f := range map[string]kalturatest.Fault{
		"away": {Kind: kalturatest.Down}, "slow": {Kind: kalturatest.Slow, Delay: time.Hour}, "broken": {Kind: kalturatest.Status},
		"confused": {Kind: kalturatest.HTML}, "does not accept this server": {Kind: kalturatest.Code, Code: "SERVICE_FORBIDDEN"},
	} {
		t.Run(name, func(t *testing.T) {
			inSynctest(t, nil, func(t *testing.T, b *bench) {
				b.requirePass(t, passphrase, caller(nil))
				_, err := b.try(t, caller(nil))
				require.NoError(t, err)
				b.live.begin(primary)
				b.inject(t, f)
				for range 10 {
					time.Sleep(20 * time.Minute)
					began := time.Now()
					b.requirePass(t, passphrase, caller(nil))
					require.LessOrEqual(t, time.Since(began), time.Second)
				}
				// Who was never here is not let in without one.
				_, err = b.ask(t, caller(func(r *ingest.Request) { r.Stream = "0_preview1" }))
				require.Contains(t, []fault.Reason{fault.BackendUnavailable, fault.BackendRefused}, fault.ReasonOf(err))

				// And when nobody needs it any more it is forgotten.
				b.live.end(primary)
				time.Sleep(window + 2*time.Minute)
				_, err = b.ask(t, caller(nil))
				require.Contains(t, []fault.Reason{fault.BackendUnavailable, fault.BackendRefused}, fault.ReasonOf(err))
			})
		})
	}
}

func TestAPlainEntryComesBackAfterARestartWithoutTheBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newBackend(t, withPlain), nil)
		for _, r := range []ingest.Request{caller(nil), caller(plainCaller)} {
			_, err := b.ask(t, r)
			require.NoError(t, err)
			_, err = b.try(t, r)
			require.NoError(t, err)
		}
		records, err := b.records.List(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, records)
		for _, r := range records {
			require.NotContains(t, string(r.Value), passphrase)
		}
		b.inject(t, kalturatest.Fault{Kind: kalturatest.Down})
		b.start(t)
		b.requirePass(t, "", caller(plainCaller))
		_, err = b.try(t, caller(plainCaller))
		require.NoError(t, err)
		_, err = b.ask(t, caller(nil)) // its passphrase is kept nowhere
		require.Equal(t, fault.BackendUnavailable, fault.ReasonOf(err))
		time.Sleep(window)
		_, err = b.ask(t, caller(plainCaller))
		require.Equal(t, fault.BackendUnavailable, fault.ReasonOf(err), "its time is over")
		b.backend.ClearFaults(0)

		// An entry that was given a passphrase meanwhile is not plain any more.
		b.start(t)
		time.Sleep(time.Minute)
		_, err = b.ask(t, caller(plainCaller))
		require.NoError(t, err)
		_, err = b.try(t, caller(plainCaller))
		require.NoError(t, err)
		require.NoError(t, b.backend.AddEntry(liveEntry(plainEntry, nil)))
		time.Sleep(time.Minute)
		b.requirePass(t, passphrase, caller(plainCaller))
		synctest.Wait()
		b.inject(t, kalturatest.Fault{Kind: kalturatest.Down})
		b.start(t)
		_, err = b.ask(t, caller(plainCaller))
		require.Equal(t, fault.BackendUnavailable, fault.ReasonOf(err))
	})
}

func TestWhatIsWrongIsSaidInTheHandshake(t *testing.T) {
	inSynctest(t, func(o *kalturatest.Options) {
		o.Entries = append(o.Entries, liveEntry("0_short000", func(e *kalturatest.Entry) { e.SRTPassphrase = "short" }))
	}, func(t *testing.T, b *bench) {
		for name, c := range map[string]struct {
			change func(*ingest.Request)
			want   fault.Reason
		}{
			"unknown entry":    {func(r *ingest.Request) { r.Stream = "0_unknown1" }, fault.StreamNotFound},
			"no entry id":      {func(r *ingest.Request) { r.Stream = "lobby" }, fault.BadStreamName},
			"no token":         {func(r *ingest.Request) { r.Token = "" }, fault.MissingArgument},
			"strange token":    {func(r *ingest.Request) { r.Token = "a\tb" }, fault.BadToken},
			"unusable":         {func(r *ingest.Request) { r.Stream = "0_short000" }, fault.BackendRefused},
			"unusable, again":  {func(r *ingest.Request) { r.Stream = "0_short000" }, fault.BackendRefused},
			"unknown entry 2a": {func(r *ingest.Request) { r.Stream, r.Partner = "0_unknown2", 103 }, fault.StreamNotFound},
		} {
			_, err := b.ask(t, caller(c.change))
			require.Equal(t, c.want, fault.ReasonOf(err), "%s: %v", name, err)
			require.NotContains(t, err.Error(), "short\"")
		}
		// A refusal of the token is known before the next handshake.
		_, err := b.try(t, caller(func(r *ingest.Request) { r.Token = "wrong" }))
		require.Equal(t, fault.BadToken, fault.ReasonOf(err))
		_, err = b.ask(t, caller(func(r *ingest.Request) { r.Token = "wrong" }))
		require.Equal(t, fault.BadToken, fault.ReasonOf(err))
		b.requirePass(t, passphrase, caller(nil))
	})
}

func TestAnUnknownEntryIsAskedForOnce(t *testing.T) {
	inSynctest(t, nil, func(t *testing.T, b *bench) {
		unknown := caller(func(r *ingest.Request) { r.Stream = "0_unknown1" })
		for range 20 {
			_, err := b.ask(t, unknown)
			require.Equal(t, fault.StreamNotFound, fault.ReasonOf(err))
			_, err = b.try(t, unknown)
			require.Equal(t, fault.StreamNotFound, fault.ReasonOf(err), "the authority knows, too")
		}
		require.Equal(t, 1, b.calls(getEntry))
		require.Zero(t, b.calls(authenticate))
		require.NoError(t, b.backend.AddEntry(liveEntry("0_unknown1", nil)))
		time.Sleep(31 * time.Second)
		b.requirePass(t, passphrase, unknown)
	})
}

func TestAnEntryThatIsGoneHasNoPassphrase(t *testing.T) {
	inSynctest(t, nil, func(t *testing.T, b *bench) {
		b.requirePass(t, passphrase, caller(nil))
		b.inject(t, kalturatest.Fault{Kind: kalturatest.Code, Action: "get", Code: "ENTRY_ID_NOT_FOUND", Times: 1})
		time.Sleep(time.Minute)
		for i := range 2 {
			_, err := b.ask(t, caller(func(r *ingest.Request) { r.Remote = address(i) }))
			require.Equal(t, fault.StreamNotFound, fault.ReasonOf(err))
		}
		require.Equal(t, 2, b.calls(getEntry))
		time.Sleep(31 * time.Second)
		b.requirePass(t, passphrase, caller(nil))
	})
}

func TestWhoWalksEntryIDsIsStopped(t *testing.T) {
	inSynctest(t, func(o *kalturatest.Options) {
		for i := range 200 {
			o.Entries = append(o.Entries, liveEntry(fmt.Sprintf("0_known%03d", i), nil))
		}
	}, func(t *testing.T, b *bench) {
		walk := func(format string, n int, from netip.AddrPort) (refused int) {
			for i := range n {
				_, err := b.ask(t, caller(func(r *ingest.Request) { r.Stream, r.Token, r.Remote = fmt.Sprintf(format, i), "guess", from }))
				if fault.ReasonOf(err) == fault.TooManyAttempts {
					refused++
				}
			}
			return refused
		}
		require.Equal(t, 90, walk("0_never%03d", 100, here))
		require.Equal(t, 10, b.calls(getEntry), "entries that do not exist: ten a minute")
		b.requirePass(t, passphrase, caller(func(r *ingest.Request) { r.Remote = elsewhere }))
		b.requirePass(t, passphrase, caller(nil)) // from memory

		// Of entries that exist he reads as many as his budget has.
		before, began := b.calls(getEntry), time.Now()
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				_, _ = b.ask(t, caller(func(r *ingest.Request) {
					r.Stream, r.Token, r.Remote = fmt.Sprintf("0_known%03d", i), "guess", address(7)
				}))
			})
		}
		all.Wait()
		time.Sleep(10 * time.Second)
		require.LessOrEqual(t, b.calls(getEntry)-before, 64+2*int(time.Since(began).Seconds())+2)
	})
}

func TestAPassphraseAndATokenHaveOnePrice(t *testing.T) {
	const encoders = 60
	inSynctest(t, func(o *kalturatest.Options) {
		o.Partners[1].MaxPassthrough = 1000
		for i := range encoders {
			o.Entries = append(o.Entries, liveEntry(fmt.Sprintf("0_house%03d", i), nil))
		}
	}, func(t *testing.T, b *bench) {
		b.inject(t, kalturatest.Fault{Kind: kalturatest.Slow, Delay: 5 * time.Millisecond})
		var all sync.WaitGroup
		for i := range encoders {
			all.Go(func() {
				r := caller(func(r *ingest.Request) { r.Stream = fmt.Sprintf("0_house%03d", i) })
				b.requirePass(t, passphrase, r)
				_, err := b.try(t, r)
				require.NoError(t, err)
			})
		}
		all.Wait()
	})
}

func TestAKnownPublisherWaitsForNoStranger(t *testing.T) {
	inSynctest(t, nil, func(t *testing.T, b *bench) {
		_, err := b.try(t, request(nil)) // by RTMP
		require.NoError(t, err)
		b.inject(t, kalturatest.Fault{Kind: kalturatest.Slow, Delay: time.Second})
		var strangers sync.WaitGroup
		for i := range 100 {
			strangers.Go(func() {
				_, err := b.ask(t, caller(func(r *ingest.Request) { r.Stream, r.Token = fmt.Sprintf("0_never%03d", i), "guess" }))
				require.Error(t, err)
			})
		}
		synctest.Wait()
		began := time.Now()
		b.requirePass(t, passphrase, caller(nil))
		require.Equal(t, time.Second, time.Since(began))
		strangers.Wait()
	})
}

func TestACallerWhoHangsUpLearnsNothing(t *testing.T) {
	inSynctest(t, nil, func(t *testing.T, b *bench) {
		b.inject(t, kalturatest.Fault{Kind: kalturatest.Slow, Delay: time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		_, err := b.Passphrase(ctx, caller(nil))
		require.Equal(t, fault.ConnectionLost, fault.ReasonOf(err))
		time.Sleep(time.Second)
		b.requirePass(t, passphrase, caller(nil))
		require.Equal(t, 1, b.calls(getEntry))
	})
}

func TestFetchesEndWithTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newBackend(t, nil), nil)
		stop := b.run(t)
		b.inject(t, kalturatest.Fault{Kind: kalturatest.Slow, Delay: time.Hour})
		var waiting sync.WaitGroup
		waiting.Go(func() {
			_, err := b.ask(t, caller(nil))
			require.Equal(t, fault.BackendUnavailable, fault.ReasonOf(err))
		})
		synctest.Wait()
		began := time.Now()
		stop()
		waiting.Wait()
		require.Zero(t, time.Since(began))
		_, err := b.ask(t, caller(nil))
		require.Equal(t, fault.ServerDraining, fault.ReasonOf(err))
	})
}

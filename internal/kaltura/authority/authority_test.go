package authority_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/kaltura/authority"
	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/stream"
)

var primary = book.Key{Entry: entry}

func TestLetsInAndRegisters(t *testing.T) {
	for name, c := range map[string]struct {
		ecdn    bool
		change  func(*ingest.Request)
		gets    int
		partner int
	}{
		"saas":                         {},
		"saas, partner discovered":     {change: func(r *ingest.Request) { r.Partner = 0 }, gets: 1},
		"saas, backend's own partner":  {change: func(r *ingest.Request) { r.Partner = -5 }, gets: 1},
		"ecdn":                         {ecdn: true},
		"ecdn, no partner":             {ecdn: true, change: func(r *ingest.Request) { r.Partner = 0 }},
		"backup":                       {change: func(r *ingest.Request) { r.ServerIndex = 1 }},
		"the encrypted SRT passphrase": {change: func(r *ingest.Request) { r.Token = "DTBXaGMrEvtHaJ0e9XKRMT9ownkb_G-dq8dm2HHsT60" }},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, newBackend(t, nil), func(o *authority.Options, c2 *client.Options) {
				if c.ecdn {
					o.SaaS, o.Partner, c2.Partner = false, partner, partner
				}
			})
			r := request(c.change)
			g, err := b.try(t, r)
			require.NoError(t, err)
			require.Equal(t, stream.Grant{Stream: entry, Index: 1, ServerIndex: r.ServerIndex, Partner: partner, Rendition: "32", Policy: egress.Policy{SegmentDuration: 6 * time.Second}}, g)
			row, ok := b.backend.State().Registration(entry, fmt.Sprint(r.ServerIndex))
			require.True(t, ok)
			require.Equal(t, kalturatest.StatusAuthenticated, row.Status)
			require.Equal(t, 1, b.calls(authenticate))
			require.Equal(t, c.gets, b.calls(getEntry))

			kept, ok := b.book.Get(book.Key{Entry: entry, Index: r.ServerIndex})
			require.True(t, ok)
			require.Equal(t, partner, kept.Partner)
			require.EqualValues(t, "Town hall", kept.Snapshot.Name)
			require.Len(t, kept.Profile.Flavors, 3)
		})
	}
}

func TestRefusesWithoutACall(t *testing.T) {
	b := newBench(t, newBackend(t, nil), func(o *authority.Options, c *client.Options) { o.SaaS, o.Partner, c.Partner = false, partner, partner })
	for name, c := range map[string]struct {
		change func(*ingest.Request)
		want   fault.Reason
		says   string
	}{
		"no token":        {func(r *ingest.Request) { r.Token = "" }, fault.MissingArgument, "t=TOKEN"},
		"no entry":        {func(r *ingest.Request) { r.Stream = "lobby" }, fault.BadStreamName, "looks like 0_rkij47dr"},
		"other partner":   {func(r *ingest.Request) { r.Partner = 103 }, fault.WrongPartner, "does not belong to partner 103"},
		"long token":      {func(r *ingest.Request) { r.Token = strings.Repeat("x", 513) }, fault.BadToken, "too long"},
		"token not UTF-8": {func(r *ingest.Request) { r.Token = "\xff\xfe" }, fault.BadToken, "characters"},
		"token with NUL":  {func(r *ingest.Request) { r.Token = "a\x00b" }, fault.BadToken, "characters"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.try(t, request(c.change))
			require.Equal(t, c.want, fault.ReasonOf(err))
			require.ErrorContains(t, err, c.says)
		})
	}
	require.Empty(t, b.backend.State().Calls)
}

func TestWrongPartner(t *testing.T) {
	b := newBench(t, newBackend(t, nil), nil)
	_, err := b.try(t, request(func(r *ingest.Request) { r.Partner = 103 }))
	require.Equal(t, fault.StreamNotFound, fault.ReasonOf(err), "a partner does not see the entries of another")
	require.ErrorContains(t, err, "of partner 103")
	_, err = b.try(t, request(nil))
	require.NoError(t, err)
	before := b.calls(authenticate)
	_, err = b.try(t, request(func(r *ingest.Request) { r.Partner = 103 }))
	require.Equal(t, fault.WrongPartner, fault.ReasonOf(err))
	require.Equal(t, before, b.calls(authenticate))
}

func TestFurtherIngestsMakeNoCall(t *testing.T) {
	b := newBench(t, newBackend(t, nil), nil)
	// All three of an encoder connect at once.
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			g, err := b.Authenticate(t.Context(), request(func(r *ingest.Request) { r.Index = i + 1 }))
			require.NoError(t, err)
			require.Equal(t, []string{"32", "36", "37"}[i], g.Rendition)
		})
	}
	wg.Wait()
	require.Equal(t, 1, b.calls(authenticate))

	_, err := b.try(t, request(func(r *ingest.Request) { r.Index = 4 }))
	require.Equal(t, fault.NotInProfile, fault.ReasonOf(err))
	require.ErrorContains(t, err, "publish as 0_rkij47dr_1 (Source), 0_rkij47dr_2 (Ingest_2), 0_rkij47dr_3 (Ingest_3)")
	require.Equal(t, 1, b.calls(authenticate))

	require.Equal(t, authority.Stats{FromBook: 3, Asked: 1}, b.Stats())

	// The other server index is another place, and asks once.
	for range 2 {
		_, err = b.try(t, request(func(r *ingest.Request) { r.ServerIndex = 1 }))
		require.NoError(t, err)
	}
	require.Equal(t, 2, b.calls(authenticate))
}

func TestAnUnknownIngestFirst(t *testing.T) {
	b := newBench(t, newBackend(t, nil), nil)
	for range 3 {
		_, err := b.try(t, request(func(r *ingest.Request) { r.Index = 9 }))
		require.Equal(t, fault.NotInProfile, fault.ReasonOf(err))
	}
	_, err := b.try(t, request(nil))
	require.NoError(t, err)
	require.Equal(t, 1, b.calls(authenticate))
}

func TestTheGrantLastsAsTheBroadcast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newBackend(t, nil), nil)
		stop := b.run(t)
		defer stop()
		in := func(calls int) {
			t.Helper()
			_, err := b.try(t, request(nil))
			require.NoError(t, err)
			require.Equal(t, calls, b.calls(authenticate))
		}
		in(1)
		time.Sleep(window - time.Second)
		in(1) // the reconnect window of a publisher who never went on air
		time.Sleep(2 * time.Second)
		in(2)
		b.live.begin(primary)
		time.Sleep(3 * time.Hour)
		in(2) // it is on air, or waits for a reconnect
		b.live.end(primary)
		in(3) // its broadcast is over: this is a new one
		time.Sleep(time.Second)
		in(3)
		b.live.connect(primary)
		time.Sleep(time.Hour)
		in(3) // connected, and nothing announced yet
		b.live.hangUp()
		time.Sleep(window - 30*time.Second)
		in(3) // seen less than the window ago
		require.NoError(t, b.book.End(t.Context(), primary, time.Now()))
		in(4)
	})
}

func TestAnotherTokenOfAnEntryOnAir(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newBackend(t, nil), nil)
		_, err := b.try(t, request(nil))
		require.NoError(t, err)
		b.live.begin(primary)
		playable(t, b)

		// The token was changed in the backend; the encoder that is on air stays.
		require.NoError(t, b.backend.AddEntry(liveEntry(entry, func(e *kalturatest.Entry) { e.Token = "newtoken" })))
		for range 2 {
			_, err = b.try(t, withToken("newtoken"))
			require.NoError(t, err)
		}
		require.Equal(t, 2, b.calls(authenticate))
		_, err = b.try(t, request(nil))
		require.NoError(t, err, "who was let in for this broadcast may return")
		require.Equal(t, 2, b.calls(authenticate))

		// So is the encrypted SRT passphrase a right token.
		_, err = b.try(t, withToken("DTBXaGMrEvtHaJ0e9XKRMT9ownkb_G-dq8dm2HHsT60"))
		require.NoError(t, err)
		for range 5 {
			_, err = b.try(t, withToken("wrong"))
			require.Equal(t, fault.BadToken, fault.ReasonOf(err))
		}
		require.Equal(t, 4, b.calls(authenticate))
		row, _ := b.backend.State().Registration(entry, "0")
		require.Equal(t, kalturatest.StatusPlayable, row.Status, "no question took the entry off air")

		g, _ := b.book.Get(primary)
		require.Len(t, g.Tokens, 3)
	})
}

// playable registers the entry as the lifecycle would.
func playable(t *testing.T, b *bench) {
	t.Helper()
	c, err := client.New(b.client)
	require.NoError(t, err)
	_, err = c.Register(t.Context(), partner, client.Place{Entry: entry, Host: host}, "kLive", client.StatusPlayable, true)
	require.NoError(t, err)
}

func TestReturnsWhileTheBackendIsAway(t *testing.T) {
	for name, f := range map[string]kalturatest.Fault{
		"down": {Kind: kalturatest.Down}, "slow": {Kind: kalturatest.Slow, Delay: time.Hour}, "html": {Kind: kalturatest.HTML},
		"empty": {Kind: kalturatest.Empty}, "broken": {Kind: kalturatest.Status, Status: 502}, "lost": {Kind: kalturatest.Lost},
		"forbids": {Kind: kalturatest.Code, Code: "SERVICE_FORBIDDEN"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, newBackend(t, nil), nil)
				_, err := b.try(t, request(nil))
				require.NoError(t, err)
				stop := b.run(t)
				b.live.begin(primary)
				time.Sleep(time.Hour)
				b.inject(t, f)
				began := time.Now()
				_, err = b.try(t, request(nil))
				require.NoError(t, err)
				require.Zero(t, time.Since(began))

				// The server is killed, and is back with nothing on air.
				stop()
				b.start(t)
				time.Sleep(window / 2)
				g, err := b.try(t, request(func(r *ingest.Request) { r.Index = 2 }))
				require.NoError(t, err)
				require.Equal(t, "36", g.Rendition, "the profile is remembered")
				require.Equal(t, 1, b.calls(authenticate))
				time.Sleep(window)
				_, err = b.try(t, request(nil))
				want := fault.BackendUnavailable
				if f.Kind == kalturatest.Code {
					want = fault.BackendRefused
				}
				require.Equal(t, want, fault.ReasonOf(err))
			})
		})
	}
}

func TestANewBroadcastHasToWaitForTheBackend(t *testing.T) {
	for name, f := range map[string]kalturatest.Fault{
		"down": {Kind: kalturatest.Down}, "slow": {Kind: kalturatest.Slow, Delay: time.Minute}, "html": {Kind: kalturatest.HTML},
		"empty": {Kind: kalturatest.Empty}, "broken": {Kind: kalturatest.Status, Status: 502},
		"its own error": {Kind: kalturatest.Code, Code: "INTERNAL_SERVERL_ERROR"}, "a lock": {Kind: kalturatest.Code, Code: "LOCK_TIMED_OUT"},
		"too many calls": {Kind: kalturatest.Code, Code: "ACTION_BLOCKED"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, newBackend(t, nil), nil)
				b.inject(t, f)
				began := time.Now()
				for range 20 {
					_, err := b.try(t, request(nil))
					require.Equal(t, fault.BackendUnavailable, fault.ReasonOf(err))
					require.ErrorContains(t, err, "try")
					require.NotContains(t, err.Error(), token)
				}
				require.LessOrEqual(t, time.Since(began), 10*time.Second)
				b.backend.ClearFaults(0)
				time.Sleep(40 * time.Second) // the client leaves a backend alone that has been away
				_, err := b.try(t, request(nil))
				require.NoError(t, err)
			})
		})
	}
}

func TestALostAnswerIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newBackend(t, nil), nil)
		b.inject(t, kalturatest.Fault{Kind: kalturatest.Lost, Times: 1})
		_, err := b.try(t, request(nil))
		require.NoError(t, err)
		b.backend.RevokeSessions()
		_, err = b.try(t, request(func(r *ingest.Request) { r.ServerIndex = 1 }))
		require.NoError(t, err, "a revoked session is renewed")
	})
}

func TestALostProfileHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newBackend(t, nil), nil)
		b.inject(t, kalturatest.Fault{Kind: kalturatest.Slow, Service: "flavorParams", Delay: time.Minute})
		b.inject(t, kalturatest.Fault{Kind: kalturatest.Slow, Service: "multirequest", Delay: time.Minute})
		began := time.Now()
		g, err := b.try(t, request(func(r *ingest.Request) { r.Index = 9 }))
		require.NoError(t, err, "nothing says that there is no ingest 9")
		require.Equal(t, "9", g.Rendition)
		require.Less(t, time.Since(began), 5*time.Second)
		g, err = b.try(t, request(func(r *ingest.Request) { r.Index = 1001 }))
		require.NoError(t, err)
		require.Equal(t, "101", g.Rendition)

		b.backend.ClearFaults(0)
		stop := b.run(t)
		defer stop()
		time.Sleep(2 * time.Minute)
		_, err = b.try(t, request(func(r *ingest.Request) { r.Index = 9 }))
		require.Equal(t, fault.NotInProfile, fault.ReasonOf(err), "it was loaded later")

		p, err := b.Profile(t.Context(), partner, "0_preview1")
		require.NoError(t, err)
		require.Len(t, p.Flavors, 3)
		_, err = b.Profile(t.Context(), partner, "0_nosuch00")
		require.Error(t, err)
	})
}

func TestAStoreThatFails(t *testing.T) {
	b := newBench(t, newBackend(t, nil), nil)
	b.records.Fail(errors.New("disk full"))
	for i := range 3 {
		_, err := b.try(t, request(nil))
		require.Equal(t, fault.StoreUnavailable, fault.ReasonOf(err))
		require.Equal(t, i+1, b.calls(authenticate), "that is not the backend's answer, and not remembered")
	}
	b.records.Fail(nil)
	_, err := b.try(t, request(nil))
	require.NoError(t, err)
	b.live.begin(primary)
	b.records.Fail(errors.New("disk full"))
	_, err = b.try(t, request(nil))
	require.NoError(t, err, "who has a grant needs nothing written")
}

func TestPushPublishIsToldOncePerBroadcast(t *testing.T) {
	b := newBench(t, newBackend(t, func(o *kalturatest.Options) { o.Entries[0].PushPublish = true }), nil)
	for range 3 {
		_, err := b.try(t, request(nil))
		require.NoError(t, err)
	}
	require.Equal(t, 1, b.journal.count(stream.PushUnsupported))
	require.NoError(t, b.book.End(t.Context(), primary, time.Now()))
	_, err := b.try(t, request(nil))
	require.NoError(t, err)
	require.Equal(t, 2, b.journal.count(stream.PushUnsupported))
}

func TestOnAirInAnotherEnvironment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := newBackend(t, func(o *kalturatest.Options) {
			o.Nodes = append(o.Nodes, kalturatest.Node{HostName: "ms2.example.com", Status: kalturatest.NodeActive, Environment: "a"},
				kalturatest.Node{HostName: "ms3.example.com", Status: kalturatest.NodeActive, Environment: "b"})
		})
		b := newBench(t, backend, nil)
		c, err := client.New(b.client)
		require.NoError(t, err)
		for other, want := range map[string]fault.Reason{"ms2.example.com": "", "ms3.example.com": fault.OnAirElsewhere} {
			_, err = c.Register(t.Context(), partner, client.Place{Entry: entry, Host: other}, "kLive", client.StatusPlayable, true)
			require.NoError(t, err)
			_, err = b.try(t, request(nil))
			require.Equal(t, want, fault.ReasonOf(err))
			if want != "" {
				require.ErrorContains(t, err, other)
			}
			require.NoError(t, c.Unregister(t.Context(), partner, client.Place{Entry: entry, Host: other}))
			require.NoError(t, b.book.Delete(t.Context(), primary))
			time.Sleep(time.Minute)
		}
	})
}

func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := newBackend(t, func(o *kalturatest.Options) {
			o.Partners[1].MaxPassthrough = 1
			o.Entries = append(o.Entries, liveEntry("0_second00", nil))
		})
		b := newBench(t, backend, nil)
		_, err := b.try(t, request(nil))
		require.NoError(t, err)
		second := request(func(r *ingest.Request) { r.Stream = "0_second00" })
		_, err = b.try(t, second)
		require.Equal(t, fault.QuotaExceeded, fault.ReasonOf(err))
		require.Equal(t, "LIVE_STREAM_EXCEEDED_MAX_PASSTHRU", fault.From(err).Metadata["code"])
		// It tries for minutes, and does not keep a place for itself meanwhile.
		for range 100 {
			time.Sleep(3 * time.Second)
			_, err = b.try(t, second)
			if err == nil {
				break
			}
			require.Equal(t, fault.QuotaExceeded, fault.ReasonOf(err))
			if _, held := backend.State().Registration(entry, "0"); held {
				playable(t, b)
			}
		}
		_, held := backend.State().Registration("0_second00", "0")
		require.False(t, held, "a refused entry holds no place of the quota")
		c, err := client.New(b.client)
		require.NoError(t, err)
		require.NoError(t, c.Unregister(t.Context(), partner, client.Place{Entry: entry, Host: host}))
		time.Sleep(4 * time.Second)
		_, err = b.try(t, second)
		require.NoError(t, err)
		_, held = backend.State().Registration("0_second00", "0")
		require.True(t, held)
	})
}

func TestAPublisherWhoHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newBackend(t, nil), nil)
		b.inject(t, kalturatest.Fault{Kind: kalturatest.Slow, Delay: time.Minute})
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := b.Authenticate(ctx, request(nil))
			failed <- err
		}()
		synctest.Wait()
		cancel()
		require.Equal(t, fault.ConnectionLost, fault.ReasonOf(<-failed))
		b.backend.ClearFaults(0)
		_, err := b.try(t, request(nil))
		require.NoError(t, err, "nothing of it is held against the next")

		door := fault.New(fault.ServerDraining, "the server is stopping")
		gone, leave := context.WithCancelCause(t.Context())
		leave(door)
		_, err = b.Authenticate(gone, withToken("other"))
		require.Equal(t, fault.ServerDraining, fault.ReasonOf(err))
	})
}

func address(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}), 5000)
}

// BenchmarkReturn is a publisher who is let in from the book.
func BenchmarkReturn(b *testing.B) {
	bench := newBench(b, newBackend(b, nil), nil)
	_, err := bench.Authenticate(b.Context(), request(nil))
	require.NoError(b, err)
	bench.live.begin(primary)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bench.Authenticate(b.Context(), request(nil)); err != nil {
			b.Fatal(err)
		}
	}
}

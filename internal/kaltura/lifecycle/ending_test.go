package lifecycle

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/stream"
)

// deliveries says whether everything was delivered.
type deliveries struct {
	mu      sync.Mutex // guards the fields below
	done    bool
	changed chan struct{}
}

func (d *deliveries) settled(string, int) (bool, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done, d.changed
}

func (d *deliveries) set(done bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done = done
	close(d.changed)
	d.changed = make(chan struct{})
}

func unsettled() (*deliveries, func(*Options)) {
	d := &deliveries{changed: make(chan struct{})}
	return d, func(o *Options) { o.Settled = d.settled }
}

func TestEndWaitsForDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, options := unsettled()
		w := newWorld(t, nil, options)
		defer w.halt()
		w.onAir(primary)
		w.pass(time.Minute)
		w.live.end(primary)
		ended := time.Now()
		w.pass(70 * time.Second)
		r, _ := w.registration(primary)
		require.Equal(t, stream.Stopped, r.State)
		require.True(t, ended.Add(120*time.Second).Equal(r.EndBy))
		require.True(t, r.Next.IsZero(), "no keep-alive after the end")
		require.Zero(t, w.count("liveStream.unregisterMediaServer"))
		d.set(true)
		synctest.Wait()
		require.Equal(t, 1, w.count("liveStream.unregisterMediaServer"))
		require.Zero(t, w.status(primary))
	})
}

// What the backend shows as live is never older than 120 s after the media,
// delivered or not, and whatever fails on the way; when the backend itself is
// away, the rest is its own clock.
func TestPlayableNeverOutlivesTheMedia(t *testing.T) {
	faults := map[string]kalturatest.Fault{
		"nothing wrong": {},
		"list away":     {Kind: kalturatest.Status, Service: "entryServerNode", Times: 2},
		"lost answers":  {Kind: kalturatest.Lost, Service: "liveStream", Times: 2},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, options := unsettled()
				w := newWorld(t, nil, options)
				defer w.halt()
				w.onAir(primary)
				for phase := range 7 { // whatever the keep-alive's phase
					w.pass(time.Duration(20+phase*9) * time.Second)
					if f.Kind != "" {
						w.inject(f)
					}
					w.live.end(primary)
					ended := time.Now()
					for time.Since(ended) < tellEndBy {
						if f.Kind == "" && time.Since(ended) < tellEndBy-endMargin {
							require.LessOrEqual(t, w.count("liveStream.unregisterMediaServer"), phase, "not before it has to be")
						}
						w.pass(time.Second)
					}
					require.NotEqual(t, kalturatest.StatusPlayable, w.status(primary), "after %s", time.Since(ended))
					w.backend.ClearFaults(0)
					w.pass(time.Minute)
					require.Empty(t, w.l.Registrations())
					w.onAir(primary)
				}
			})
		})
	}
}

func TestEndIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		w.onAir(primary)
		w.pass(time.Minute)
		mend := w.inject(kalturatest.Fault{Kind: kalturatest.Down})
		w.live.end(primary)
		w.pass(giveUpAfter - time.Second)
		require.Len(t, w.l.Registrations(), 1)
		w.pass(2 * time.Second)
		require.Empty(t, w.l.Registrations())
		require.Zero(t, w.status(primary), "the backend found out by itself")
		events := w.journal.of(stream.EntryLeft)
		require.Len(t, events, 1)
		require.Equal(t, fault.BackendUnavailable, events[0].Reason)
		require.Equal(t, "true", events[0].Facts["given_up"])
		mend()
		w.pass(10 * time.Minute)
		require.Zero(t, w.count("liveStream.unregisterMediaServer"))
	})
}

func TestEndIsToldWhenTheBackendIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		w.onAir(primary)
		mend := w.inject(kalturatest.Fault{Kind: kalturatest.Down})
		w.live.end(primary)
		w.pass(40 * time.Second)
		mend()
		w.pass(36 * time.Second)
		require.Zero(t, w.status(primary))
		require.Equal(t, 1, w.count("liveStream.unregisterMediaServer"))
	})
}

// Backends from before 2016 have no rows to look at, and hold the host of an
// unregistration against their own.
func TestEndIsToldToOldBackends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		w.inject(kalturatest.Fault{Kind: kalturatest.Code, Service: "entryServerNode", Code: "SERVICE_DOES_NOT_EXISTS"})
		w.onAir(primary)
		w.pass(time.Minute)
		w.live.end(primary)
		w.pass(enough)
		require.Equal(t, 1, w.count("liveStream.unregisterMediaServer"))
		require.Zero(t, w.status(primary))
		require.Empty(t, w.l.Registrations())
	})
}

// The backend takes registrations of a host name also when it does not show its
// node, as that is another partner's.
func TestAnEntryThatWaitsIsKeptWithoutANodeOfOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		hidden := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/serverNode/action/list") {
				_, _ = io.WriteString(rw, `{"objects":[],"totalCount":0}`)
				return
			}
			w.backend.ServeHTTP(rw, r)
		})
		c, err := client.New(client.Options{
			URL: "http://backend.example.com", Partner: kalturatest.MediaServerPartner, Secret: secret, Transport: direct{hidden},
		})
		require.NoError(t, err)
		w = newWorld(t, nil, func(o *Options) { o.Client = c })
		defer w.halt()
		w.onAir(primary)
		w.live.leave(primary)
		w.pass(window - enough)
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
	})
}

func TestNewBroadcastCancelsTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, options := unsettled()
		w := newWorld(t, nil, options)
		defer w.halt()
		w.onAir(primary)
		w.pass(time.Minute)
		w.live.end(primary)
		w.pass(60 * time.Second)
		w.onAir(primary)
		g, _ := w.book.Get(primary)
		require.True(t, g.Ended.IsZero(), "the new grant is not ended with the old broadcast")
		for range 30 {
			w.pass(10 * time.Second)
			require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
		}
		require.Zero(t, w.count("liveStream.unregisterMediaServer"))
		require.Len(t, w.journal.of(stream.EntryRegistered), 4)
	})
}

// A publisher who is let in anew replaces what was told; when it leaves
// without media there is nothing to tell.
func TestNewPublisherCancelsTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, options := unsettled()
		w := newWorld(t, nil, options)
		defer w.halt()
		w.onAir(primary)
		w.live.end(primary)
		w.pass(30 * time.Second)
		require.NoError(t, w.authenticate(primary))
		w.live.connect(primary)
		w.pass(2 * time.Minute)
		r, _ := w.registration(primary)
		require.Equal(t, stream.Authenticated, r.State)
		w.live.hangUp(primary)
		w.pass(2 * time.Minute)
		require.Empty(t, w.l.Registrations())
		require.Zero(t, w.count("liveStream.unregisterMediaServer"))
		require.Zero(t, w.status(primary))
	})
}

// One who came by the old grant says nothing to the backend: the end waits for
// it, but not longer than for anything else.
func TestPublisherUnderTheOldGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		w.onAir(primary)
		w.live.edit(primary, func(b *stream.BroadcastStatus) { b.State, b.End = stream.Stopped, time.Now() })
		ended := time.Now()
		w.pass(time.Minute)
		require.Zero(t, w.count("liveStream.unregisterMediaServer"))
		g, _ := w.book.Get(primary)
		require.True(t, g.Ended.IsZero(), "it is in use")
		w.pass(tellEndBy - time.Since(ended))
		require.Equal(t, 1, w.count("liveStream.unregisterMediaServer"))
		w.live.hangUp(primary)
		w.pass(enough)
		g, _ = w.book.Get(primary)
		require.True(t, ended.Equal(g.Ended))
		require.Empty(t, w.l.Registrations())
	})
}

// A broadcast that came and went between two looks leaves no grant behind.
func TestEndThatWasNeverSeenLiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		require.NoError(t, w.authenticate(primary))
		w.halt()
		w.live.begin(primary)
		w.live.end(primary)
		w.start()
		defer w.halt()
		w.pass(time.Second)
		g, _ := w.book.Get(primary)
		require.False(t, g.Ended.IsZero())
		require.Zero(t, w.count("liveStream.registerMediaServer"))
		require.Zero(t, w.count("liveStream.unregisterMediaServer"))
		require.Empty(t, w.l.Registrations())
	})
}

// An operator who deletes and adds our node again has not moved the entry.
func TestNodeMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		w.onAir(primary)
		w.l.node.Store(4711) // what we knew
		w.live.leave(primary)
		w.pass(2 * time.Minute)
		require.Empty(t, w.journal.of(stream.EntryTakenOver))
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
	})
}

func TestRestartInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		w.onAir(primary)
		w.pass(time.Minute)
		w.halt()
		require.Zero(t, w.count("liveStream.unregisterMediaServer"), "a stop is no end")
		w.pass(40 * time.Second)
		w.live.leave(primary) // what the registry makes of it
		w.start()
		defer w.halt()
		for range 16 {
			w.pass(10 * time.Second)
			require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
		}
		w.live.back(primary)
		w.pass(5 * time.Minute)
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
		require.Len(t, w.journal.of(stream.EntryRegistered), 2, "nothing new was told")
		w.live.end(primary)
		w.pass(enough)
		require.Zero(t, w.status(primary))
	})
}

func TestRestartAfterTheEnd(t *testing.T) {
	for name, pause := range map[string]time.Duration{"soon": 30 * time.Second, "late": 130 * time.Second, "too late": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, options := unsettled()
				w := newWorld(t, nil, options)
				w.onAir(primary)
				w.live.end(primary)
				ended := time.Now()
				w.pass(10 * time.Second)
				w.halt()
				w.live.forget(primary)
				w.pass(pause)
				w.start()
				defer w.halt()
				if pause < tellEndBy {
					r, ok := w.registration(primary)
					require.True(t, ok)
					require.True(t, ended.Add(tellEndBy).Equal(r.EndBy))
					d.set(true)
				}
				w.pass(enough)
				require.Zero(t, w.status(primary))
				require.Empty(t, w.l.Registrations())
				records, err := w.kept.List(t.Context())
				require.NoError(t, err)
				require.Empty(t, records)
			})
		})
	}
}

func TestRestartWithoutTheBroadcast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		w.onAir(primary)
		w.halt()
		w.live.forget(primary)
		w.start()
		defer w.halt()
		w.pass(enough)
		require.Zero(t, w.status(primary))
		require.Equal(t, 1, w.count("liveStream.unregisterMediaServer"))
		g, _ := w.book.Get(primary)
		require.False(t, g.Ended.IsZero())
	})
}

// The authority asked the backend about a publisher of what is on air: that
// takes the entry off air until it is told again.
func TestAuthenticatedWhileOnAir(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		w.onAir(primary)
		w.pass(7 * time.Second)
		require.NoError(t, w.authenticate(primary))
		synctest.Wait()
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
	})
}

func TestResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		w.onAir(primary)
		w.pass(10 * time.Second)
		_, err := w.client.Registrations(t.Context(), house, entry)
		require.NoError(t, err)
		require.NoError(t, w.client.Unregister(t.Context(), house, client.Place{Entry: entry, Host: host}))
		require.Zero(t, w.status(primary))
		gets := w.count("liveStream.get")
		w.l.Resync()
		w.pass(enough)
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
		require.Equal(t, gets+1, w.count("liveStream.get"))
		row, _ := w.row(primary)
		require.Len(t, row.Streams, 1, "the renditions, too")
	})
}

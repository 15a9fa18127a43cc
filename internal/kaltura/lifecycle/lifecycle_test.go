package lifecycle

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/kaltura/node"
	"github.com/klive-media/klive/internal/stream"
)

func TestNormalLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		require.NoError(t, w.authenticate(primary))
		w.live.connect(primary)
		synctest.Wait()
		r, ok := w.registration(primary)
		require.True(t, ok)
		require.Equal(t, stream.Authenticated, r.State)
		require.Zero(t, w.count("liveStream.registerMediaServer"))
		w.live.hangUp(primary)
		w.pass(enough)

		began := time.Now()
		w.onAir(primary)
		row, _ := w.row(primary)
		require.Equal(t, began.Add(4*time.Second), row.Updated, "PLAYABLE at the moment it plays")
		e, _ := w.backend.State().Entry(entry)
		require.Equal(t, began.Add(4*time.Second).Unix(), e.LastBroadcast)
		require.NotEmpty(t, e.Recorded, "recording was asked for with BROADCASTING")

		w.pass(10 * time.Minute)
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
		r, _ = w.registration(primary)
		require.Equal(t, stream.Playable, r.State)
		require.Equal(t, began.Add(4*time.Second), r.Since)
		require.Equal(t, e.Recorded, r.RecordedEntry)
		require.LessOrEqual(t, time.Since(r.LastTold), keepMax)
		require.Equal(t, house, r.Partner)
		require.Zero(t, r.Attempts)
		require.True(t, r.EndBy.IsZero())
		require.LessOrEqual(t, w.count("liveStream.registerMediaServer"), 2+600/45+1)

		g, _ := w.book.Get(primary)
		require.Equal(t, e.Recorded, string(g.Snapshot.RecordedEntry), "what the backend answered is in the book")
		require.True(t, g.Ended.IsZero())

		w.live.end(primary)
		ended := time.Now()
		w.pass(enough)
		require.Zero(t, w.status(primary))
		require.Equal(t, 1, w.count("liveStream.unregisterMediaServer"))
		e, _ = w.backend.State().Entry(entry)
		require.Equal(t, ended.Unix(), e.LastBroadcastEnd)
		g, _ = w.book.Get(primary)
		require.True(t, ended.Equal(g.Ended))
		require.Empty(t, w.l.Registrations())
		calls := w.count("liveStream.registerMediaServer")
		w.pass(10 * time.Minute)
		require.Equal(t, calls, w.count("liveStream.registerMediaServer"), "no keep-alive after the end")
		require.Equal(t, 1, w.count("liveStream.unregisterMediaServer"))
		require.Zero(t, w.count("liveStream.update"), "the backend wrote the start itself")

		registered := w.journal.of(stream.EntryRegistered)
		require.Len(t, registered, 2)
		require.Equal(t, "BROADCASTING", registered[0].Facts["state"])
		require.Equal(t, "PLAYABLE", registered[1].Facts["state"])
		require.Equal(t, "102", registered[1].Facts["partner"])
		require.Len(t, w.journal.of(stream.EntryLeft), 1)
		require.Empty(t, w.journal.of(stream.EntryRefused))
	})
}

// A grant of a publisher who never sends media, and one who was refused for
// the quota: the row that authenticate left is not ours to keep or to end.
func TestRowOfAuthenticateDiesByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *kalturatest.Options) {
			o.Entries = append(o.Entries, entryOf("0_abcdefgh"))
			o.Partners[1].MaxTranscoded = 1
		}, nil)
		defer w.halt()
		w.onAir(primary)
		other := primary
		other.Entry = "0_abcdefgh"
		require.Error(t, w.authenticate(other))
		require.Equal(t, kalturatest.StatusAuthenticated, w.status(other), "the backend leaves the row of whom it refuses")
		calls := w.count("liveStream.registerMediaServer")
		w.pass(151 * time.Second)
		require.Zero(t, w.status(other))
		require.LessOrEqual(t, w.count("liveStream.registerMediaServer")-calls, 4, "all for the other one")
		require.Zero(t, w.count("liveStream.unregisterMediaServer"))
		require.Len(t, w.l.Registrations(), 1)
	})
}

func TestBackendAwayInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		w.onAir(primary)
		w.pass(time.Minute)
		mend := w.inject(kalturatest.Fault{Kind: kalturatest.Down})
		w.pass(10 * time.Minute)
		require.Zero(t, w.status(primary), "the backend forgot it")
		r, _ := w.registration(primary)
		require.Positive(t, r.Attempts)
		require.NotEmpty(t, r.Error)
		require.Equal(t, stream.Playable, r.State)
		require.Empty(t, w.journal.of(stream.EntryRefused), "no answer is no refusal")
		mend()
		back := time.Now()
		for w.status(primary) != kalturatest.StatusPlayable {
			w.pass(time.Second)
			require.Less(t, time.Since(back), 36*time.Second, "the breaker's longest pause and ours")
		}
		t.Logf("registered again %s after the backend came back", time.Since(back))
		r, _ = w.registration(primary)
		require.Zero(t, r.Attempts)
		require.Empty(t, r.Error)
		require.Len(t, w.journal.of(stream.EntryRegistered), 3, "that it is registered again is told")
		w.pass(30 * time.Minute)
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
	})
}

// One keep-alive that fails is made good before the backend forgets.
func TestOneMissedKeepAlive(t *testing.T) {
	for name, f := range map[string]kalturatest.Fault{
		"slow":     {Kind: kalturatest.Slow, Delay: time.Minute},
		"html":     {Kind: kalturatest.HTML},
		"lost":     {Kind: kalturatest.Lost},
		"internal": {Kind: kalturatest.Code, Code: codeInternal},
		"refused":  {Kind: kalturatest.Code, Code: "ACTION_BLOCKED"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, nil)
				defer w.halt()
				w.onAir(primary)
				w.pass(time.Minute)
				f.Service, f.Action, f.Times = "liveStream", "registerMediaServer", 1
				mend := w.inject(f)
				for range 20 {
					w.pass(15 * time.Second)
					require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
				}
				mend()
			})
		})
	}
}

func TestSessionRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		w.onAir(primary)
		w.backend.RevokeSessions()
		w.pass(5 * time.Minute)
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
		require.Empty(t, w.journal.of(stream.EntryRefused))
	})
}

func TestPublisherComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		w.onAir(primary)
		w.pass(time.Minute)
		w.live.leave(primary)
		for range 17 { // not once off air
			w.pass(10 * time.Second)
			require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
		}
		w.live.back(primary)
		w.pass(5 * time.Minute)
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
		require.Len(t, w.journal.of(stream.EntryRegistered), 2)
		require.Equal(t, 1, w.count("liveStream.authenticate"))
		require.Zero(t, w.count("liveStream.unregisterMediaServer"))
	})
}

func TestNothingToPlayForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		w.onAir(primary)
		began := time.Now().Add(-4 * time.Second)
		w.pass(time.Minute)
		w.live.play(primary, false)
		synctest.Wait()
		require.Equal(t, kalturatest.StatusBroadcasting, w.status(primary))
		e, _ := w.backend.State().Entry(entry)
		require.Equal(t, began.Unix(), e.CurrentBroadcastTime, "the backend forgot the start, the primary tells it again")
		require.Equal(t, 1, w.count("liveStream.update"))
		w.live.play(primary, true)
		synctest.Wait()
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
	})
}

func TestBackupTellsNoStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		backup := primary
		backup.Index = 1
		w.onAir(backup)
		w.pass(time.Minute)
		require.Zero(t, w.count("liveStream.update"))
		w.onAir(primary)
		w.live.end(backup)
		w.pass(enough)
		require.Zero(t, w.status(backup))
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary), "each index has its own end")
	})
}

func TestBlockedPartner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		w.onAir(primary)
		w.backend.SetPartner(kalturatest.Partner{ID: house, Secret: secret, Features: []string{kalturatest.FeatureLive}, Blocked: true})
		w.pass(keepMax + enough)
		require.Len(t, w.live.stopped, 1)
		require.Equal(t, fault.PartnerBlocked, fault.ReasonOf(w.live.stopped[0]))
		g, _ := w.book.Get(primary)
		require.False(t, g.Ended.IsZero())
		refused := w.journal.of(stream.EntryRefused)
		require.Len(t, refused, 1)
		require.Equal(t, fault.PartnerBlocked, refused[0].Reason)
		require.Equal(t, codeBlocked, refused[0].Facts["code"])
		w.pass(giveUpAfter)
		require.Empty(t, w.l.Registrations())
		require.Zero(t, w.status(primary))
	})
}

func TestNodeUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *kalturatest.Options) { o.Nodes[0].Status = kalturatest.NodeDisabled }, nil)
		defer w.halt()
		w.live.begin(primary)
		w.pass(time.Minute)
		refused := w.journal.of(stream.EntryRefused)
		require.Len(t, refused, 1, "once for all the tries")
		require.Equal(t, fault.NodeNotRegistered, refused[0].Reason)
		r, _ := w.registration(primary)
		require.Equal(t, stream.Authenticated, r.State)
		require.Greater(t, r.Attempts, 4)
		id := w.backend.State().Nodes[0].ID
		require.NoError(t, w.client.EnableNode(t.Context(), client.Int(id)))
		w.pass(maxNodePause)
		require.Equal(t, kalturatest.StatusBroadcasting, w.status(primary))
		require.Len(t, w.journal.of(stream.EntryRegistered), 1)
	})
}

// A refusal for want of the node makes the node ask for itself at once.
func TestNodeIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var own *node.Node
		w := newWorld(t, func(o *kalturatest.Options) { o.Nodes = o.Nodes[1:] }, func(o *Options) {
			own = node.New(node.Options{Client: o.Client, Host: host, Application: "kLive", Type: "KalturaWowzaMediaServerNode", Report: node.ReportNone, Journal: o.Journal})
			o.Node = own
		})
		defer w.halt()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- own.Run(ctx) }()
		synctest.Wait()
		w.onAir(primary)
		state := w.backend.State()
		require.NoError(t, w.client.Do(t.Context(), client.Call{Service: "serverNode", Action: "disable", Params: client.Params{"serverNodeId": own.ID()}}, nil))
		w.pass(keepMax)
		require.Greater(t, w.count("serverNode.list"), state.Count("serverNode.list"))
		require.Contains(t, own.Status().Error, "disabled")
		require.Equal(t, fault.NodeNotRegistered, w.journal.of(stream.EntryRefused)[0].Reason)
		require.NoError(t, w.client.EnableNode(t.Context(), client.Int(own.ID())))
		w.pass(maxNodePause)
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
		w.live.end(primary)
		w.pass(enough)
		require.Zero(t, w.status(primary), "the owner is known from the node")
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

func TestEntryDeletedWhileLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		w.onAir(primary)
		calls := w.count("liveStream.registerMediaServer")
		mend := w.inject(kalturatest.Fault{Kind: kalturatest.Code, Code: codeNoEntry})
		w.pass(20 * time.Minute)
		refused := w.journal.of(stream.EntryRefused)
		require.Len(t, refused, 1)
		require.Equal(t, fault.StreamNotFound, refused[0].Reason)
		require.Less(t, w.count("liveStream.registerMediaServer")-calls, 20*60/27+8, "slowly")
		require.Empty(t, w.live.stopped, "what is on air stays on air")
		mend()
		w.pass(keepMax)
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
	})
}

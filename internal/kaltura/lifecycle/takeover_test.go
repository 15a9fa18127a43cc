package lifecycle

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/stream"
)

func TestTakenOverWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		w.onAir(primary)
		w.pass(time.Minute)
		w.live.leave(primary)
		w.pass(enough)
		w.steal(primary)
		row, _ := w.row(primary)
		for range 6 { // the rival keeps it alive, we leave it alone
			w.pass(25 * time.Second)
			w.steal(primary)
			now, _ := w.row(primary)
			require.Equal(t, row.Node, now.Node)
		}
		require.Len(t, w.journal.of(stream.EntryTakenOver), 1)
		r, _ := w.registration(primary)
		require.True(t, r.TakenOver)
		require.True(t, r.Next.IsZero())

		w.live.back(primary) // ours comes back: the last caller wins
		synctest.Wait()
		now, _ := w.row(primary)
		require.NotEqual(t, row.Node, now.Node)
		require.Equal(t, kalturatest.StatusPlayable, now.Status)
		r, _ = w.registration(primary)
		require.False(t, r.TakenOver)

		w.live.leave(primary)
		w.pass(enough)
		w.steal(primary)
		w.pass(keepMax)
		w.live.end(primary)
		w.pass(5 * time.Minute)
		require.Zero(t, w.count("liveStream.unregisterMediaServer"))
		require.Empty(t, w.l.Registrations())
	})
}

// The encoder went to another host, and its old connection was never closed:
// this host must not take the entry back from it.
func TestTakenOverWhileAConnectionHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		w.onAir(primary)
		w.pass(time.Minute)
		w.live.hang(true)
		w.pass(silentAfter)
		w.steal(primary)
		rivals, _ := w.row(primary)
		updates := w.count(update)
		for range 24 { // no keep-alive of the rival mends it meanwhile
			w.pass(5 * time.Second)
			row, _ := w.row(primary)
			require.Equal(t, rivals.Node, row.Node)
		}
		require.Equal(t, updates, w.count(update))
		require.Len(t, w.journal.of(stream.EntryTakenOver), 1)
		r, _ := w.registration(primary)
		require.True(t, r.TakenOver)

		w.live.hang(false) // the encoder is here again
		w.pass(2 * heardEach)
		row, _ := w.row(primary)
		require.NotEqual(t, rivals.Node, row.Node)
		require.Equal(t, kalturatest.StatusPlayable, row.Status)
		r, _ = w.registration(primary)
		require.False(t, r.TakenOver)
	})
}

// A connection without media that nobody else took over for is kept alive, and
// ended like any other.
func TestAConnectionThatHangsIsKeptAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		defer w.halt()
		w.onAir(primary)
		w.live.hang(true)
		for range 30 {
			w.pass(10 * time.Second)
			require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
		}
		w.live.hang(false)
		w.pass(5 * time.Minute)
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary))
		require.Empty(t, w.journal.of(stream.EntryTakenOver))
		w.live.hang(true)
		w.pass(time.Minute)
		w.live.end(primary)
		w.pass(enough)
		require.Zero(t, w.status(primary))
	})
}

func TestTakenOverBeforeTheEndIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, options := unsettled()
		w := newWorld(t, nil, options)
		defer w.halt()
		w.onAir(primary)
		w.live.end(primary)
		w.pass(100 * time.Second)
		w.steal(primary)
		w.pass(tellEndBy)
		require.Zero(t, w.count("liveStream.unregisterMediaServer"))
		require.Len(t, w.journal.of(stream.EntryTakenOver), 1)
		require.Empty(t, w.l.Registrations())
	})
}

func TestRestartTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, nil)
		w.onAir(primary)
		w.halt()
		w.steal(primary)
		w.live.forget(primary)
		w.start()
		defer w.halt()
		w.pass(enough)
		require.Equal(t, kalturatest.StatusPlayable, w.status(primary), "the rival's")
		require.Zero(t, w.count("liveStream.unregisterMediaServer"))
	})
}

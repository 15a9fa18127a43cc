package lifecycle

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/stream"
)

// Whatever happens, in whatever order: what is on air is registered, what is
// not is not, and what is another host's is left alone.
func TestWhateverHappens(t *testing.T) {
	for seed := range uint64(fates) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chance(t, seed) })
		})
	}
}

// fate is what has happened.
type fate struct {
	*world
	dice    *rand.Rand
	mend    func()    // the backend is broken; nil: it is not
	healthy time.Time // since when it is not
	steady  time.Time // since when nothing happened here
	ended   time.Time // the end of the last broadcast
	stolen  time.Time // when the rival took the entry last; zero: it has not since ours was told
	running bool
	node    int // ours
}

func chance(t *testing.T, seed uint64) {
	d, options := unsettled()
	f := &fate{world: newWorld(t, nil, options), dice: rand.New(rand.NewPCG(seed, 1)), running: true} //nolint:gosec // a test that can be repeated
	f.healthy, f.steady = time.Now(), time.Now()
	f.node = f.backend.State().Nodes[0].ID
	d.set(seed%2 == 0)
	defer func() {
		if f.running {
			f.halt()
		}
	}()
	next := time.Now()
	for began := time.Now(); time.Since(began) < time.Hour; f.pass(time.Second) {
		if !time.Now().Before(next) {
			f.happen()
			next = time.Now().Add(time.Duration(1+f.dice.IntN(1+f.dice.IntN(200))) * time.Second)
		}
		f.check()
	}
}

// happen lets one thing happen.
func (f *fate) happen() {
	b, known := f.live.broadcasts[primary]
	lives := known && b.State.Live()
	waits := lives && !b.ReconnectDeadline.IsZero()
	f.steady = time.Now()
	switch n := f.dice.IntN(12); {
	case n < 2 && f.mend == nil:
		kinds := []kalturatest.FaultKind{kalturatest.Down, kalturatest.Lost, kalturatest.HTML, kalturatest.Status, kalturatest.Slow}
		f.mend = f.inject(kalturatest.Fault{Kind: kinds[f.dice.IntN(len(kinds))], Delay: time.Duration(f.dice.IntN(40)) * time.Second})
	case n < 4 && f.mend != nil:
		f.mend()
		f.mend, f.healthy = nil, time.Now()
	case n == 4 && f.running:
		f.halt()
		f.running = false
	case n < 7 && !f.running:
		f.start()
		f.running = true
	case !lives && f.running && f.mend == nil:
		if f.authenticate(primary) == nil {
			f.stolen = time.Time{}
			f.live.begin(primary)
		}
	case waits && n < 9 && f.running:
		f.live.back(primary)
		f.stolen = time.Time{}
	case lives && !waits && n < 8:
		f.live.play(primary, b.State != stream.Playable || n == 7)
	case lives && !waits && n == 8:
		f.live.leave(primary)
	case lives && n == 9:
		f.live.end(primary)
		f.ended = time.Now()
	case waits && n >= 10 && f.mend == nil:
		f.steal(primary)
		f.stolen = time.Now()
		if n == 11 { // before anybody could look
			f.live.end(primary)
			f.ended = time.Now()
		}
	}
}

// check holds what must be true at every moment.
func (f *fate) check() {
	b, known := f.live.broadcasts[primary]
	row, registered := f.row(primary)
	ours := registered && row.Node == f.node
	now := time.Now()
	switch {
	case known && b.State.Live():
		calm := f.running && f.mend == nil && now.Sub(f.healthy) > 66*time.Second && now.Sub(f.steady) > 66*time.Second
		if calm && b.ReconnectDeadline.IsZero() && b.State == stream.Playable {
			require.True(f.t, ours, "on air, but not registered")
			require.Equal(f.t, kalturatest.StatusPlayable, row.Status)
		}
		if calm && b.State == stream.Broadcasting && ours {
			require.Equal(f.t, kalturatest.StatusBroadcasting, row.Status)
		}
	case known && ours && row.Status == kalturatest.StatusPlayable && f.stolen.IsZero():
		most := tellEndBy // we tell it, else the backend finds out
		if !f.running || f.mend != nil || now.Sub(f.healthy) < most || f.steady.After(f.ended) {
			most = 151*time.Second + time.Minute // a call that was slow, and the backend's own clock
		}
		require.LessOrEqual(f.t, now.Sub(f.ended), most, "registered longer than it was on air")
	}
	if !f.stolen.IsZero() && registered && row.Node != f.node && now.Sub(f.stolen) < 120*time.Second {
		require.Equal(f.t, kalturatest.StatusPlayable, row.Status)
	}
	if !f.stolen.IsZero() && !registered {
		require.Greater(f.t, now.Sub(f.stolen), 119*time.Second, "another host's registration was ended")
	}
}

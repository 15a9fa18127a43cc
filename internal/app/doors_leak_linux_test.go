package app

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/config"
	"github.com/klive-media/klive/internal/fault"
)

// How many times encoders come and go at each door, how many at once, and how
// many before what the process holds is measured first.
const (
	dropCycles      = 500
	dropCyclesShort = 50
	dropWorkers     = 8
	dropStreams     = 2 // of each worker
	dropWarmUp      = 96
)

// footprint is what a process holds.
type footprint struct {
	goroutines, descriptors, threads int
	heap                             int // bytes that live
}

// allowed is by how much each may be more behind the cycles than before them.
// Sessions and broadcasts that ended stay listed for a while, which costs some
// heap: 16 streams, about 100 KB each. Go keeps a thread that once was needed,
// as for a slow disk; one lost with each cycle would be hundreds.
var allowed = footprint{goroutines: 4, descriptors: 2, threads: 24, heap: 5 << 20}

func measure(t testing.TB) (f footprint) {
	t.Helper()
	for range 2 { // the second one frees what finalizers held
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f.heap, f.goroutines = int(m.HeapAlloc), runtime.NumGoroutine() //nolint:gosec // below 2^63
	for dir, n := range map[string]*int{"/proc/self/fd": &f.descriptors, "/proc/self/task": &f.threads} {
		list, err := os.ReadDir(dir)
		require.NoError(t, err)
		*n = len(list)
	}
	return f
}

func (f footprint) within(before footprint) bool {
	return f.goroutines <= before.goroutines+allowed.goroutines && f.descriptors <= before.descriptors+allowed.descriptors &&
		f.threads <= before.threads+allowed.threads && f.heap <= before.heap+allowed.heap
}

// TestDropsLeaveNothing: encoders that connect and drop, in whatever step, leave
// no goroutine, thread, descriptor or memory behind.
func TestDropsLeaveNothing(t *testing.T) {
	cycles := dropCycles
	if testing.Short() {
		cycles = dropCyclesShort
	}
	for _, p := range protocols() {
		t.Run(p.name, func(t *testing.T) {
			s := openSite(t, func(c *config.Config) {
				c.Limits.TakeoverAfter, c.Limits.ReconnectWindow = 200*time.Millisecond, 200*time.Millisecond
			})
			dropCyclesOf(t, s, p, dropWarmUp)
			before := s.rest(t)
			began := time.Now()
			dropCyclesOf(t, s, p, cycles)
			took := time.Since(began)
			var after footprint
			ok := func() bool { after = s.rest(t); return after.within(before) }
			if !ok() { // what the runtime itself does may take a moment
				require.Eventually(t, ok, 10*time.Second, 200*time.Millisecond, "%d cycles: %+v, then %+v", cycles, before, &after)
			}
			t.Logf("%d cycles in %s: %+v, then %+v", cycles, took.Round(time.Millisecond), before, after)
			for reason := range s.registry.Counters().Ended() {
				require.Contains(t, []fault.Reason{fault.Unpublished, fault.ConnectionLost, fault.Superseded}, reason)
			}
		})
	}
}

// rest waits until nobody is there any more, and measures.
func (s *site) rest(t testing.TB) footprint {
	t.Helper()
	require.Eventually(t, func() bool {
		list, _ := s.registry.Statuses()
		for _, st := range list {
			if st.State.Live() {
				return false
			}
		}
		return s.registry.Publishers() == 0
	}, patience, 20*time.Millisecond)
	s.tap.forget()
	return measure(t)
}

// dropCyclesOf lets encoders come and go, each in another way than the one
// before.
func dropCyclesOf(t *testing.T, s *site, p *protocol, cycles int) {
	t.Helper()
	var all sync.WaitGroup
	for w := range dropWorkers {
		all.Go(func() {
			for i := w; i < cycles; i += dropWorkers {
				t.Run(strconv.Itoa(i), func(t *testing.T) {
					// Streams take turns, as the end of the one before may not be known
					// yet; addresses are new, as wrong tokens slow an address down.
					x := &trial{TB: t, s: s, p: p, id: fmt.Sprintf("p-drop-%d-%d-x", w, i/dropWorkers%dropStreams),
						from: netip.AddrFrom4([4]byte{127, 3, byte(i >> 8), byte(i)})}
					switch way := (i/dropWorkers + w) % (len(p.drops) + 2); way {
					case len(p.drops):
						e := x.publishSoon()
						x.write(e, newSource(0).next(time.Second))
						x.until("media", func() bool { return x.sessions()[0].Packets > 0 })
						e.Abort()
					case len(p.drops) + 1:
						e := x.publishSoon()
						x.write(e, newSource(0).next(time.Second))
						x.until("media", func() bool { return x.sessions()[0].Packets > 0 })
						require.NoError(t, e.Close())
					default:
						p.drops[way](t, s, x.address())
					}
				})
			}
		})
	}
	all.Wait()
}

// publishSoon is publish behind an encoder whose end may not be known yet.
func (x *trial) publishSoon() (e encoder) {
	x.Helper()
	x.until("place", func() bool {
		for _, st := range x.sessions() {
			if st.End.IsZero() && time.Since(st.LastMedia) < 2*x.s.cfg.Limits.TakeoverAfter {
				return false
			}
		}
		return true
	})
	return x.publish()
}

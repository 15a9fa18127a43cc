package authority

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
)

func fromHost(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 1)
}

// idle requires that the desk remembers nobody.
func idle(t *testing.T, d *desk) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	require.Empty(t, d.busy)
	require.Empty(t, d.from)
	require.Empty(t, d.waiting)
	require.Zero(t, d.asking)
	require.Zero(t, d.strange)
}

func TestDeskKeepsItsBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		ctx, cancel := context.WithCancel(t.Context())
		enter := func(v *visitor) <-chan error {
			done := make(chan error, 1)
			go func() { done <- d.enter(ctx, v) }()
			synctest.Wait()
			return done
		}
		// Four of one network may ask, eight of all; each for another entry.
		var in []*visitor
		for host := range 3 {
			for i := range 5 {
				v := &visitor{entry: fmt.Sprint(host, i), from: network(fromHost(host).Addr())}
				enter(v)
				in = append(in, v)
			}
		}
		asking := func() (n int) {
			d.mu.Lock()
			defer d.mu.Unlock()
			return len(d.busy)
		}
		require.Equal(t, maxStrangers, asking())
		known := &visitor{entry: "known", known: true}
		require.NoError(t, <-enter(known))
		again := enter(&visitor{entry: "known", known: true})
		require.Empty(t, again, "one at a time for an entry")
		d.leave(known)
		require.NoError(t, <-again)
		d.leave(known)

		crowd := network(fromHost(9).Addr())
		for i := range maxWaitingThere {
			enter(&visitor{entry: fmt.Sprint("crowd", i), from: crowd})
		}
		require.ErrorIs(t, <-enter(&visitor{entry: "one too many", from: crowd}), errCrowded)

		// All who wait give up; those who had the turn leave.
		cancel()
		synctest.Wait()
		require.Equal(t, maxStrangers, asking())
		for _, v := range in {
			d.mu.Lock()
			has := v.has
			d.mu.Unlock()
			if has {
				d.leave(v)
			}
		}
		idle(t, d)
	})
}

func TestDeskServesTheCleanFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		first := &visitor{entry: "e"}
		require.NoError(t, d.enter(t.Context(), first))
		var mu sync.Mutex
		var order []string
		var all sync.WaitGroup
		for _, v := range []struct {
			name string
			v    visitor
		}{
			{"dirty", visitor{from: network(fromHost(1).Addr()), dirt: 5}},
			{"flood 1", visitor{from: network(fromHost(2).Addr())}},
			{"flood 2", visitor{from: network(fromHost(2).Addr())}},
			{"flood 3", visitor{from: network(fromHost(2).Addr())}},
			{"newcomer", visitor{from: network(fromHost(3).Addr())}},
			{"known", visitor{known: true}},
		} {
			v.v.entry = "e"
			all.Go(func() {
				require.NoError(t, d.enter(t.Context(), &v.v))
				mu.Lock()
				order = append(order, v.name)
				mu.Unlock()
				time.Sleep(time.Second)
				d.leave(&v.v)
			})
			synctest.Wait()
		}
		d.leave(first)
		all.Wait()
		require.Equal(t, []string{"known", "flood 1", "newcomer", "flood 2", "flood 3", "dirty"}, order)
		idle(t, d)
	})
}

func TestDeskUnderACrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		var mu sync.Mutex
		inside := map[string]int{}
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(20))*time.Second)
				defer cancel()
				v := &visitor{entry: fmt.Sprint(i % 37), from: network(fromHost(i % 11).Addr()), known: i%5 == 0}
				if d.enter(ctx, v) != nil {
					return
				}
				mu.Lock()
				inside[v.entry]++
				require.Equal(t, 1, inside[v.entry])
				mu.Unlock()
				time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
				mu.Lock()
				inside[v.entry]--
				mu.Unlock()
				d.leave(v)
			})
		}
		all.Wait()
		idle(t, d)
	})
}

func TestMemoryIsBounded(t *testing.T) {
	m := newMemory([32]byte{1})
	now := time.Now()
	wrong := fault.New(fault.BadToken, "no")
	last := question{}
	for i := range maxAnswers + 5000 {
		q := m.question(ingest.Request{Stream: "0_rkij47dr", Token: fmt.Sprint(i), Remote: fromHost(i)})
		m.spend(q.from, true, now)
		m.note(q, wrong, now)
		last = q
	}
	require.LessOrEqual(t, len(m.answers), maxAnswers)
	require.LessOrEqual(t, len(m.sources), maxSources+1)
	_, held := m.recall(last, now)
	require.True(t, held, "what is new is remembered")

	// Networks without room of their own share one budget; when time has passed
	// there is room again.
	_, _, ok := m.spend(network(fromHost(1<<20).Addr()), true, now)
	require.False(t, ok)
	_, _, ok = m.spend(network(fromHost(1<<20).Addr()), true, now.Add(time.Hour))
	require.True(t, ok)
	require.LessOrEqual(t, len(m.sources), 2)
	m.note(last, fault.New(fault.StoreUnavailable, "no"), now.Add(time.Hour))
	_, held = m.recall(last, now.Add(time.Hour))
	require.False(t, held, "what is no answer of the backend is not remembered")
}

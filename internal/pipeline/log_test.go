package pipeline

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type item struct {
	n     int
	bytes int
	at    time.Duration
}

func weighItem(i *item) (int, time.Duration) { return i.bytes, i.at }

// fill appends items n..m−1, one every 10 ms and 100 bytes each, every tenth a
// sync point.
func fill(l *Log[item], n, m int) {
	for i := n; i < m; i++ {
		l.Append(&item{n: i, bytes: 100, at: time.Duration(i) * 10 * time.Millisecond}, i%10 == 0)
	}
}

func drain(t *testing.T, c *Cursor[item], n int) (got []int) {
	t.Helper()
	for range n {
		v, err := c.Next(t.Context())
		require.NoError(t, err)
		got = append(got, v.n)
	}
	return got
}

func TestCursorBeginsWhereAsked(t *testing.T) {
	l := NewLog(Bounds{}, weighItem)
	fill(l, 0, 25)
	require.Equal(t, []int{20, 21}, drain(t, l.Subscribe(LastSync), 2))
	require.Equal(t, []int{7, 8}, drain(t, l.Subscribe(Seq(7)), 2))
	edge := l.Subscribe(LiveEdge)
	fill(l, 25, 26)
	require.Equal(t, []int{25}, drain(t, edge, 1))
	future := l.Subscribe(Seq(27))
	fill(l, 26, 28)
	require.Equal(t, []int{27}, drain(t, future, 1))
}

func TestBoundsHold(t *testing.T) {
	for name, b := range map[string]Bounds{
		"bytes":   {Bytes: 1000, Time: time.Hour},
		"time":    {Bytes: 1 << 30, Time: 90 * time.Millisecond},
		"entries": {Bytes: 1 << 30, Time: time.Hour, Entries: 10},
	} {
		t.Run(name, func(t *testing.T) {
			l := NewLog(b, weighItem)
			for i := range 1000 {
				fill(l, i, i+1)
				s := l.Stats()
				require.LessOrEqual(t, s.Bytes, int64(l.bounds.Bytes))
				require.LessOrEqual(t, s.Span, l.bounds.Time)
				require.LessOrEqual(t, s.Entries, l.bounds.Entries)
			}
			require.Positive(t, l.Stats().Entries)
			require.Equal(t, int64(100*l.Stats().Entries), l.Stats().Bytes)
		})
	}
	t.Run("one entry above the bound is kept", func(t *testing.T) {
		l := NewLog(Bounds{Bytes: 10}, weighItem)
		fill(l, 0, 2)
		require.Equal(t, 1, l.Stats().Entries)
		require.Equal(t, []int{1}, drain(t, l.Subscribe(Seq(1)), 1))
	})
}

func TestLappedReaderIsToldOnceAndResumesAtNewestSync(t *testing.T) {
	l := NewLog(Bounds{Time: 250 * time.Millisecond}, weighItem)
	fill(l, 0, 1)
	c := l.Subscribe(Seq(0))
	fill(l, 1, 95)
	_, err := c.Next(t.Context())
	require.ErrorIs(t, err, ErrLapped)
	require.Equal(t, []int{90, 91}, drain(t, c, 2))
	require.Equal(t, uint64(90), c.Lost())
	require.Equal(t, uint64(1), l.Stats().Laps)
	require.Equal(t, uint64(90), l.Stats().Lost)
}

func TestNoSyncPointInsideBoundsWaitsForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLog(Bounds{Time: 40 * time.Millisecond}, weighItem)
		fill(l, 0, 8)
		c := l.Subscribe(LastSync)
		got := make(chan int, 1)
		go func() {
			v, err := c.Next(t.Context())
			if err == nil {
				got <- v.n
			}
		}()
		synctest.Wait()
		fill(l, 8, 10)
		synctest.Wait()
		require.Empty(t, got)
		fill(l, 10, 12)
		require.Equal(t, 10, <-got)
		require.Equal(t, uint64(1), l.Stats().SyncWaits)
	})
}

func TestLapWithoutSyncPointWaits(t *testing.T) {
	l := NewLog(Bounds{Time: 40 * time.Millisecond}, weighItem)
	fill(l, 0, 1)
	c := l.Subscribe(Seq(0))
	fill(l, 1, 18) // sync point 10 has left the bounds
	_, err := c.Next(t.Context())
	require.ErrorIs(t, err, ErrLapped)
	fill(l, 18, 22)
	require.Equal(t, []int{20, 21}, drain(t, c, 2))
}

func TestCloseLetsReadersFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLog(Bounds{}, weighItem)
		fill(l, 0, 3)
		var ends sync.WaitGroup
		for range 40 {
			ends.Go(func() {
				c := l.Subscribe(Seq(0))
				for n := 0; ; n++ {
					if _, err := c.Next(t.Context()); err != nil {
						require.ErrorIs(t, err, io.EOF)
						require.Equal(t, 3, n)
						return
					}
				}
			})
		}
		synctest.Wait() // all parked
		l.Close()
		ends.Wait()
		l.Append(&item{}, true)
		require.Equal(t, uint64(3), l.Stats().Head)
	})
}

func TestCancelledReaderLeavesTheList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLog(Bounds{}, weighItem)
		cause := errors.New("viewer left")
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				_, err := l.Subscribe(LiveEdge).Next(ctx)
				require.ErrorIs(t, err, cause)
			})
		}
		synctest.Wait()
		cancel(cause)
		wg.Wait()
		for i := range l.shards {
			require.Zero(t, l.shards[i].waiting.Load())
			require.Nil(t, l.shards[i].first)
		}
	})
}

// TestEveryReaderSeesEverythingInOrder races one writer against readers that
// park, keep up and lap, and readers whose context ends at any moment.
func TestEveryReaderSeesEverythingInOrder(t *testing.T) {
	const total, readers = 20000, 64
	l := NewLog(Bounds{Time: 2 * time.Second}, weighItem)
	var wg sync.WaitGroup
	for r := range readers {
		c := l.Subscribe(Seq(0))
		wg.Go(func() {
			next, laps := 0, 0
			for {
				v, err := c.Next(t.Context())
				switch {
				case errors.Is(err, ErrLapped):
					laps++
					next = -1
					continue
				case errors.Is(err, io.EOF):
					if next != total && next != -1 {
						t.Errorf("reader %d ended at %d", r, next)
					}
					return
				case err != nil:
					t.Error(err)
					return
				}
				if next >= 0 && v.n != next || next < 0 && v.n%10 != 0 {
					t.Errorf("reader %d got %d, wanted %d", r, v.n, next)
					return
				}
				next = v.n + 1
			}
		})
		wg.Go(func() { // comes and goes
			for !l.closed.Load() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r)*10*time.Microsecond)
				c := l.Subscribe(LiveEdge)
				for {
					if _, err := c.Next(ctx); err != nil {
						break
					}
				}
				cancel()
			}
		})
	}
	fill(l, 0, total)
	l.Close()
	wg.Wait()
}

func TestAppendAndNextDoNotAllocate(t *testing.T) {
	l := NewLog(Bounds{Time: 100 * time.Millisecond}, weighItem)
	fill(l, 0, 1000)
	c := l.Subscribe(LiveEdge)
	items := make([]item, 4000)
	i := 1000
	per := testing.AllocsPerRun(1000, func() {
		items[i-1000] = item{n: i, bytes: 100, at: time.Duration(i) * 10 * time.Millisecond}
		l.Append(&items[i-1000], i%10 == 0)
		i++
		if _, err := c.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	require.Zero(t, per)
}

func TestParkedNextDoesNotAllocate(t *testing.T) {
	l := NewLog(Bounds{Time: 100 * time.Millisecond}, weighItem)
	fill(l, 0, 1000)
	ping := make(chan struct{})
	go func() {
		c := l.Subscribe(LiveEdge)
		for {
			ping <- struct{}{}
			if _, err := c.Next(context.Background()); err != nil {
				close(ping)
				return
			}
		}
	}()
	<-ping
	items := make([]item, 4000)
	i := 1000
	per := testing.AllocsPerRun(1000, func() {
		for waiting := int32(0); waiting == 0; { // until it is parked
			waiting = 0
			for s := range l.shards {
				waiting += l.shards[s].waiting.Load()
			}
		}
		items[i-1000] = item{n: i, bytes: 100, at: time.Duration(i) * 10 * time.Millisecond}
		l.Append(&items[i-1000], true)
		i++
		<-ping
	})
	require.Zero(t, per)
	l.Close()
	for range ping {
	}
}

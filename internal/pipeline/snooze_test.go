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
)

func TestNextAtSleepsUntilItsTime(t *testing.T) {
	ms := time.Millisecond
	for name, c := range map[string]struct {
		wake  func(l *Log[item], cancel context.CancelCauseFunc)
		woken bool
	}{
		"an earlier entry":   {func(l *Log[item], _ context.CancelCauseFunc) { l.Append(&item{n: 1, at: 99 * ms}, false) }, false},
		"an entry in time":   {func(l *Log[item], _ context.CancelCauseFunc) { l.Append(&item{n: 1, at: 100 * ms}, false) }, true},
		"a sync point":       {func(l *Log[item], _ context.CancelCauseFunc) { l.Append(&item{n: 1, at: ms}, true) }, true},
		"the end of the log": {func(l *Log[item], _ context.CancelCauseFunc) { l.Close() }, true},
		"the end of ctx":     {func(_ *Log[item], cancel context.CancelCauseFunc) { cancel(io.ErrClosedPipe) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := NewLog(Bounds{}, weighItem)
				ctx, cancel := context.WithCancelCause(t.Context())
				cursor, ended := l.Subscribe(LiveEdge), make(chan struct{})
				go func() {
					defer close(ended)
					_, _ = cursor.NextAt(ctx, 100*ms)
				}()
				synctest.Wait()
				c.wake(l, cancel)
				synctest.Wait()
				select {
				case <-ended:
					require.True(t, c.woken)
				default:
					require.False(t, c.woken)
				}
				l.Close()
				<-ended
				require.Empty(t, l.snooze.list)
				require.Equal(t, int64(never), l.snooze.until.Load())
			})
		})
	}
}

func TestNextAtReturnsWhatIsThere(t *testing.T) {
	l := NewLog(Bounds{}, weighItem)
	fill(l, 0, 3)
	c := l.Subscribe(Seq(0))
	for n := range 3 {
		v, err := c.NextAt(t.Context(), time.Hour)
		require.NoError(t, err)
		require.Equal(t, n, v.n)
	}
}

// TestSnoozersMissNothing races a writer against readers that doze for the
// next tenth entry each time: nothing is lost and nobody sleeps for ever.
func TestSnoozersMissNothing(t *testing.T) {
	const total = 20000
	l := NewLog(Bounds{Time: time.Hour, Bytes: 1 << 30}, weighItem)
	var wg sync.WaitGroup
	for range 4 {
		c := l.Subscribe(Seq(0))
		wg.Go(func() {
			for n := 0; ; n++ {
				v, err := c.NextAt(t.Context(), time.Duration(n+10)*10*time.Millisecond)
				if errors.Is(err, io.EOF) && n == total {
					return
				}
				if err != nil || v.n != n {
					t.Errorf("entry %d: %v, %v", n, v, err)
					return
				}
			}
		})
	}
	fill(l, 0, total)
	l.Close()
	wg.Wait()
}

func TestDozingDoesNotAllocate(t *testing.T) {
	l := NewLog(Bounds{Time: 100 * time.Millisecond}, weighItem)
	fill(l, 0, 1000)
	ping := make(chan struct{})
	go func() {
		c := l.Subscribe(LiveEdge)
		for i := 1000; ; i++ {
			ping <- struct{}{}
			if _, err := c.NextAt(context.Background(), time.Duration(i)*10*time.Millisecond); err != nil {
				close(ping)
				return
			}
		}
	}()
	<-ping
	items := make([]item, 4000)
	i := 1000
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		for l.snooze.until.Load() == never { // until it dozes
		}
		items[i-1000] = item{n: i, bytes: 100, at: time.Duration(i) * 10 * time.Millisecond}
		l.Append(&items[i-1000], false)
		i++
		<-ping
	}))
	l.Close()
	for range ping {
	}
}

package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var readerCounts = [...]int{1, 10, 100, 1000}

// BenchmarkFanOut appends as fast as it can to a log with readers that all
// want everything, and beside it to the design we did not choose: a channel
// per reader. ns/op is the writer's cost of one packet; "lost/op" is what each
// design did not deliver.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range readerCounts {
		b.Run(fmt.Sprintf("log/readers=%d", n), func(b *testing.B) { benchLog(b, n) })
		b.Run(fmt.Sprintf("channels/readers=%d", n), func(b *testing.B) { benchChannels(b, n) })
	}
}

func benchLog(b *testing.B, readers int) {
	l := NewLog(Bounds{Time: 10 * time.Second}, weighItem)
	items := benchItems()
	for i := range items {
		l.Append(&items[i], i%10 == 0)
	}
	var wg sync.WaitGroup
	for range readers {
		c := l.Subscribe(LiveEdge)
		wg.Go(func() {
			for {
				if _, err := c.Next(context.Background()); errors.Is(err, io.EOF) {
					return
				}
			}
		})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		l.Append(&items[i%len(items)], i%10 == 0)
	}
	b.StopTimer()
	b.ReportMetric(float64(l.Stats().Lost)/float64(b.N), "lost/op")
	l.Close()
	wg.Wait()
}

func benchChannels(b *testing.B, readers int) {
	items := benchItems()
	var lost int
	chans := make([]chan *item, readers)
	var wg sync.WaitGroup
	for i := range chans {
		ch := make(chan *item, 512)
		chans[i] = ch
		wg.Go(func() {
			for v := range ch {
				_ = v
			}
		})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		for _, ch := range chans {
			select {
			case ch <- &items[i%len(items)]:
			default:
				lost++
			}
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(lost)/float64(b.N), "lost/op")
	for _, ch := range chans {
		close(ch)
	}
	wg.Wait()
}

func benchItems() []item {
	items := make([]item, 1024)
	for i := range items {
		items[i] = item{n: i, bytes: 1000}
	}
	return items
}

// BenchmarkWakeLatency paces a writer at 100 packets/s before parked readers
// and reports how long after Append the median and the last reader had it.
func BenchmarkWakeLatency(b *testing.B) {
	for _, n := range readerCounts {
		b.Run(fmt.Sprintf("readers=%d", n), func(b *testing.B) {
			l := NewLog(Bounds{}, weighItem)
			var appended atomic.Int64
			start := time.Now()
			var got sync.WaitGroup
			delays := make([]time.Duration, n)
			var wg sync.WaitGroup
			for i := range n {
				c := l.Subscribe(LiveEdge)
				wg.Go(func() {
					for {
						if _, err := c.Next(context.Background()); err != nil {
							return
						}
						delays[i] = time.Since(start) - time.Duration(appended.Load())
						got.Done()
					}
				})
			}
			var median, last []time.Duration
			pace := time.NewTicker(10 * time.Millisecond) // 100 packets/s
			defer pace.Stop()
			for range b.N {
				<-pace.C
				got.Add(n)
				appended.Store(int64(time.Since(start)))
				l.Append(&item{bytes: 1}, true)
				got.Wait()
				slices.Sort(delays)
				median = append(median, delays[n/2])
				last = append(last, delays[n-1])
			}
			slices.Sort(median)
			slices.Sort(last)
			b.ReportMetric(float64(median[len(median)/2].Microseconds()), "µs-median")
			b.ReportMetric(float64(last[len(last)*99/100].Microseconds()), "µs-last-p99")
			l.Close()
			wg.Wait()
		})
	}
}

// BenchmarkLapping appends in bursts of 10 to a log that is filled to its
// bounds, with readers of which one in ten is stuck most of the time and is
// lapped whenever it looks again. "laps/op" shows that they were.
func BenchmarkLapping(b *testing.B) {
	for _, n := range readerCounts[1:] {
		b.Run(fmt.Sprintf("readers=%d", n), func(b *testing.B) {
			l := NewLog(Bounds{Time: time.Second}, weighItem)
			i := 0
			add := func() {
				l.Append(&item{n: i, bytes: 100, at: time.Duration(i) * 10 * time.Millisecond}, i%10 == 0)
				i++
			}
			for range 200 {
				add()
			}
			ctx, cancel := context.WithCancel(b.Context())
			var wg sync.WaitGroup
			for r := range n {
				c, stuck := l.Subscribe(LiveEdge), r%10 == 0
				wg.Go(func() {
					pace := time.NewTicker(20 * time.Millisecond)
					defer pace.Stop()
					for {
						if _, err := c.Next(ctx); err != nil && !errors.Is(err, ErrLapped) {
							return
						}
						if stuck {
							<-pace.C
						}
					}
				})
			}
			b.ReportAllocs()
			b.ResetTimer()
			for k := range b.N {
				add()
				if k%10 == 9 {
					runtime.Gosched() // others share these two cores
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(l.Stats().Laps)/float64(b.N), "laps/op")
			cancel()
			wg.Wait()
		})
	}
}

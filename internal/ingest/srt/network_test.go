package srt

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/srt/srttest"
)

// TestBadNetwork: 5 % loss, 20 ms of jitter and reordering are mended; two
// seconds of darkness are a discontinuity and nothing worse.
func TestBadNetwork(t *testing.T) {
	d := open(t, tokenGate(), nil)
	n, err := srttest.OpenNetwork(d.addr, srttest.Conditions{Loss: 0.05, Jitter: 20 * time.Millisecond, Seed: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	c, err := srttest.Dial(n.Addr(), srttest.Options{StreamID: streamID, Latency: 300 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	list := messages(t, 125, 1)
	tick := time.NewTicker(5 * time.Second / time.Duration(len(list))) // at its own speed
	defer tick.Stop()
	for i, b := range list {
		switch i {
		case len(list) / 5:
			n.Darken(true)
		case len(list) * 3 / 5:
			n.Darken(false)
		}
		<-tick.C
		_, err := c.Write(b)
		require.NoError(t, err)
	}
	p := await(t, d.gate.opened, "publication")
	link := &p.request.Counters.Link
	p.wait(t, 60)
	t.Cleanup(func() {
		t.Log("received", link.Packets.Load(), "lost", link.Lost.Load(), "sent again", link.Retransmitted.Load(),
			"dropped", link.Dropped.Load(), "discontinuities", link.Discontinuities.Load())
	})
	require.Eventually(t, func() bool {
		return link.Retransmitted.Load() > 0 && link.Lost.Load() > 0 && link.Discontinuities.Load() > 0
	}, patience/4, 20*time.Millisecond)
	c.Close()
	await(t, p.closed, "end")
	marked, last := 0, map[media.Kind]time.Duration{}
	for _, q := range p.written() {
		if q.Flags.Has(media.Discontinuity) {
			marked++
		}
		before, ok := last[q.Track.Kind]
		require.True(t, !ok || q.DTS > before, "time goes on")
		last[q.Track.Kind] = q.DTS
	}
	require.NotZero(t, marked)
	require.Less(t, marked, 16, "most of the loss is mended: each hole shows in two tracks")
}

// TestNothingIsLeftBehind: connections that come and go leave no descriptors
// and no threads.
func TestNothingIsLeftBehind(t *testing.T) {
	d := open(t, tokenGate(), nil)
	list := messages(t, 2, 1)
	cycle := func(n int) {
		for range n {
			c := d.call(t, srttest.Options{})
			send(t, c, list)
			p := await(t, d.gate.opened, "publication")
			c.Close()
			await(t, p.closed, "end")
		}
		require.Eventually(t, func() bool { return d.stats.Connections.Load() == 0 }, patience, time.Millisecond)
	}
	count := func(dir string) int {
		list, err := os.ReadDir(dir)
		require.NoError(t, err)
		return len(list)
	}
	cycle(10)
	files, threads, goroutines := count("/proc/self/fd"), count("/proc/self/task"), runtime.NumGoroutine()
	cycle(60)
	require.Eventually(t, func() bool {
		return count("/proc/self/fd") <= files+4 && count("/proc/self/task") <= threads+8 && runtime.NumGoroutine() <= goroutines+2
	}, patience, 50*time.Millisecond, "%d %d %d, then %d %d %d", files, threads, goroutines,
		count("/proc/self/fd"), count("/proc/self/task"), runtime.NumGoroutine())
}

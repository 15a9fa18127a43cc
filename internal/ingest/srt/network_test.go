//go:build srt

package srt

import (
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/ingest/srt/srttest"
	"github.com/klive-media/klive/internal/media"
)

// network is a way between a caller and a door that loses, delays and reorders
// packets.
type network struct {
	net.PacketConn
	loss   float64 // of all packets
	jitter time.Duration
	black  atomic.Bool // nothing comes through

	mu     sync.Mutex // guards rand
	rand   *rand.Rand
	timers sync.WaitGroup
}

// openNetwork makes a way to a door for one caller.
func openNetwork(t testing.TB, to net.Addr, loss float64, jitter time.Duration) *network {
	t.Helper()
	in, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	out, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	n := &network{PacketConn: in, loss: loss, jitter: jitter, rand: rand.New(rand.NewPCG(1, 2))}
	var caller atomic.Pointer[net.Addr]
	var ended sync.WaitGroup
	ended.Go(func() {
		n.carry(in, func(from net.Addr, b []byte) {
			caller.Store(&from)
			_, _ = out.WriteTo(b, to)
		})
	})
	ended.Go(func() {
		n.carry(out, func(_ net.Addr, b []byte) {
			if a := caller.Load(); a != nil {
				_, _ = in.WriteTo(b, *a)
			}
		})
	})
	t.Cleanup(func() {
		_ = in.Close()
		_ = out.Close()
		ended.Wait()
		n.timers.Wait()
	})
	return n
}

func (n *network) carry(from net.PacketConn, deliver func(net.Addr, []byte)) {
	buf := make([]byte, 2048)
	for {
		size, addr, err := from.ReadFrom(buf)
		if err != nil {
			return
		}
		n.mu.Lock()
		lost := n.rand.Float64() < n.loss || n.black.Load()
		delay := time.Duration(n.rand.Float64() * float64(n.jitter))
		n.mu.Unlock()
		if lost {
			continue
		}
		b := append([]byte(nil), buf[:size]...)
		n.timers.Add(1)
		time.AfterFunc(delay, func() {
			defer n.timers.Done()
			deliver(addr, b)
		})
	}
}

// TestBadNetwork: 5 % loss, 20 ms of jitter and reordering are mended; two
// seconds of darkness are a discontinuity and nothing worse.
func TestBadNetwork(t *testing.T) {
	d := open(t, tokenGate(), nil)
	n := openNetwork(t, d.addr, 0.05, 20*time.Millisecond)
	c, err := srttest.Dial(n.LocalAddr(), srttest.Options{StreamID: streamID, Latency: 300 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	list := messages(t, 125, 1)
	tick := time.NewTicker(5 * time.Second / time.Duration(len(list))) // at its own speed
	defer tick.Stop()
	for i, b := range list {
		switch i {
		case len(list) / 5:
			n.black.Store(true)
		case len(list) * 3 / 5:
			n.black.Store(false)
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
	require.LessOrEqual(t, marked, 8, "most of the loss is mended")
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
	// libsrt keeps what is closed for some seconds; the threads of Go stay for the next use.
	require.Eventually(t, func() bool {
		return count("/proc/self/fd") <= files+4 && count("/proc/self/task") <= threads+8 && runtime.NumGoroutine() <= goroutines+2
	}, patience, 50*time.Millisecond, "%d %d %d, then %d %d %d", files, threads, goroutines,
		count("/proc/self/fd"), count("/proc/self/task"), runtime.NumGoroutine())
}

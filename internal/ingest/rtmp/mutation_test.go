package rtmp

import (
	"bytes"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	wire "github.com/klive-media/klive/internal/rtmp"
	"github.com/klive-media/klive/internal/rtmp/handshake"
)

// tap is a connection that keeps what is written to it.
type tap struct {
	net.Conn
	sent bytes.Buffer
}

func (c *tap) Write(p []byte) (int, error) {
	c.sent.Write(p)
	return c.Conn.Write(p)
}

// record is a good session as its client sends it.
func record(t *testing.T, d *door) []byte {
	nc, err := net.Dial("tcp", d.addr)
	require.NoError(t, err)
	c := &tap{Conn: nc}
	w := wire.NewClientConn(c, wire.Options{})
	require.NoError(t, w.Connect(wire.Connect{App: "kLive?t=s3cret", TcURL: "rtmp://localhost/kLive"}))
	require.NoError(t, w.Publish("lobby_1"))
	p := await(t, d.gate.opened, "publication")
	for _, tc := range demuxCases(t)[:8] {
		send(t, w, tc.in...)
	}
	require.NoError(t, w.Unpublish("lobby_1"))
	require.NoError(t, w.Close())
	await(t, p.closed, "close")
	b := c.sent.Bytes()
	// The handshake is random; zeros make the session the same each time.
	clear(b[1 : 1+2*handshake.PacketSize])
	return b
}

// mutate changes some bytes behind the first of the handshake: flips, cuts,
// repeats, and numbers at the edges of their range.
func mutate(r *rand.Rand, in []byte) []byte {
	b := bytes.Clone(in)
	body := 1 + 2*handshake.PacketSize
	for range 1 + r.IntN(4) {
		at := body + r.IntN(len(b)-body)
		switch r.IntN(6) {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			b[at] = []byte{0, 1, 0x7f, 0x80, 0xff, 0x03, 0x0a, 0x11}[r.IntN(8)]
		case 2:
			b = b[:max(at, body+1)]
		case 3:
			end := min(len(b), at+r.IntN(64))
			b = append(b[:end:end], b[at:]...)
		case 4:
			b = append(b[:at:at], b[min(len(b), at+r.IntN(16)):]...)
		case 5:
			for i := at; i < min(len(b), at+4); i++ {
				b[i] = 0xff
			}
		}
		if len(b) <= body+1 {
			return b
		}
	}
	return b
}

// TestMutatedSessions sends a thousand broken sessions; the door stays up and
// keeps nothing of them.
func TestMutatedSessions(t *testing.T) {
	d := open(t, nil)
	d.gate.opened = make(chan *publication, 2000)
	good := record(t, d)
	random := rand.New(rand.NewPCG(42, 42)) //nolint:gosec // a repeatable test
	hit := func(n int) {
		for range n {
			nc, err := net.Dial("tcp", d.addr)
			require.NoError(t, err)
			b := mutate(random, good)
			require.NoError(t, nc.SetDeadline(time.Now().Add(patience)))
			_, _ = nc.Write(b) // the door may hang up in the middle
			_ = nc.(*net.TCPConn).CloseWrite()
			_, err = nc.Read(make([]byte, 1)) // S0, or the end
			_ = err
			for err == nil {
				_, err = nc.Read(make([]byte, 4096))
			}
			require.NoError(t, nc.Close())
		}
		settled := func() bool { return d.stats.Connections.Load() == 0 }
		require.Eventually(t, settled, patience, time.Millisecond)
		for len(d.gate.opened) > 0 {
			await(t, (<-d.gate.opened).closed, "close")
		}
	}
	measure := func() (goroutines int, heap uint64) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	hit(100)
	goroutines, heap := measure()
	hit(900)
	afterGoroutines, afterHeap := measure()
	require.LessOrEqual(t, afterGoroutines, goroutines+2)
	require.LessOrEqual(t, afterHeap, heap+2<<20)
	require.Zero(t, d.stats.Panics.Load(), d.log)

	// And the door still serves.
	c, err := d.dial(t, "kLive?t=s3cret", "lobby_1")
	require.NoError(t, err)
	send(t, c, videoConfig(avcSmall), keyFrame(0))
	until(t, await(t, d.gate.opened, "publication"), 1)
}

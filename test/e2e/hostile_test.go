//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/test/e2e/encoder"
	"github.com/klive-media/klive/test/e2e/harness"
)

// recorder is a connection that keeps what is written to it.
type recorder struct {
	net.Conn
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	r.buf.Write(p)
	r.mu.Unlock()
	return r.Conn.Write(p)
}

// recordSession is all that a good encoder writes in a session of two seconds.
func recordSession(t *testing.T, s *harness.Server, id string) []byte {
	t.Helper()
	nc, err := net.Dial("tcp", s.RTMP)
	require.NoError(t, err)
	r := &recorder{Conn: nc}
	c, err := encoder.Wrap(t.Context(), r, encoder.Catalog(s.RTMP, id, token))
	require.NoError(t, err)
	media := clip(t)
	require.NoError(t, c.Send(media.Setup...))
	for _, tag := range media.Media {
		if tag.Time > 2*time.Second {
			break
		}
		require.NoError(t, c.Send(tag))
	}
	c.Close()
	return r.buf.Bytes()
}

// mutate changes a few places of a session: bytes, lengths, cuts, repeats.
func mutate(random *rand.Rand, session []byte) []byte {
	b := bytes.Clone(session)
	for range 1 + random.IntN(6) {
		// Most of the meaning stands in the first few kilobytes behind the handshake.
		reach := len(b)
		if random.IntN(3) > 0 {
			reach = min(reach, 8<<10)
		}
		at := random.IntN(reach)
		switch random.IntN(6) {
		case 0:
			b[at] ^= 1 << random.IntN(8)
		case 1:
			b[at] = byte(random.Uint32())
		case 2:
			copy(b[at:], []byte{0xff, 0xff, 0xff, 0xff})
		case 3:
			return b[:at+1]
		case 4:
			end := min(len(b), at+1+random.IntN(64))
			b = append(b[:end:end], b[at:]...)
		case 5:
			end := min(len(b), at+1+random.IntN(64))
			b = append(b[:at:at], b[end:]...)
		}
	}
	return b
}

// attack plays one mutated session: it writes while it reads, and hangs up when all was written and nothing more comes.
func attack(address string, session []byte) error {
	nc, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(5 * time.Second)) // of an open connection
	read := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, nc) // the server hangs up
		close(read)
	}()
	_, _ = nc.Write(session) // the server may hang up first
	_ = nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	<-read
	return nil
}

// A thousand broken sessions leave the server up, its memory and goroutines flat, and a good encoder untouched.
func TestMutatedSessionsLeaveTheServerUp(t *testing.T) {
	s := harness.Start(t, catalog)
	playClip(t, s, "lobby")
	s.AwaitPlayable(t, "lobby")
	session := recordSession(t, s, "event-hostile")

	seed := rand.Uint64()
	t.Logf("seed %d; the session has %d bytes", seed, len(session))
	random := rand.New(rand.NewPCG(seed, seed))
	batch := func(n int) {
		jobs := make(chan []byte)
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() {
				for job := range jobs {
					if err := attack(s.RTMP, job); err != nil {
						t.Errorf("the server no longer accepts: %v", err)
					}
				}
			})
		}
		for range n {
			jobs <- mutate(random, session)
		}
		close(jobs)
		wait.Wait()
	}
	batch(200) // pools and tables get their size
	goroutines := settled(t, s, 1<<20)
	before, err := harness.Usages(s.PID())
	require.NoError(t, err)
	batch(1000)
	require.True(t, s.Alive())
	after := settled(t, s, goroutines+4)
	usage, err := harness.Usages(s.PID())
	require.NoError(t, err)
	t.Logf("goroutines %v then %v; memory %d MB then %d MB", goroutines, after, before.RSS>>20, usage.RSS>>20)
	require.Less(t, usage.RSS-before.RSS, int64(48<<20), "memory grew")
	require.NotContains(t, s.Log(), "panic")
	require.NotContains(t, s.Log(), "goroutine ")

	// The good encoder was never disturbed.
	sessions := s.Sessions(t, "lobby")
	require.Len(t, sessions, 1)
	require.Nil(t, sessions[0].GetEndTime())
}

// settled waits until no more than limit goroutines run and their number stands still, and returns it.
func settled(t *testing.T, s *harness.Server, limit float64) float64 {
	t.Helper()
	last, still := -1.0, 0
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	err := harness.Until(ctx, 200*time.Millisecond, func() (bool, error) {
		n, err := s.Metric(ctx, "go_goroutines")
		if err != nil {
			return false, err
		}
		if n != last || n > limit {
			last, still = n, 0
			return false, nil
		}
		still++
		return still >= 5, nil
	})
	require.NoError(t, err, "the goroutines do not settle: %v run, at most %v expected", last, limit)
	return last
}

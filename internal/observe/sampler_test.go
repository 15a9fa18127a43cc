package observe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

// take returns the lines written since the last call, without time and level.
func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := strings.TrimSuffix(l.out.String(), "\n")
	l.out.Reset()
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

func newLines() (*lines, *slog.Logger) {
	l := &lines{}
	return l, slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func TestSamplerCountsRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, log := newLines()
		s := NewSampler(log, slog.LevelWarn)
		bad := errors.New("short header")
		for range 100 {
			s.Count("bad packet", bad)
		}
		require.Equal(t, []string{`msg="bad packet" error="short header"`}, out.take())
		s.Count("refused", nil)
		require.Equal(t, []string{`msg=refused`}, out.take())

		time.Sleep(SampleInterval)
		s.Count("bad packet", bad)
		require.Equal(t, []string{`msg="bad packet" count=100 error="short header"`}, out.take())

		s.Count("bad packet", errors.New("newest"))
		s.Flush()
		require.Equal(t, []string{`msg="bad packet" error=newest`}, out.take())
		s.Flush()
		require.Empty(t, out.take())
	})
}

func TestSamplerRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, log := newLines()
		s := NewSampler(log, slog.LevelWarn)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.Run(ctx) }) // never fails
		s.Count("bad packet", nil)
		s.Count("bad packet", nil)
		s.Count("bad packet", nil)
		require.Len(t, out.take(), 1)
		time.Sleep(SampleInterval + time.Second)
		synctest.Wait()
		require.Equal(t, []string{`msg="bad packet" count=2`}, out.take())
		s.Count("bad packet", nil)
		cancel()
		wg.Wait()
		require.Equal(t, []string{`msg="bad packet"`}, out.take())
	})
}

func TestSamplerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, log := newLines()
		s := NewSampler(log, slog.LevelWarn)
		for i := range 3 * maxSampled {
			s.Count(fmt.Sprintf("event %d", i), nil)
		}
		require.Len(t, out.take(), maxSampled+1)
		s.Flush()
		require.Equal(t, []string{fmt.Sprintf("msg=%q count=%d", otherEvents, 2*maxSampled-1)}, out.take())
	})
}

// Counting what is not reported must cost nothing: a peer decides how often it happens.
func TestSamplerDoesNotAllocate(t *testing.T) {
	_, log := newLines()
	s := NewSampler(log, slog.LevelWarn)
	err := errors.New("bad")
	s.Count("bad packet", err)
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Count("bad packet", err) }))
}

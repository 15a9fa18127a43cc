package delivery

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/stream"
)

// text is a log that may be read while it is written.
type text struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *text) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }

func (l *text) count(of string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), of)
}

func TestFilesThatTheBackendDoesNotSee(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Options)
		says   string
	}{
		"shared disk": {nil, "kaltura.shared_directory, kaltura.backend_directory and recording.group"},
		"in place":    {func(o *Options) { o.SharedDir = "" }, "recording.directory and recording.group"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, log := newHouse(t, nil), &text{}
				q, stop := h.start(func(o *Options) {
					if o.Logger = slog.New(slog.NewTextHandler(log, nil)); c.change != nil {
						c.change(o)
					}
				})
				defer stop()
				r := h.recs.begin("rec1", entry, 0)
				for n := 1; n <= 2; n++ {
					fault := h.inject(kalturatest.Fault{Kind: kalturatest.Code, Code: "LOCAL_FILE_NOT_FOUND", Action: "appendRecording"})
					h.recs.piece(r, "32", n, false)
					time.Sleep(4 * time.Second)
					require.Equal(t, n-1, log.count("does not see"))
					d := stateOf(q, "rec1", "32", n)
					require.Equal(t, stream.DeliveryQueued, d.State)
					require.Contains(t, d.Error, c.says)
					time.Sleep(20 * time.Minute)
					require.Equal(t, n, log.count("does not see"), "once until it succeeds")
					h.backend.ClearFaults(fault)
					time.Sleep(2 * time.Minute)
					require.Empty(t, q.Open())
				}
				require.Zero(t, h.journal.count(stream.DeliveryFailed))
			})
		})
	}
}

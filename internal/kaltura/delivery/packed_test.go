package delivery

import (
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/stream"
)

// inMemory is how many rows a queue has in memory.
func (q *Queue) inMemory() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.table)
}

func shownOf(t *testing.T, q *Queue, recording string) (out []string) {
	for _, d := range q.Of(recording) {
		out = append(out, asJSON(t, d))
	}
	return out
}

func TestRowsOfOldRecordingsLeaveTheMemory(t *testing.T) {
	for name, change := range map[string]func(*Options){"shared disk": nil, "in place": func(o *Options) { o.SharedDir = "" }} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				q, stop := h.start(change)
				r := h.recs.begin("rec1", entry, 0)
				h.record(r)
				going := h.recs.begin("rec2", entryB, 0)
				h.recs.piece(going, "0", 1, false)
				time.Sleep(23 * time.Hour)
				require.Equal(t, 16, q.inMemory(), "the backend may still read them")
				before := shownOf(t, q, "rec1")
				time.Sleep(4 * time.Hour)
				require.Equal(t, 1, q.inMemory(), "that of the one that goes on")
				require.Equal(t, before, shownOf(t, q, "rec1"))
				require.Equal(t, 15, q.Stats().Delivered)
				require.True(t, q.Delivered("rec1"))
				require.False(t, q.Delivered("rec2"))
				require.False(t, q.Holds("rec1", "32", 5))
				require.True(t, q.Holds("rec1", "32", 6))
				ok, _ := q.Settled(entry, 0)
				require.True(t, ok)
				_, err := q.Retry(t.Context(), "rec1", "", 0)
				require.Equal(t, fault.NothingToDeliver, fault.ReasonOf(err))
				_, err = q.Accept(jane(t), "rec1", "", 0)
				require.Equal(t, fault.NothingToDeliver, fault.ReasonOf(err))

				h.disk.set(nil, errors.New("no disk"))
				require.Equal(t, []string{"32/1 DELIVERED", "32/2 DELIVERED"}, states(q, "rec1")[:2])
				h.recs.piece(r, "32", 6, true) // it was unreadable, say
				time.Sleep(time.Minute)
				require.Equal(t, 1, q.inMemory(), "what is known stays known when the store does not answer")
				h.disk.set(nil, nil)
				time.Sleep(5 * time.Minute)
				require.Equal(t, 17, q.inMemory())
				h.recs.change(func() {})
				time.Sleep(26 * time.Hour)
				require.Equal(t, 1, q.inMemory())

				stop()
				q, stop = h.start(change)
				defer stop()
				time.Sleep(2 * tidyAgain)
				require.Equal(t, 1, q.inMemory())
				require.Equal(t, want("rec1", "32", 1, 6), h.got()[lane1(entry, "32", 0)], "each once")

				for _, p := range r.Pieces {
					require.NoError(t, os.Remove(p.File))
				}
				h.recs.change(func() { h.recs.list = []*stream.Recording{going} })
				time.Sleep(27 * time.Hour)
				require.Empty(t, q.Of("rec1"))
				rows, err := h.disk.List(t.Context())
				require.NoError(t, err)
				require.Len(t, rows, 1, "and they go with the recording")
				require.Eventually(t, func() bool {
					q.mu.Lock()
					defer q.mu.Unlock()
					return q.known["rec1"] == nil
				}, 3*time.Hour, time.Minute)
			})
		})
	}
}

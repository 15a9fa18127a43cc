package delivery

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/stream"
)

// TestANewerRecordingDoesNotOvertake is of a piece that is still being finished
// when the next recording of its lane has one ready.
func TestANewerRecordingDoesNotOvertake(t *testing.T) {
	for name, lost := range map[string]bool{"finished late": false, "never finished": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				q, stop := h.start(nil)
				defer stop()
				a := h.recs.begin("reca", entry, 0)
				h.recs.piece(a, "32", 1, false)
				h.recs.change(func() { a.Pieces = append(a.Pieces, stream.Piece{Rendition: "32", Number: 2}) })
				h.recs.end(a)
				time.Sleep(time.Minute)
				b := h.recs.begin("recb", entry, 0)
				h.recs.piece(b, "32", 1, false)
				h.recs.piece(b, "33", 1, false)
				time.Sleep(overtakeAfter - 2*time.Minute)
				require.Equal(t, []string{"33/1 DELIVERED"}, states(q, "recb"), "other lanes do not wait")
				ok, _ := q.Settled(entry, 0)
				require.False(t, ok)
				if !lost {
					whole := stream.Piece{Rendition: "32", Number: 2, Duration: pieceDuration, Finished: true, Last: true, File: filepath.Join(h.recs.dir, "late.mp4")}
					require.NoError(t, os.WriteFile(whole.File, content("reca", "32", 2), 0o600))
					h.recs.change(func() { a.Pieces[1] = whole })
					time.Sleep(time.Minute)
					require.Equal(t, append(want("reca", "32", 1, 2), want("recb", "32", 1, 1)...), h.got()[lane1(entry, "32", 0)])
					require.Zero(t, h.journal.count(stream.DeliveryDoubted))
					return
				}
				time.Sleep(3 * time.Minute)
				require.Equal(t, slices.Concat(want("reca", "32", 1, 1), want("recb", "32", 1, 1)), h.got()[lane1(entry, "32", 0)])
				h.recs.piece(b, "32", 2, false)
				time.Sleep(time.Minute)
				require.Equal(t, want("recb", "32", 1, 2), h.got()[lane1(entry, "32", 0)][1:], "the rest does not wait once more")
				require.Equal(t, 1, h.journal.count(stream.DeliveryDoubted), "and it is said once")
			})
		})
	}
}

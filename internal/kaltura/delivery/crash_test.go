package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/store"
	"github.com/klive-media/klive/internal/stream"
)

// errKilled is what a process that was killed hears, if it could.
var errKilled = errors.New("killed")

// killed makes the disk stand still from a moment on: nothing that the process
// does after it has any effect.
type killed struct {
	h    *house
	when func(what string, r *row, after bool) bool
	dead chan struct{}
}

func (h *house) killWhen(when func(what string, r *row, after bool) bool) *killed {
	k := &killed{h: h, when: when, dead: make(chan struct{})}
	h.disk.set(func(_ context.Context, what string, r *row, after bool) error {
		select {
		case <-k.dead:
			return errKilled
		default:
		}
		if !when(what, r, after) {
			return nil
		}
		k.die()
		return errKilled
	}, nil)
	return k
}

// die also cuts the line: a dead process calls nobody.
func (k *killed) die() {
	close(k.dead)
	k.h.disk.set(nil, errKilled)
	k.h.line.set(true)
}

// revive brings disk and line back for the next process.
func (k *killed) revive() {
	k.h.disk.set(nil, nil)
	k.h.line.set(false)
}

func TestACrashAtEveryStep(t *testing.T) {
	second := func(r *row) bool { return r.Number == 2 }
	for name, c := range map[string]struct {
		when func(what string, r *row, after bool) bool
		// of piece 2: what becomes of it in the lane of the anchor, and of the rest
		doubtful, carried bool
	}{
		"before the row":    {func(what string, r *row, after bool) bool { return what == "create" && second(r) && !after }, false, false},
		"after the row":     {func(what string, r *row, after bool) bool { return what == "create" && second(r) && after }, false, false},
		"before the intent": {func(_ string, r *row, after bool) bool { return r.State == sending && second(r) && !after }, false, false},
		"after the intent":  {func(_ string, r *row, after bool) bool { return r.State == sending && second(r) && after }, true, false},
		"after the call":    {func(_ string, r *row, after bool) bool { return r.State == delivered && second(r) && !after }, true, true},
		"after the outcome": {func(_ string, r *row, after bool) bool { return r.State == delivered && second(r) && after }, false, true},
	} {
		for _, rendition := range []string{"32", "33"} {
			t.Run(name+" of "+rendition, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newHouse(t, nil)
					_, stop := h.start(nil)
					r := h.recs.begin("rec1", entry, 0)
					h.recs.piece(r, rendition, 1, false)
					synctest.Wait()
					k := h.killWhen(c.when)
					h.recs.piece(r, rendition, 2, false)
					time.Sleep(time.Second)
					<-k.dead
					stop()
					k.revive()
					h.recs.piece(r, rendition, 3, true)
					h.recs.end(r)

					q, stop := h.start(nil)
					defer stop()
					require.True(t, q.Holds("rec1", rendition, 3))
					time.Sleep(settled + 30*time.Second)
					expected := want("rec1", rendition, 1, 3)
					doubt := c.doubtful && rendition != "32"
					if doubt && !c.carried {
						expected = append(want("rec1", rendition, 1, 1), want("rec1", rendition, 3, 3)...)
					}
					require.Equal(t, expected, h.got()[lane1(entry, rendition, 0)])
					if doubt {
						require.Len(t, q.Open(), 1)
						require.Equal(t, stream.DeliveryInDoubt, stateOf(q, "rec1", rendition, 2).State)
						require.Equal(t, 1, h.journal.count(stream.DeliveryDoubted))
					} else {
						require.Empty(t, q.Open())
					}
					ok, _ := q.Settled(entry, 0)
					require.True(t, ok)
				})
			})
		}
	}
}

func TestTheServerStopsDuringACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		_, stop := h.start(nil)
		r := h.recs.begin("rec1", entry, 0)
		h.inject(kalturatest.Fault{Kind: kalturatest.Slow, Action: "appendRecording", Delay: 5 * time.Second, Times: 1})
		h.recs.piece(r, "33", 1, false)
		time.Sleep(time.Second)
		stop()
		q, stop := h.start(nil)
		defer stop()
		require.Equal(t, []string{"33/1 DELIVERED"}, states(q, "rec1"), "the answer was waited for")
	})
}

func TestABackendThatTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		q, stop := h.start(nil)
		defer stop()
		r := h.recs.begin("rec1", entry, 0)
		h.inject(kalturatest.Fault{Kind: kalturatest.Slow, Action: "appendRecording", Delay: 59 * time.Second, Times: 1})
		h.recs.piece(r, "33", 1, false)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"33/1 DELIVERED"}, states(q, "rec1"), "the longest that PHP works")
	})
}

func TestTheDiskFailsForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		q, stop := h.start(nil)
		defer stop()
		r := h.recs.begin("rec1", entry, 0)
		h.disk.set(func(_ context.Context, _ string, r *row, after bool) error {
			if r.State == sending && after {
				h.disk.set(nil, errKilled) // the call is made; what became of it cannot be written
			}
			return nil
		}, nil)
		h.recs.piece(r, "33", 1, false)
		h.recs.piece(r, "33", 2, false)
		time.Sleep(3 * time.Minute)
		require.Len(t, h.backend.State().Segments, 1)
		h.disk.set(nil, nil)
		time.Sleep(3 * time.Minute)
		require.Equal(t, want("rec1", "33", 1, 2), h.got()[lane1(entry, "33", 0)])
		require.Empty(t, q.Open())

		// The intent is written and only the answer to the write is lost: no
		// call was made, and the row says so again.
		h.disk.set(func(_ context.Context, _ string, r *row, after bool) error {
			if r.State == sending && after {
				h.disk.set(nil, errKilled)
				return errKilled
			}
			return nil
		}, nil)
		h.recs.piece(r, "33", 3, false)
		time.Sleep(time.Second)
		require.Len(t, h.backend.State().Segments, 2)
		h.disk.set(nil, nil)
		time.Sleep(3 * time.Minute)
		require.Equal(t, want("rec1", "33", 1, 3), h.got()[lane1(entry, "33", 0)])
		require.Empty(t, q.Open())
		require.Zero(t, q.Stats().Doubted)
	})
}

// The same over the real store, in real time.
func TestRowsSurviveInTheStore(t *testing.T) {
	h := newHouse(t, nil)
	dir := t.TempDir()
	opened := func() *store.Store {
		s, err := store.Open(t.Context(), store.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		return s
	}
	within := func(q *Queue, done func() bool) {
		deadline := time.NewTimer(20 * time.Second)
		defer deadline.Stop()
		for {
			changed := q.Changed()
			if done() {
				return
			}
			select {
			case <-changed:
			case <-deadline.C:
				require.FailNow(t, "in vain", "%v", states(q, "rec1"))
			}
		}
	}
	s := opened()
	real := func(o *Options) { o.Store, o.rows = s, nil }
	q, stop := h.start(real)
	r := h.recs.begin("rec1", entry, 0)
	h.recs.piece(r, "33", 1, false)
	h.recs.piece(r, "1~hi", 1, false)
	within(q, func() bool { return q.Stats().Sent == 1 })
	h.line.set(true)
	h.recs.piece(r, "33", 2, false)
	within(q, func() bool { // what is under way is not retried
		d := stateOf(q, "rec1", "33", 2)
		return d.Attempts > 0 && d.State == stream.DeliveryQueued
	})
	_, err := q.Retry(t.Context(), "rec1", "33", 2)
	require.NoError(t, err)
	stop()
	s.Close()

	h.line.set(false)
	s = opened()
	defer s.Close()
	q, stop = h.start(real)
	defer stop()
	within(q, func() bool { return q.Stats().Sent == 1 })
	require.Equal(t, want("rec1", "33", 1, 2), h.got()[lane1(entry, "33", 0)])
	within(q, func() bool { // 1~hi may be under way just now
		return slices.Equal([]string{"1~hi/1 QUEUED", "33/1 DELIVERED", "33/2 DELIVERED"}, states(q, "rec1"))
	})
}

func TestARowThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		key := keyOf("rec1", "34", 1)
		h.disk.rows[key] = store.Record{Key: key, Value: []byte("{"), Revision: 7}
		h.disk.revision = 7
		r := h.recs.begin("rec1", entry, 0)
		h.recs.piece(r, "34", 1, false)
		h.recs.piece(r, "34", 2, false)
		q, stop := h.start(nil)
		defer stop()
		time.Sleep(time.Second)
		require.Equal(t, []string{"34/1 IN_DOUBT", "34/2 DELIVERED"}, states(q, "rec1"), "it was sent, or not")
		require.True(t, q.Holds("rec1", "34", 1))
		_, err := q.Retry(t.Context(), "rec1", "34", 1)
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Equal(t, append(want("rec1", "34", 2, 2), want("rec1", "34", 1, 1)...), h.got()[lane1(entry, "34", 0)])
	})
}

func TestKeysAreKeysAndDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range []string{"32", "1~hi", "1-7ehi", "1_hi", "", "ü"} {
		for _, n := range []int{1, 12} {
			key := keyOf("0123456789abcdef0123456789abcdef", r, n)
			require.Regexp(t, `^[0-9A-Za-z_-]{1,128}$`, key)
			require.False(t, seen[key])
			seen[key] = true
		}
	}
	require.NotEqual(t, keyOf("a_b", "c", 1), keyOf("a", "b_c", 1))
	var s state
	require.Error(t, s.UnmarshalText([]byte("DELIVERED?")))
}

func TestInPlaceAndByCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		q, stop := h.start(func(o *Options) { o.SharedDir = "" })
		r := h.recs.begin("rec1", entry, 0)
		h.recs.piece(r, "32", 1, false)
		time.Sleep(time.Second)
		require.Equal(t, want("rec1", "32", 1, 1), h.got()[lane1(entry, "32", 0)])
		file := filepath.Join(h.recs.dir, "rec1-32-1.mp4")
		require.FileExists(t, file, "keepOriginalFile")
		require.Equal(t, file, h.backend.State().Segments[0].Source)
		require.True(t, q.Holds("rec1", "32", 1), "the backend may still read it")
		time.Sleep(25 * time.Hour)
		require.False(t, q.Holds("rec1", "32", 1))
		stop()

		// Another name for the folder, and a copy of another piece where the
		// link goes, as a crash leaves it.
		other := filepath.Join(t.TempDir(), "mounted")
		require.NoError(t, os.Symlink(h.shared, other))
		assets, _ := h.backend.State().Entry(entry)
		name := fmt.Sprintf("%s.%s.0_rec1_2.mp4", entry, assets.Assets[32])
		require.NoError(t, os.WriteFile(filepath.Join(h.shared, name), []byte("half"), 0o600))
		_, stop = h.start(func(o *Options) { o.SharedDir, o.BackendDir = other, h.shared })
		defer stop()
		h.recs.piece(r, "32", 2, false)
		time.Sleep(time.Second)
		require.Equal(t, want("rec1", "32", 1, 2), h.got()[lane1(entry, "32", 0)])
		require.Equal(t, filepath.Join(h.shared, name), h.backend.State().Segments[1].Source)
	})
	dir := t.TempDir()
	from, to := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	require.NoError(t, os.WriteFile(from, []byte("bytes"), 0o600))
	require.NoError(t, (&Queue{}).duplicate(from, to))
	got, err := os.ReadFile(to)
	require.NoError(t, err)
	require.Equal(t, "bytes", string(got))
	require.NoFileExists(t, to+".part")
	require.Error(t, (&Queue{}).duplicate(from, filepath.Join(dir, "none", "b")))
}

func TestLinksThatWereNotTakenAreTidiedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(o *kalturatest.Options) { o.Directory = "" }) // only reads
		_, stop := h.start(nil)
		defer stop()
		r := h.recs.begin("rec1", entry, 0)
		h.recs.piece(r, "32", 1, false)
		foreign := filepath.Join(h.shared, "something else.mp4")
		require.NoError(t, os.WriteFile(foreign, nil, 0o600))
		time.Sleep(23 * time.Hour)
		left, err := os.ReadDir(h.shared)
		require.NoError(t, err)
		require.Len(t, left, 2)
		time.Sleep(3 * time.Hour)
		left, err = os.ReadDir(h.shared)
		require.NoError(t, err)
		require.Len(t, left, 1)
		require.FileExists(t, foreign)
		require.FileExists(t, filepath.Join(h.recs.dir, "rec1-32-1.mp4"))
	})
}

func TestRowsOfRecordingsThatAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		q, stop := h.start(nil)
		r := h.recs.begin("rec1", entry, 0)
		h.recs.piece(r, "32", 1, false)
		time.Sleep(time.Second)
		list := h.recs.list
		h.recs.change(func() { h.recs.list = nil }) // a disk is away
		time.Sleep(72 * time.Hour)
		require.Len(t, q.Of("rec1"), 1, "its file is there")
		h.recs.change(func() { h.recs.list = list })
		time.Sleep(time.Hour)
		require.Len(t, h.backend.State().Segments, 1)
		h.recs.change(func() { h.recs.list = nil })
		require.NoError(t, os.Remove(r.Pieces[0].File))
		time.Sleep(23 * time.Hour)
		require.Len(t, q.Of("rec1"), 1)
		time.Sleep(3 * time.Hour)
		require.Empty(t, q.Of("rec1"))
		stop()
		_, stop = h.start(nil)
		defer stop()
		require.Empty(t, h.disk.rows)
	})
}

func uploads(o *Options) { o.Way, o.ChunkSize, o.SharedDir = Upload, 16, "" }

func TestUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		var err error
		h.client, err = client.New(client.Options{URL: "http://backend.invalid", Partner: partner, Secret: secret, Transport: h.line})
		require.NoError(t, err)
		_, stop := h.start(uploads)
		r := h.recs.begin("rec1", entry, 0)
		h.recs.piece(r, "32", 1, false)
		time.Sleep(time.Second)
		require.Equal(t, want("rec1", "32", 1, 1), h.got()[lane1(entry, "32", 0)])
		require.Equal(t, 1, h.backend.State().Count("uploadToken.add"))

		// Chunks fail in the middle; the upload goes on where it was.
		var chunks atomic.Int32
		h.line.watch(func(path string) error {
			if strings.HasSuffix(path, "/upload") {
				if n := chunks.Add(1); n >= 2 && n < 14 {
					return io.ErrUnexpectedEOF
				}
			}
			return nil
		})
		h.recs.piece(r, "32", 2, false)
		time.Sleep(10 * time.Minute)
		require.Equal(t, want("rec1", "32", 1, 2), h.got()[lane1(entry, "32", 0)])
		require.Equal(t, 2, h.backend.State().Count("uploadToken.add"), "one token a piece")

		// A restart in the middle.
		chunks.Store(0)
		h.line.watch(func(path string) error {
			if strings.HasSuffix(path, "/upload") {
				if chunks.Add(1) == 3 {
					h.line.set(true) // after this one
				}
			}
			return nil
		})
		h.recs.piece(r, "32", 3, false)
		time.Sleep(time.Minute)
		require.EqualValues(t, 3, chunks.Load())
		stop()
		h.line.watch(nil)
		h.line.set(false)
		time.Sleep(time.Hour)
		sent := h.backend.State().Count("uploadToken.upload")
		q, stop := h.start(uploads)
		defer stop()
		time.Sleep(time.Minute)
		require.Equal(t, want("rec1", "32", 1, 3), h.got()[lane1(entry, "32", 0)])
		require.Equal(t, 3, h.backend.State().Count("uploadToken.add"))
		require.Equal(t, 1, h.backend.State().Count("uploadToken.upload")-sent, "only what was missing")

		// An upload that the backend forgot is begun anew; so is one that a call
		// in doubt may have used up.
		h.inject(kalturatest.Fault{Kind: kalturatest.Code, Code: "UPLOADED_FILE_NOT_FOUND_BY_TOKEN", Action: "appendRecording", Times: 1})
		h.recs.piece(r, "32", 4, false)
		time.Sleep(time.Minute)
		require.Equal(t, want("rec1", "32", 1, 4), h.got()[lane1(entry, "32", 0)])
		require.Equal(t, 5, h.backend.State().Count("uploadToken.add"))
		h.inject(kalturatest.Fault{Kind: kalturatest.Lost, Action: "appendRecording", Times: 1})
		h.recs.piece(r, "33", 1, false)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"33/1"}, open(q))
		_, err = q.Retry(t.Context(), "rec1", "", 0)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.Empty(t, q.Open())
		require.Equal(t, append(want("rec1", "33", 1, 1), want("rec1", "33", 1, 1)...), h.got()[lane1(entry, "33", 0)], "because somebody asked for it")
	})
}

// open lists what is not delivered: "33/1".
func open(q *Queue) (out []string) {
	for _, d := range q.Open() {
		out = append(out, fmt.Sprintf("%s/%d", d.Rendition, d.Number))
	}
	return out
}

package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/fault"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerEnv); dir != "" {
		writeUntilKilled(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// open opens a store and closes it at the end of the test.
func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func bucket(t *testing.T, s *Store, name string) *Bucket {
	t.Helper()
	b, err := s.Bucket(t.Context(), name)
	require.NoError(t, err)
	return b
}

func TestBucketRecords(t *testing.T) {
	ctx := t.Context()
	b := bucket(t, open(t, t.TempDir()), "streams")

	_, err := b.Get(ctx, "lobby")
	require.ErrorIs(t, err, ErrNotFound)
	_, err = b.Update(ctx, "lobby", []byte("x"), 1)
	require.ErrorIs(t, err, ErrConflict)
	_, err = b.Update(ctx, "lobby", []byte("x"), 0)
	require.ErrorIs(t, err, ErrConflict)
	require.ErrorIs(t, b.Delete(ctx, "lobby", 0), ErrNotFound)

	before := time.Now().Add(-time.Second)
	r1, err := b.Create(ctx, "lobby", []byte("one"))
	require.NoError(t, err)
	_, err = b.Create(ctx, "lobby", []byte("two"))
	require.ErrorIs(t, err, ErrExists)

	record, err := b.Get(ctx, "lobby")
	require.NoError(t, err)
	require.Equal(t, "lobby", record.Key)
	require.Equal(t, "one", string(record.Value))
	require.Equal(t, r1, record.Revision)
	require.WithinRange(t, record.Created, before, time.Now().Add(time.Second))

	r2, err := b.Update(ctx, "lobby", []byte("two"), r1)
	require.NoError(t, err)
	require.Greater(t, r2, r1)
	_, err = b.Update(ctx, "lobby", []byte("three"), r1)
	require.ErrorIs(t, err, ErrConflict)
	require.ErrorIs(t, b.Delete(ctx, "lobby", r1), ErrConflict)
	require.NoError(t, b.Delete(ctx, "lobby", r2))
	_, err = b.Get(ctx, "lobby")
	require.ErrorIs(t, err, ErrNotFound)
	require.ErrorIs(t, b.Delete(ctx, "lobby", r2), ErrNotFound)

	r3, err := b.Create(ctx, "lobby", []byte("again"))
	require.NoError(t, err)
	require.Greater(t, r3, r2, "a revision must not be reused after a deletion")

	_, err = b.Put(ctx, "0_rkij47dr", nil)
	require.NoError(t, err)
	records, err := b.List(ctx)
	require.NoError(t, err)
	require.Len(t, records, 2)
	require.Equal(t, "0_rkij47dr", records[0].Key)
	require.Equal(t, "lobby", records[1].Key)
}

func TestEmptyBucketLists(t *testing.T) {
	records, err := bucket(t, open(t, t.TempDir()), "streams").List(t.Context())
	require.NoError(t, err)
	require.Empty(t, records)
}

func TestRefusals(t *testing.T) {
	ctx := t.Context()
	s := open(t, t.TempDir())
	b := bucket(t, s, "streams")
	for _, key := range []string{"", "a.b", "a b", "a*", ">", "a/b", "ä", strings.Repeat("x", 129)} {
		_, err := b.Put(ctx, key, nil)
		require.ErrorIs(t, err, ErrInvalidKey, key)
		_, err = b.Get(ctx, key)
		require.ErrorIs(t, err, ErrInvalidKey, key)
	}
	for _, key := range []string{"-", "_", "Az09_-", strings.Repeat("x", 128)} {
		_, err := b.Put(ctx, key, nil)
		require.NoError(t, err, key)
	}
	_, err := b.Put(ctx, "big", make([]byte, MaxValue+1))
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = b.Put(ctx, "big", make([]byte, MaxValue))
	require.NoError(t, err)
	_, err = s.Bucket(ctx, "no.dots")
	require.ErrorContains(t, err, `"no.dots" is not a bucket name`)
	_, err = s.Journal(ctx, "", Bounds{})
	require.ErrorContains(t, err, `"" is not a journal name`)

	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = b.Put(canceled, "late", nil)
	require.ErrorIs(t, err, context.Canceled)
}

func TestWatch(t *testing.T) {
	ctx := t.Context()
	b := bucket(t, open(t, t.TempDir()), "streams")
	for _, key := range []string{"a", "b"} {
		_, err := b.Put(ctx, key, []byte(key))
		require.NoError(t, err)
	}
	w, err := b.Watch(ctx)
	require.NoError(t, err)
	defer w.Close()

	snapshot := map[string]string{}
	for range 2 {
		c := next(t, w)
		require.Equal(t, Put, c.Kind)
		snapshot[c.Record.Key] = string(c.Record.Value)
	}
	require.Equal(t, map[string]string{"a": "a", "b": "b"}, snapshot)
	require.Equal(t, Change{Kind: Synced}, next(t, w))

	revision, err := b.Put(ctx, "c", []byte("new"))
	require.NoError(t, err)
	c := next(t, w)
	require.Equal(t, Put, c.Kind)
	require.Equal(t, revision, c.Record.Revision)

	require.NoError(t, b.Delete(ctx, "a", 0))
	c = next(t, w)
	require.Equal(t, Deleted, c.Kind)
	require.Equal(t, "a", c.Record.Key)
	require.Empty(t, c.Record.Value)
	require.Greater(t, c.Record.Revision, revision)

	short, cancel := context.WithCancelCause(ctx)
	cause := errors.New("enough")
	cancel(cause)
	_, err = w.Next(short)
	require.ErrorIs(t, err, cause)
}

func next(t *testing.T, w *Watch) Change {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := w.Next(ctx)
	require.NoError(t, err)
	return c
}

// A watch that is closed with more changes waiting than its channel holds must free its goroutines;
// goleak at the end of the package tells.
func TestWatchClosedWhileFull(t *testing.T) {
	ctx := t.Context()
	b := bucket(t, open(t, t.TempDir()), "streams")
	for i := range 600 {
		_, err := b.Put(ctx, fmt.Sprintf("k%d", i), nil)
		require.NoError(t, err)
	}
	w, err := b.Watch(ctx)
	require.NoError(t, err)
	next(t, w)
	w.Close()
	w.Close() // harmless
}

func TestWatchEndsWithStore(t *testing.T) {
	s := open(t, t.TempDir())
	w, err := bucket(t, s, "streams").Watch(t.Context())
	require.NoError(t, err)
	require.Equal(t, Synced, next(t, w).Kind)
	s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = w.Next(ctx)
	require.ErrorIs(t, err, ErrWatchLost)
	w.Close()
}

func TestConcurrentWritersConflict(t *testing.T) {
	ctx := t.Context()
	b := bucket(t, open(t, t.TempDir()), "streams")
	_, err := b.Create(ctx, "n", []byte{0})
	require.NoError(t, err)
	const writers, each = 4, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				r, err := b.Get(ctx, "n")
				if err != nil {
					t.Error(err)
					return
				}
				_, err = b.Update(ctx, "n", []byte{r.Value[0] + 1}, r.Revision)
				switch {
				case err == nil:
					done++
				case !errors.Is(err, ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	r, err := b.Get(ctx, "n")
	require.NoError(t, err)
	require.Equal(t, byte(writers*each), r.Value[0])
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, err := Open(t.Context(), Options{Dir: dir})
	require.ErrorIs(t, err, ErrInUse)
	require.ErrorContains(t, err, dir)
	require.ErrorContains(t, err, fmt.Sprintf("(process %d)", os.Getpid()))
	s.Close()
	open(t, dir)
}

func TestOpenFails(t *testing.T) {
	_, err := Open(t.Context(), Options{})
	require.ErrorContains(t, err, "no directory")

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Open(t.Context(), Options{Dir: filepath.Join(file, "store")})
	require.ErrorContains(t, err, "make directory")

	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("stopped")
	cancel(cause)
	dir := t.TempDir()
	_, err = Open(ctx, Options{Dir: dir})
	require.ErrorIs(t, err, cause)
	open(t, dir) // the lock was given back
}

func TestClosedStoreIsUnavailable(t *testing.T) {
	s := open(t, t.TempDir())
	b := bucket(t, s, "streams")
	require.NoError(t, s.Check(t.Context()))
	s.Close()
	_, err := b.Get(t.Context(), "a")
	require.Equal(t, fault.StoreUnavailable, fault.ReasonOf(err))
	_, err = b.Put(t.Context(), "a", nil)
	require.Equal(t, fault.StoreUnavailable, fault.ReasonOf(err))
	require.Equal(t, fault.StoreUnavailable, fault.ReasonOf(s.Check(t.Context())))
}

func TestFullStoreRefusesAndKeepsReading(t *testing.T) {
	ctx := t.Context()
	s, err := Open(ctx, Options{Dir: t.TempDir(), MaxDisk: 256 << 10})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	b := bucket(t, s, "streams")
	_, err = b.Put(ctx, "first", []byte("kept"))
	require.NoError(t, err)
	for i := 0; err == nil && i < 100; i++ {
		_, err = b.Put(ctx, fmt.Sprintf("k%d", i), make([]byte, 16<<10))
	}
	require.Equal(t, fault.StoreUnavailable, fault.ReasonOf(err))
	r, err := b.Get(ctx, "first")
	require.NoError(t, err)
	require.Equal(t, "kept", string(r.Value))
}

const writerEnv = "KLIVE_STORE_TEST_WRITER"

// writeUntilKilled is the body of the child process of TestKillWhileWriting. It prints each record
// once the store has acknowledged it.
func writeUntilKilled(dir string) {
	ctx := context.Background()
	s, err := Open(ctx, Options{Dir: dir})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	b, err := s.Bucket(ctx, "streams")
	if err != nil {
		fmt.Println("error", err)
		return
	}
	j, err := s.Journal(ctx, "events", Bounds{Count: 100000})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	start, err := j.LastSeq(ctx)
	if err != nil {
		fmt.Println("error", err)
		return
	}
	for n := start + 1; ; n++ {
		key := fmt.Sprintf("k%d-%d", os.Getpid(), n) // a killed child may have left k<n> without its entry
		revision, err := b.Create(ctx, key, []byte(key))
		if err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Println("record", key, revision)
		seq, err := j.Append(ctx, []byte(key))
		if err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Println("entry", seq, key)
	}
}

func TestKillWhileWriting(t *testing.T) {
	dir := t.TempDir()
	records, entries := map[string]uint64{}, map[uint64]string{}
	for round := range 3 {
		child := exec.CommandContext(t.Context(), os.Args[0]) //nolint:gosec // this test itself
		child.Env = append(os.Environ(), writerEnv+"="+dir)
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		lines := bufio.NewScanner(out)
		for acknowledged := 0; acknowledged < 50+17*round && lines.Scan(); acknowledged++ {
			var key string
			var n uint64
			if _, err := fmt.Sscanf(lines.Text(), "record %s %d", &key, &n); err == nil {
				records[key] = n
			} else if _, err := fmt.Sscanf(lines.Text(), "entry %d %s", &n, &key); err == nil {
				entries[n] = key
			} else {
				t.Fatal(lines.Text())
			}
		}
		require.NoError(t, child.Process.Kill())
		require.Error(t, child.Wait())
		checkSurvivors(t, dir, records, entries)
	}
}

// checkSurvivors opens the store a killed process left and looks for everything it acknowledged.
func checkSurvivors(t *testing.T, dir string, records map[string]uint64, entries map[uint64]string) {
	t.Helper()
	s := open(t, dir)
	defer s.Close()
	listed, err := bucket(t, s, "streams").List(t.Context())
	require.NoError(t, err)
	found := map[string]uint64{}
	for _, r := range listed {
		require.Equal(t, r.Key, string(r.Value))
		found[r.Key] = r.Revision
	}
	require.NotEmpty(t, records)
	for key, revision := range records {
		require.Equal(t, revision, found[key], key)
	}
	j, err := s.Journal(t.Context(), "events", Bounds{Count: 100000})
	require.NoError(t, err)
	read, err := j.Read(t.Context(), 1, maxRead)
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	require.GreaterOrEqual(t, len(read), len(entries))
	for i, e := range read {
		require.Equal(t, uint64(i+1), e.Seq)
		if want, ok := entries[e.Seq]; ok {
			require.Equal(t, want, string(e.Value))
		}
	}
}

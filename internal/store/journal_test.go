package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func journal(t *testing.T, s *Store, b Bounds) *Journal {
	t.Helper()
	j, err := s.Journal(t.Context(), "events", b)
	require.NoError(t, err)
	return j
}

func fill(t *testing.T, j *Journal, n int) {
	t.Helper()
	for range n {
		_, err := j.Append(t.Context(), []byte("entry"))
		require.NoError(t, err)
	}
}

func TestJournalReadsWhatWasAppended(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	s := open(t, dir)
	j := journal(t, s, Bounds{Count: 100, Bytes: 1 << 20, Age: time.Hour})

	first, last, err := j.State(ctx)
	require.NoError(t, err)
	require.Equal(t, [2]uint64{1, 0}, [2]uint64{first, last})
	entries, err := j.Read(ctx, 0, 10)
	require.NoError(t, err)
	require.Empty(t, entries)

	before := time.Now().Add(-time.Second)
	for i := range 5 {
		seq, err := j.Append(ctx, fmt.Appendf(nil, "entry %d", i+1))
		require.NoError(t, err)
		require.Equal(t, uint64(i+1), seq)
	}
	s.Close()

	j = journal(t, open(t, dir), Bounds{Count: 100, Bytes: 1 << 20, Age: time.Hour})
	last, err = j.LastSeq(ctx)
	require.NoError(t, err)
	require.Equal(t, uint64(5), last)
	for _, c := range []struct {
		from  uint64
		limit int
		want  []uint64
	}{
		{0, 10, []uint64{1, 2, 3, 4, 5}},
		{1, 2, []uint64{1, 2}},
		{3, 10, []uint64{3, 4, 5}},
		{3, 1, []uint64{3}},
		{5, 1 << 30, []uint64{5}},
		{6, 10, nil},
		{1, 0, nil},
		{1, -1, nil},
	} {
		entries, err := j.Read(ctx, c.from, c.limit)
		require.NoError(t, err)
		var got []uint64
		for _, e := range entries {
			got = append(got, e.Seq)
			require.Equal(t, fmt.Sprintf("entry %d", e.Seq), string(e.Value))
			require.WithinRange(t, e.Time, before, time.Now().Add(time.Second))
		}
		require.Equal(t, c.want, got, "from %d limit %d", c.from, c.limit)
	}
}

func TestJournalKeepsItsBounds(t *testing.T) {
	ctx := t.Context()
	s := open(t, t.TempDir())
	j := journal(t, s, Bounds{Count: 3})
	fill(t, j, 10)
	first, last, err := j.State(ctx)
	require.NoError(t, err)
	require.Equal(t, [2]uint64{8, 10}, [2]uint64{first, last})
	entries, err := j.Read(ctx, 1, 10)
	require.NoError(t, err)
	require.Len(t, entries, 3)
	require.Equal(t, uint64(8), entries[0].Seq)

	j = journal(t, s, Bounds{Bytes: 2 << 10})
	big := make([]byte, 1<<10)
	for range 4 {
		_, err := j.Append(ctx, big)
		require.NoError(t, err)
	}
	first, err = j.FirstSeq(ctx)
	require.NoError(t, err)
	require.Equal(t, uint64(14), first)
}

func TestJournalForgetsByAge(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	j := journal(t, s, Bounds{Age: 200 * time.Millisecond})
	fill(t, j, 3)
	require.Eventually(t, func() bool {
		first, last, err := j.State(t.Context())
		return err == nil && first == 4 && last == 3
	}, 10*time.Second, 20*time.Millisecond)
	s.Close()

	// The numbers go on although nothing is left.
	j = journal(t, open(t, dir), Bounds{Age: time.Hour})
	seq, err := j.Append(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, uint64(4), seq)
}

func TestJournalRefusesLargeEntries(t *testing.T) {
	j := journal(t, open(t, t.TempDir()), Bounds{})
	_, err := j.Append(t.Context(), make([]byte, MaxValue+1))
	require.ErrorIs(t, err, ErrTooLarge)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = j.Read(canceled, 1, 1)
	require.ErrorIs(t, err, context.Canceled)
	_, err = j.Append(canceled, nil)
	require.ErrorIs(t, err, context.Canceled)
}

// A read ends early at its bound of bytes and can be continued.
func TestJournalReadIsBounded(t *testing.T) {
	ctx := t.Context()
	j := journal(t, open(t, t.TempDir()), Bounds{})
	const n = maxReadBytes/MaxValue + 4
	for range n {
		_, err := j.Append(ctx, make([]byte, MaxValue))
		require.NoError(t, err)
	}
	var got int
	for from := uint64(1); ; {
		entries, err := j.Read(ctx, from, maxRead)
		require.NoError(t, err)
		if len(entries) == 0 {
			break
		}
		require.LessOrEqual(t, len(entries), maxReadBytes/MaxValue+1)
		got += len(entries)
		from = entries[len(entries)-1].Seq + 1
	}
	require.Equal(t, n, got)
}

func BenchmarkAppend(b *testing.B) {
	s, err := Open(b.Context(), Options{Dir: b.TempDir()})
	require.NoError(b, err)
	defer s.Close()
	j, err := s.Journal(b.Context(), "events", Bounds{Count: 1000})
	require.NoError(b, err)
	value := make([]byte, 300)
	for b.Loop() {
		_, err := j.Append(b.Context(), value)
		require.NoError(b, err)
	}
}

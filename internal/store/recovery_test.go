package store

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDamagedFiles damages the files of a closed store in the ways a crash or a disk can and expects
// it to open with every whole record, and to take new ones.
func TestDamagedFiles(t *testing.T) {
	appendTo := func(garbage string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			require.NoError(t, err)
			_, err = f.WriteString(garbage)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
	}
	cutBy := func(n int64) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.NoError(t, os.Truncate(path, max(0, info.Size()-n)))
		}
	}
	remove := func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) }
	for _, c := range []struct {
		name   string
		suffix string // of the files damaged
		damage func(t *testing.T, path string)
		lost   int // newest records that may be gone, of each stream
	}{
		{"none", ".none", nil, 0},
		{"half a record at the end", ".blk", appendTo("\x40\x00\x00\x00half"), 0},
		{"zeros at the end", ".blk", appendTo(strings.Repeat("\x00", 4096)), 0},
		{"last record cut", ".blk", cutBy(5), 1},
		{"index cut", "index.db", cutBy(7), 0},
		{"index gone", "index.db", remove, 0},
		{"index is garbage", "index.db", func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte("garbage garbage garbage garbage"), 0o600))
		}, 0},
		{"description without its checksum", "meta.sum", remove, 0},
		{"checksum cut", "meta.sum", cutBy(3), 0},
		{"description cut", "meta.inf", cutBy(9), 0},
		{"description empty", "meta.inf", cutBy(1 << 20), 0},
		{"description gone", "meta.inf", remove, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			const n = 5
			b, j := bucket(t, s, "streams"), journal(t, s, Bounds{Count: 100})
			for i := range n {
				_, err := b.Create(t.Context(), fmt.Sprintf("k%d", i), []byte("value"))
				require.NoError(t, err)
				_, err = j.Append(t.Context(), []byte("entry"))
				require.NoError(t, err)
			}
			s.Close()
			if c.damage != nil {
				require.Equal(t, 2, damage(t, dir, c.suffix, c.damage))
			}

			s = open(t, dir)
			b, j = bucket(t, s, "streams"), journal(t, s, Bounds{Count: 100})
			records, err := b.List(t.Context())
			require.NoError(t, err)
			require.Len(t, records, n-c.lost)
			entries, err := j.Read(t.Context(), 1, 100)
			require.NoError(t, err)
			require.Len(t, entries, n-c.lost)
			_, err = b.Create(t.Context(), "after", nil)
			require.NoError(t, err)
			seq, err := j.Append(t.Context(), nil)
			require.NoError(t, err)
			require.Greater(t, seq, entries[len(entries)-1].Seq)
		})
	}
}

// damage applies fn to each file of the store whose name ends in suffix and returns how many there were.
func damage(t *testing.T, dir, suffix string, fn func(t *testing.T, path string)) int {
	t.Helper()
	count := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, suffix) {
			count++
			fn(t, path)
		}
		return err
	}))
	return count
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		s, err := Open(context.Background(), Options{Dir: dir})
		require.NoError(b, err)
		s.Close()
	}
}

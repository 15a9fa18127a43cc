package segment

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/segment/fmp4"
)

func FuzzFileName(f *testing.F) {
	s := Segment{Number: 7, Run: "abc123def456", Time: time.Unix(5, 6), Duration: time.Second}
	f.Add(s.fileName(true))
	f.Add(s.fileName(false))
	s.Gap = true
	f.Add(s.fileName(false))
	f.Add("000000000001_x_0_0_0_0_1_-5.m4s")
	f.Fuzz(func(t *testing.T, name string) {
		s, open, ok := parseFileName(name)
		if !ok {
			return
		}
		again, open2, ok := parseFileName(s.fileName(open))
		require.True(t, ok)
		require.Equal(t, open, open2)
		require.Equal(t, s, again)
		require.False(t, strings.ContainsAny(s.fileName(open), "/\x00"))
	})
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"broadcast":"b","start":"2024-01-01T00:00:00Z","on_air":true,"target_segment":4000000000,"target_part":250000000,"next":7,"discontinuity":1}`))
	f.Add([]byte(`{"target_segment":-1}`))
	f.Add([]byte(`{"broadcast":"b","note":"eyJ4IjoxfQ=="}`))
	f.Add([]byte(`{"broadcast":"b","note":{"x":1}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err == nil {
			require.LessOrEqual(t, r.TargetPart, r.TargetSegment)
			require.LessOrEqual(t, len(r.Note), MaxNote)
		}
	})
}

// FuzzRecovery opens a store over a segment whose bytes and name are anything.
func FuzzRecovery(f *testing.F) {
	st := openStore(f, Options{})
	w := watch(f, st)
	cutAll(f, st, w, script{fps: 30, gop: time.Second, length: 1500 * time.Millisecond, noAudio: true}.source())
	dir := (*st.shelf(shelfOne).rows.Load())[videoRow].dir
	for _, n := range list(f, dir) {
		if s, _, ok := parseFileName(n); ok {
			b, err := os.ReadFile(filepath.Join(dir, n))
			require.NoError(f, err)
			f.Add(s.fileName(true), b[:min(len(b), 3000)])
			f.Add(n, b[:100])
		}
	}
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		if name == "" || name == "." || name == ".." || len(name) > 200 || strings.ContainsAny(name, "/\x00") || strings.HasSuffix(name, extInit) {
			return
		}
		to := crash(t, st.opts.Dir)
		row := filepath.Join(to, "lobby", "0", "1.video")
		_ = os.WriteFile(filepath.Join(row, name), b, 0o600)
		s, err := NewStore(Options{Dir: to})
		require.NoError(t, err)
		h := s.shelf(shelfOne)
		if h == nil {
			return
		}
		if x := h.Index(videoRow); x != nil {
			for i := range x.Closed {
				require.False(t, !x.Closed[i].Gap && x.Closed[i].Size == 0 && len(x.Closed) > 50)
			}
		}
	})
}

func FuzzWalk(f *testing.F) {
	one := fmp4.Chunk(1, 68, 9000, []fmp4.Sample{{Size: 3, Duration: 10, Flags: fmp4.KeyFlags}, {Size: 2, Duration: 11, Offset: -5, Flags: fmp4.DeltaFlags}})
	one = append(one, 1, 2, 3, 4, 5)
	f.Add(one)
	f.Add(append(one, one[:40]...))
	f.Add(append(fmp4.Event(90000, 9000, 7, []byte("ID3")), one...))
	f.Add(append(one, append(fmp4.Event(90000, 9000, 7, nil), one...)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		found, err := fmp4.Walk(bytes.NewReader(b), int64(len(b)))
		require.NoError(t, err)
		var at int64
		for _, c := range found {
			require.Equal(t, at, c.Offset)
			at += c.Size
		}
		require.LessOrEqual(t, at, int64(len(b)))
	})
}

package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
)

func self(s string) string { return s }

func TestPaginateWalksEverythingOnce(t *testing.T) {
	for _, total := range []int{0, 1, 2, 3, 6, 7} {
		for size := int32(1); size < 9; size++ {
			var want, got []string
			for i := range total {
				want = append(want, fmt.Sprintf("k%02d", i))
			}
			query := pageQuery{size: size, method: "streams", filter: "id != x"}
			for pages := 0; ; pages++ {
				require.Less(t, pages, total+2)
				shuffled := slices.Clone(want)
				slices.Reverse(shuffled)
				page, next, err := paginate(shuffled, self, query)
				require.NoError(t, err)
				require.LessOrEqual(t, len(page), int(size))
				got = append(got, page...)
				if query.token = next; next == "" {
					break
				}
			}
			require.Equal(t, want, got)
		}
	}
}

func TestPaginateSurvivesChanges(t *testing.T) {
	query := pageQuery{size: 2}
	page, next, err := paginate([]string{"a", "c", "e", "g"}, self, query)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "c"}, page)
	query.token = next
	// c, where the page ended, is gone; b and d are new.
	page, _, err = paginate([]string{"a", "b", "d", "e", "g"}, self, query)
	require.NoError(t, err)
	require.Equal(t, []string{"d", "e"}, page)
}

func TestPageBounds(t *testing.T) {
	for size, want := range map[int32]int{0: 50, 1: 1, 1000: 1000, 1001: 1000, 1 << 30: 1000} {
		got, err := pageQuery{size: size}.limit()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := pageQuery{size: -1}.limit()
	require.Equal(t, fault.InvalidField, fault.ReasonOf(err))
}

func TestPageTokenOfAnotherListIsRefused(t *testing.T) {
	query := pageQuery{size: 1, method: "streams", parent: "p", filter: "f"}
	token := encodePageToken(query.sum(), "a")
	for name, change := range map[string]func(*pageQuery){
		"method":    func(q *pageQuery) { q.method = "sessions" },
		"parent":    func(q *pageQuery) { q.parent = "q" },
		"filter":    func(q *pageQuery) { q.filter = "" },
		"shifted":   func(q *pageQuery) { q.parent, q.filter = "pf", "" },
		"garbage":   func(q *pageQuery) { q.token = "%%%" },
		"cut":       func(q *pageQuery) { q.token = token[:5] },
		"too long":  func(q *pageQuery) { q.token = strings.Repeat("A", maxPageToken+1) },
		"empty key": func(q *pageQuery) { q.token = encodePageToken(q.sum(), "") },
	} {
		q := query
		q.token = token
		change(&q)
		_, _, err := paginate([]string{"a", "b"}, self, q)
		require.Equal(t, fault.InvalidField, fault.ReasonOf(err), name)
		require.Equal(t, "page_token", fault.From(err).Metadata["field"], name)
	}
}

func FuzzPageToken(f *testing.F) {
	for _, key := range []string{"a", "lobby", "\x00", strings.Repeat("x", 100)} {
		f.Add(encodePageToken(7, key), uint64(7))
	}
	f.Add("", uint64(0))
	f.Fuzz(func(t *testing.T, token string, sum uint64) {
		key, err := decodePageToken(token, sum)
		if err != nil {
			require.Equal(t, fault.InvalidField, fault.ReasonOf(err))
			return
		}
		require.Equal(t, token, encodePageToken(sum, key))
	})
}

package control

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/klive-media/klive/internal/fault"
)

// The bounds of a page.
const (
	defaultPageSize = 50
	maxPageSize     = 1000
	maxPageToken    = 1024 // bytes of its text
)

// pageQuery is what a page is asked with. The size is not part of what must
// stay the same from page to page.
type pageQuery struct {
	size   int32
	token  string
	method string // which list
	parent string
	filter string
}

// limit is the size to use.
func (q pageQuery) limit() (int, error) {
	switch {
	case q.size < 0:
		return 0, fault.New(fault.InvalidField, "page_size is negative; leave it out or set 1 to %d", maxPageSize).With("field", "page_size")
	case q.size == 0:
		return defaultPageSize, nil
	}
	return int(min(q.size, maxPageSize)), nil
}

// sum stands for what must stay the same from page to page.
func (q pageQuery) sum() uint64 {
	h := fnv.New64a()
	for _, part := range []string{q.method, q.parent, q.filter} {
		h.Write([]byte(part)) // a Hash never fails to write
		h.Write([]byte{0})
	}
	return h.Sum64()
}

const pageTokenVersion = 1

// encodePageToken makes the token that continues behind the key. Tokens hold
// no secret and stay good across restarts.
func encodePageToken(sum uint64, key string) string {
	b := make([]byte, 0, 9+len(key))
	b = append(b, pageTokenVersion)
	b = binary.BigEndian.AppendUint64(b, sum)
	b = append(b, key...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// decodePageToken gives the key a token continues behind. It fails on
// whatever encodePageToken did not make for the same query.
func decodePageToken(token string, sum uint64) (string, error) {
	if len(token) > maxPageToken {
		return "", badPageToken()
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) < 10 || b[0] != pageTokenVersion || binary.BigEndian.Uint64(b[1:]) != sum {
		return "", badPageToken()
	}
	return string(b[9:]), nil
}

func badPageToken() error {
	return fault.New(fault.InvalidField, "page_token is not one of this list; send next_page_token unchanged, with the same filter").
		With("field", "page_token")
}

// paginate cuts one page out of items, which it sorts by key in place; keys
// are unique and not empty. It returns the token of the next page, "" on the
// last one.
func paginate[T any](items []T, key func(T) string, q pageQuery) ([]T, string, error) {
	limit, err := q.limit()
	if err != nil {
		return nil, "", err
	}
	slices.SortFunc(items, func(a, b T) int { return strings.Compare(key(a), key(b)) })
	if q.token != "" {
		after, err := decodePageToken(q.token, q.sum())
		if err != nil {
			return nil, "", err
		}
		at, found := slices.BinarySearchFunc(items, after, func(v T, k string) int { return strings.Compare(key(v), k) })
		if found {
			at++
		}
		items = items[at:]
	}
	if len(items) <= limit {
		return items, "", nil
	}
	items = items[:limit]
	return items, encodePageToken(q.sum(), key(items[limit-1])), nil
}

package book

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/klive-media/klive/internal/store"
)

// maxSeen bounds the record of MarkSeen: about 40 bytes each, far below what a
// record may hold.
const maxSeen = 8192

// foldSeen brings the record of MarkSeen into the grants. One that cannot be
// read is passed over: what it says comes again.
func foldSeen(r store.Record, rows map[Key]row) {
	var at map[string]time.Time // by key in the store
	if json.Unmarshal(r.Value, &at) != nil {
		return
	}
	for text, at := range at {
		key, err := parseKey(text)
		if err != nil {
			continue
		}
		if r, ok := rows[key]; ok && at.After(r.grant.Seen) {
			r.grant.Seen = at
			rows[key] = r
		}
	}
}

// MarkSeen notes that the grants were in use at a moment: in memory at once,
// and on the disk with one write for all of them, which is left out when no
// grant is meant. It wakes nobody who waits for Changed. Errors are those of
// Put; what is in memory stays.
func (b *Book) MarkSeen(ctx context.Context, at time.Time, keys []Key) error {
	if len(keys) == 0 {
		return nil
	}
	if err := b.begin(ctx); err != nil {
		return err
	}
	defer b.end()
	b.mu.Lock()
	for _, k := range keys {
		if r, ok := b.rows[k]; ok && at.After(r.grant.Seen) {
			r.grant.Seen = at
			b.rows[k] = r
		}
	}
	recent := recentlySeen(b.rows)
	b.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	value, err := json.Marshal(recent)
	if err != nil {
		return fmt.Errorf("encode what was seen: %w", err)
	}
	if _, err := b.bucket.Put(ctx, seenKey, value); err != nil {
		return unavailable(err)
	}
	return nil
}

// recentlySeen are the times of the grants that count, the newest when there
// are too many.
func recentlySeen(rows map[Key]row) map[string]time.Time {
	at := make(map[string]time.Time, len(rows))
	for k, r := range rows {
		if r.grant.Ended.IsZero() && !r.grant.Seen.IsZero() {
			at[k.String()] = r.grant.Seen
		}
	}
	if len(at) > maxSeen {
		names := slices.SortedFunc(maps.Keys(at), func(x, y string) int { return cmp.Or(at[y].Compare(at[x]), cmp.Compare(x, y)) })
		for _, name := range names[maxSeen:] {
			delete(at, name)
		}
	}
	return at
}

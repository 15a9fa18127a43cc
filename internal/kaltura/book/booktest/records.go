// Package booktest keeps the records of a book in memory, so that what works
// with a book can be tested in virtual time and with a store that fails.
//
// Records is the only type.
package booktest

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/store"
)

// Records behaves as a bucket of the store does. The zero value is empty. A
// book made from the same Records again is the book after a restart.
type Records struct {
	mu       sync.Mutex // guards the fields below
	rows     map[string]store.Record
	revision uint64
	writes   int
	fail     error
	lose     error
}

var _ book.Records = (*Records)(nil)

// Fail makes every write and read fail with err; nil ends it.
func (r *Records) Fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

// LoseAnswer makes the next write fail with err although it is done.
func (r *Records) LoseAnswer(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lose = err
}

// Writes is how many writes were done.
func (r *Records) Writes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.writes
}

// List implements book.Records.
func (r *Records) List(context.Context) ([]store.Record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]store.Record, 0, len(r.rows))
	for _, row := range r.rows {
		list = append(list, row)
	}
	slices.SortFunc(list, func(x, y store.Record) int { return cmp.Compare(x.Key, y.Key) })
	return list, r.fail
}

// Get implements book.Records.
func (r *Records) Get(_ context.Context, key string) (store.Record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	row, ok := r.rows[key]
	switch {
	case r.fail != nil:
		return store.Record{}, r.fail
	case !ok:
		return store.Record{}, store.ErrNotFound
	}
	return row, nil
}

// Create implements book.Records.
func (r *Records) Create(_ context.Context, key string, value []byte) (uint64, error) {
	return r.write(key, value, func(_ store.Record, ok bool) error {
		if ok {
			return store.ErrExists
		}
		return nil
	})
}

// Update implements book.Records.
func (r *Records) Update(_ context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return r.write(key, value, func(row store.Record, ok bool) error {
		if !ok || row.Revision != revision {
			return store.ErrConflict
		}
		return nil
	})
}

// Put implements book.Records.
func (r *Records) Put(_ context.Context, key string, value []byte) (uint64, error) {
	return r.write(key, value, func(store.Record, bool) error { return nil })
}

func (r *Records) write(key string, value []byte, check func(store.Record, bool) error) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return 0, r.fail
	}
	row, ok := r.rows[key]
	if err := check(row, ok); err != nil {
		return 0, err
	}
	if r.rows == nil {
		r.rows = make(map[string]store.Record)
	}
	r.revision++
	r.writes++
	r.rows[key] = store.Record{Key: key, Value: slices.Clone(value), Revision: r.revision, Created: time.Now()}
	if err := r.lose; err != nil {
		r.lose = nil
		return 0, err
	}
	return r.revision, nil
}

// Delete implements book.Records.
func (r *Records) Delete(_ context.Context, key string, revision uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	row, ok := r.rows[key]
	switch {
	case r.fail != nil:
		return r.fail
	case !ok:
		return store.ErrNotFound
	case revision != 0 && revision != row.Revision:
		return store.ErrConflict
	}
	delete(r.rows, key)
	r.writes++
	return nil
}

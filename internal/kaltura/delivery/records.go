package delivery

import (
	"context"

	"github.com/klive-media/klive/internal/store"
)

// records is the bucket of rows, as far as the queue needs it; *store.Bucket
// is one. Every write is on the disk before it returns, and Update fails for
// all but one of several that know the same revision.
type records interface {
	List(ctx context.Context) ([]store.Record, error)
	Get(ctx context.Context, key string) (store.Record, error)
	Create(ctx context.Context, key string, value []byte) (uint64, error)
	Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error)
	Delete(ctx context.Context, key string, revision uint64) error
}

var _ records = (*store.Bucket)(nil)

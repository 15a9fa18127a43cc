package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/store"
)

// bucketName is where the rows are.
const bucketName = "kaltura-registrations"

// row is what must be known after a restart of the server: which broadcast the
// backend was told of, and whether it was to be told an end. It is written
// when the state changes, not with every keep-alive.
type row struct {
	Entry     string        `json:"entry"`
	Index     int           `json:"index"` // server index
	Partner   int           `json:"partner,omitempty"`
	Broadcast string        `json:"broadcast"`
	Told      client.Status `json:"told"` // BROADCASTING or PLAYABLE
	// Ended is when the broadcast ended; zero while it lives, or when the server
	// did not see the end.
	Ended time.Time `json:"ended,omitzero"`
}

func (r *row) key() book.Key { return book.Key{Entry: r.Entry, Index: r.Index} }

// rows keeps rows in a bucket of the store.
type rows struct{ bucket book.Records }

func readRows(ctx context.Context, bucket book.Records) (rows, []row, error) {
	records, err := bucket.List(ctx)
	if err != nil {
		return rows{}, nil, fmt.Errorf("read the registrations: %w", err)
	}
	var kept []row
	for _, record := range records {
		var r row
		if err := json.Unmarshal(record.Value, &r); err != nil || r.key().String() != record.Key {
			continue // the backend forgets by itself what is not told to it
		}
		kept = append(kept, r)
	}
	return rows{bucket}, kept, nil
}

func (r rows) put(ctx context.Context, x row) error {
	value, err := json.Marshal(x)
	if err != nil {
		return fmt.Errorf("encode the registration of %s: %w", x.key(), err)
	}
	_, err = r.bucket.Put(ctx, x.key().String(), value)
	return err
}

func (r rows) drop(ctx context.Context, k book.Key) error {
	if err := r.bucket.Delete(ctx, k.String(), 0); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/store"
	"github.com/klive-media/klive/internal/stream"
)

// FirstStream is the id of the stream that the first start makes.
const FirstStream = "live"

// firstStartKey marks in the store that the first start was made, so that a
// stream that was deleted does not come back.
const firstStartKey = "first-start"

// FirstStart makes one stream with a random token when the server starts for
// the first time and the configuration declares none. made is false, and the
// rest empty, at every later start.
func (c *Catalog) FirstStart(ctx context.Context) (e stream.Entry, token string, made bool, err error) {
	if _, err := c.state.Get(ctx, firstStartKey); !errors.Is(err, store.ErrNotFound) {
		return e, "", false, err
	}
	c.mu.Lock()
	empty := len(c.rows) == 0 && len(c.templates) == 0
	c.mu.Unlock()
	if empty {
		var s stream.Secrets
		e, s, err = c.Create(ctx, stream.Entry{ID: FirstStream, DisplayName: "First stream"}, s)
		token = s.Token
		if err != nil && fault.ReasonOf(err) != fault.AlreadyExistsReason {
			return e, "", false, fmt.Errorf("make the first stream: %w", err)
		}
		made = err == nil
	}
	if _, err := c.state.Put(ctx, firstStartKey, []byte("done")); err != nil {
		return e, "", false, fmt.Errorf("note the first start: %w", err)
	}
	return e, token, made, nil
}

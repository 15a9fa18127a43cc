// Package book keeps what the Kaltura backend granted to publishers, so that
// they may come back while the backend is away and after a restart of this
// server.
//
// Book is the type to read first. It holds all grants in memory and writes
// every change to the store before anybody sees it. It is the one memory that
// the parts of the bridge share: the authority writes grants, the lifecycle
// refreshes and ends them, playback and deliveries read them.
package book

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/store"
)

const (
	bucketName = "kaltura-grants"
	// seenKey is the one record that is no grant; see MarkSeen. No entry has this
	// name.
	seenKey = "seen"
	// writeTimeout bounds a write. A write is not given up with the publisher who
	// caused it: then nobody would know whether it was done.
	writeTimeout = 5 * time.Second
	// maxTries is how often a write is tried that meets a record which another
	// write, given up for lost, has changed after all.
	maxTries = 3
)

// Records is where a book keeps its grants: a bucket of the store, whose
// methods and errors these are.
type Records interface {
	List(ctx context.Context) ([]store.Record, error)
	Get(ctx context.Context, key string) (store.Record, error)
	Create(ctx context.Context, key string, value []byte) (uint64, error)
	Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error)
	Put(ctx context.Context, key string, value []byte) (uint64, error)
	Delete(ctx context.Context, key string, revision uint64) error
}

var _ Records = (*store.Bucket)(nil)

// Book is the grants. It is safe for concurrent use.
type Book struct {
	bucket Records
	// writing holds one value while nobody writes: whoever takes it may write,
	// and the wait for it ends with a context.
	writing chan struct{}

	mu         sync.RWMutex // guards the fields below; never held while the store works
	rows       map[Key]row
	unreadable []string
	changed    chan struct{}
}

// row is a grant and the revision of its record, 0 when there is none.
type row struct {
	grant    Grant
	revision uint64
}

// Open opens the book in the store.
func Open(ctx context.Context, s *store.Store) (*Book, error) {
	bucket, err := s.Bucket(ctx, bucketName)
	if err != nil {
		return nil, err
	}
	return New(ctx, bucket)
}

// New opens the book that the records hold, and reads all grants.
func New(ctx context.Context, bucket Records) (*Book, error) {
	records, err := bucket.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the grants: %w", err)
	}
	b := &Book{bucket: bucket, writing: make(chan struct{}, 1), rows: make(map[Key]row, len(records)), changed: make(chan struct{})}
	b.writing <- struct{}{}
	var seen store.Record
	for _, r := range records {
		if r.Key == seenKey {
			seen = r
			continue
		}
		key, grant, err := decode(r)
		if err != nil {
			b.unreadable = append(b.unreadable, r.Key)
			continue
		}
		b.rows[key] = row{grant, r.Revision}
	}
	foldSeen(seen, b.rows)
	return b, nil
}

// Unreadable lists the records that were found at the start and could not be
// read; their publishers are authenticated anew. It is for a line in the log.
func (b *Book) Unreadable() []string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.Clone(b.unreadable)
}

func decode(r store.Record) (Key, Grant, error) {
	key, err := parseKey(r.Key)
	if err != nil {
		return Key{}, Grant{}, err
	}
	var g Grant
	if err := json.Unmarshal(r.Value, &g); err != nil {
		return key, Grant{}, fmt.Errorf("read the grant of %s: %w", r.Key, err)
	}
	g.Entry, g.Index = key.Entry, key.Index
	return key, g, nil
}

// Get finds a grant, also one that has ended.
func (b *Book) Get(k Key) (Grant, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	r, ok := b.rows[k]
	return r.grant, ok
}

// List returns all grants, ordered by entry and index.
func (b *Book) List() []Grant {
	b.mu.RLock()
	list := make([]Grant, 0, len(b.rows))
	for _, r := range b.rows {
		list = append(list, r.grant)
	}
	b.mu.RUnlock()
	slices.SortFunc(list, func(x, y Grant) int {
		return cmp.Or(cmp.Compare(x.Entry, y.Entry), cmp.Compare(x.Index, y.Index))
	})
	return list
}

// Of returns the grants of one entry, by server index.
func (b *Book) Of(entry string) []Grant {
	const maxIndex = 1
	var list []Grant
	for i := range maxIndex + 1 {
		if g, ok := b.Get(Key{Entry: entry, Index: i}); ok {
			list = append(list, g)
		}
	}
	return list
}

// Changed is closed at the next Put, Update or Delete. MarkSeen is no change.
func (b *Book) Changed() <-chan struct{} {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.changed
}

// Put writes a grant in place of the one with its key. When it returns nil the
// grant is on the disk. Errors are *fault.Error with the reason
// STORE_UNAVAILABLE, or the context's.
func (b *Book) Put(ctx context.Context, g Grant) error {
	_, _, err := b.write(ctx, g.Key(), true, func(old *Grant) { *old = g })
	return err
}

// Update changes the grant with the key, if there is one, and returns it as it
// is then; ok is false when there is none. Changes come one after the other:
// each sees what the one before it left. change must not wait and may be
// called more than once; it leaves Entry and Index alone. Errors are those of
// Put.
func (b *Book) Update(ctx context.Context, k Key, change func(*Grant)) (g Grant, ok bool, err error) {
	return b.write(ctx, k, false, change)
}

// write takes the turn, and writes what change makes of the newest grant.
func (b *Book) write(ctx context.Context, k Key, create bool, change func(*Grant)) (Grant, bool, error) {
	if err := b.begin(ctx); err != nil {
		return Grant{}, false, err
	}
	defer b.end()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	for try := 1; ; try++ {
		b.mu.RLock()
		old, ok := b.rows[k]
		b.mu.RUnlock()
		if !ok && !create {
			return Grant{}, false, nil
		}
		g := old.grant
		change(&g)
		g.Entry, g.Index = k.Entry, k.Index
		revision, err := b.store(ctx, k, g, old.revision)
		if err == nil {
			b.keep(k, row{g, revision})
			return g, true, nil
		}
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrExists) || try == maxTries {
			return Grant{}, ok, unavailable(err)
		}
		if err := b.reread(ctx, k); err != nil {
			return Grant{}, ok, unavailable(err)
		}
	}
}

// store writes a grant over the record of the revision, 0 for none.
func (b *Book) store(ctx context.Context, k Key, g Grant, revision uint64) (uint64, error) {
	value, err := json.Marshal(g)
	if err != nil {
		return 0, fmt.Errorf("encode the grant of %s: %w", k, err)
	}
	if revision == 0 {
		return b.bucket.Create(ctx, k.String(), value)
	}
	return b.bucket.Update(ctx, k.String(), value, revision)
}

// reread brings a row to what the store has: an earlier write whose answer was
// lost was done after all.
func (b *Book) reread(ctx context.Context, k Key) error {
	record, err := b.bucket.Get(ctx, k.String())
	if errors.Is(err, store.ErrNotFound) {
		b.keep(k, row{})
		return nil
	}
	if err != nil {
		return err
	}
	_, g, err := decode(record)
	if err != nil { // a record of no use, but it has a revision
		g = Grant{Entry: k.Entry, Index: k.Index}
	}
	b.keep(k, row{g, record.Revision})
	return nil
}

// keep puts a row into memory, and takes it out when it has no revision.
func (b *Book) keep(k Key, r row) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.revision == 0 {
		delete(b.rows, k)
	} else {
		if old, ok := b.rows[k]; ok && old.grant.Seen.After(r.grant.Seen) {
			r.grant.Seen = old.grant.Seen // marked after the writer looked
		}
		b.rows[k] = r
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

// End ends the grant of a broadcast that ended at a moment; one of a later
// authentication, which is for the next broadcast, stays as it is. Errors are
// those of Put.
func (b *Book) End(ctx context.Context, k Key, at time.Time) error {
	g, ok := b.Get(k)
	if !ok || !g.Ended.IsZero() || g.Authenticated.After(at) {
		return nil
	}
	_, _, err := b.Update(ctx, k, func(g *Grant) {
		if g.Ended.IsZero() && !g.Authenticated.After(at) {
			g.Ended = at
		}
	})
	return err
}

// Delete forgets a grant; that there is none counts as done. Errors are those
// of Put.
func (b *Book) Delete(ctx context.Context, k Key) error {
	if err := b.begin(ctx); err != nil {
		return err
	}
	defer b.end()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	if err := b.bucket.Delete(ctx, k.String(), 0); err != nil && !errors.Is(err, store.ErrNotFound) {
		return unavailable(err)
	}
	b.keep(k, row{})
	return nil
}

// begin waits for the turn to write.
func (b *Book) begin(ctx context.Context) error {
	select {
	case <-b.writing:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *Book) end() { b.writing <- struct{}{} }

// unavailable makes a *fault.Error of what the store says.
func unavailable(err error) error {
	if fault.ReasonOf(err) != "" {
		return err
	}
	return fault.New(fault.StoreUnavailable, "the server cannot write its records; its log says why").Because(err)
}

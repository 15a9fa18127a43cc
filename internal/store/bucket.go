package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// tombstoneAge is how long a deletion is remembered, so that a process that was away sees it. After
// that a deleted key takes no space.
const tombstoneAge = 24 * time.Hour

var (
	keyPattern  = regexp.MustCompile(`^[0-9A-Za-z_-]{1,128}$`)
	namePattern = regexp.MustCompile(`^[0-9a-z_-]{1,32}$`)
)

// Record is one record of a bucket.
type Record struct {
	Key      string
	Value    []byte    // belongs to the receiver
	Revision uint64    // grows with every change in the bucket; never reused, also not after a deletion
	Created  time.Time // when this revision was written
}

// Bucket holds records by key.
type Bucket struct {
	name string
	kv   jetstream.KeyValue
}

// Bucket opens the bucket of that name and makes it when there is none. A name is 1 to 32 of the
// lower-case letters, digits, _ and -.
func (s *Store) Bucket(ctx context.Context, name string) (*Bucket, error) {
	if !namePattern.MatchString(name) {
		return nil, fmt.Errorf("open bucket: %q is not a bucket name", name)
	}
	kv, err := s.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket:         name,
		Storage:        jetstream.FileStorage,
		MaxValueSize:   maxPayload, // a message's headers count too; MaxValue is held by checkRecord
		LimitMarkerTTL: tombstoneAge,
	})
	if err != nil {
		return nil, unavailable("open bucket "+name, err)
	}
	return &Bucket{name: name, kv: kv}, nil
}

// Get returns the record of key, or ErrNotFound.
func (b *Bucket) Get(ctx context.Context, key string) (Record, error) {
	if err := checkRecord(key, nil); err != nil {
		return Record{}, err
	}
	entry, err := b.kv.Get(ctx, key)
	if err != nil {
		return Record{}, b.fail("get", key, err)
	}
	return record(entry), nil
}

// Create writes a record that must not exist yet and returns its revision, or ErrExists. The value is
// not retained.
func (b *Bucket) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	if err := checkRecord(key, value); err != nil {
		return 0, err
	}
	revision, err := b.kv.Create(ctx, key, value)
	if err != nil {
		return 0, b.fail("create", key, err)
	}
	return revision, nil
}

// Update replaces the record that has the given revision and returns the new one. It fails with
// ErrConflict when the record has another revision, or is gone. The value is not retained.
func (b *Bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if err := checkRecord(key, value); err != nil {
		return 0, err
	}
	if revision == 0 { // would mean "must not exist" to JetStream
		return 0, b.fail("update", key, jetstream.ErrKeyRevisionMismatch)
	}
	next, err := b.kv.Update(ctx, key, value, revision)
	if err != nil {
		return 0, b.fail("update", key, err)
	}
	return next, nil
}

// Put writes a record whatever was there and returns its revision. The value is not retained.
func (b *Bucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	if err := checkRecord(key, value); err != nil {
		return 0, err
	}
	revision, err := b.kv.Put(ctx, key, value)
	if err != nil {
		return 0, b.fail("put", key, err)
	}
	return revision, nil
}

// Delete removes the record that has the given revision; 0 removes any. It fails with ErrNotFound
// when there is no record and with ErrConflict when it has another revision.
func (b *Bucket) Delete(ctx context.Context, key string, revision uint64) error {
	current, err := b.Get(ctx, key)
	if err != nil {
		return err
	}
	if revision == 0 {
		revision = current.Revision
	}
	err = b.kv.Purge(ctx, key, jetstream.LastRevision(revision), jetstream.PurgeTTL(tombstoneAge))
	if err != nil {
		return b.fail("delete", key, err)
	}
	return nil
}

// List returns all records, sorted by key.
func (b *Bucket) List(ctx context.Context) ([]Record, error) {
	w, err := b.watch(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, err
	}
	defer w.Close()
	var records []Record
	for {
		change, err := w.Next(ctx)
		if err != nil {
			return nil, err
		}
		if change.Kind == Synced {
			slices.SortFunc(records, func(x, y Record) int { return cmp.Compare(x.Key, y.Key) })
			return records, nil
		}
		records = append(records, change.Record)
	}
}

func record(e jetstream.KeyValueEntry) Record {
	return Record{Key: e.Key(), Value: e.Value(), Revision: e.Revision(), Created: e.Created()}
}

func checkRecord(key string, value []byte) error {
	if !keyPattern.MatchString(key) {
		return fmt.Errorf("%w: %.140q", ErrInvalidKey, key)
	}
	if len(value) > MaxValue {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(value), MaxValue)
	}
	return nil
}

// fail turns an error of JetStream into one of this package's.
func (b *Bucket) fail(verb, key string, err error) error {
	var kind error
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrKeyDeleted):
		kind = ErrNotFound
	// A lost race for a key is reported with the same code as a key that exists: what was asked for
	// tells them apart.
	case verb == "create" && errors.Is(err, jetstream.ErrKeyExists):
		kind = ErrExists
	case errors.Is(err, jetstream.ErrKeyRevisionMismatch), errors.Is(err, jetstream.ErrKeyExists):
		kind = ErrConflict
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s %s in %s: %w", verb, key, b.name, err)
	default:
		return unavailable(fmt.Sprintf("%s %s in %s", verb, key, b.name), err)
	}
	return fmt.Errorf("%s %s in %s: %w", verb, key, b.name, kind)
}

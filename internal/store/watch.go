package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// ChangeKind says what a Change tells.
type ChangeKind uint8

// The kinds of changes.
const (
	Put     ChangeKind = iota + 1 // Record is the record as it is now
	Deleted                       // Record has the key and the revision of the deletion, no value
	Synced                        // the bookmark: everything before was the snapshot; Record is empty
)

// Change is one step of a watch.
type Change struct {
	Kind   ChangeKind
	Record Record
}

// ErrWatchLost is returned by Next when a watch ended without being closed; watch again.
var ErrWatchLost = errors.New("store: the watch was lost")

// Watch tells the records of a bucket and then its changes. One goroutine reads it.
type Watch struct {
	bucket *Bucket
	w      jetstream.KeyWatcher
	cancel context.CancelFunc
}

// Watch begins with every record there is (the snapshot, in no particular order), then one Synced,
// then each change in the order of revisions. Several changes of one key that come faster than they
// are read are all told. Close the watch when done with it; it also ends with ctx.
func (b *Bucket) Watch(ctx context.Context) (*Watch, error) {
	return b.watch(ctx)
}

func (b *Bucket) watch(ctx context.Context, opts ...jetstream.WatchOpt) (*Watch, error) {
	// The watch must end by Close even when ctx never does.
	ctx, cancel := context.WithCancel(ctx)
	w, err := b.kv.WatchAll(ctx, opts...)
	if err != nil {
		cancel()
		return nil, unavailable("watch "+b.name, err)
	}
	return &Watch{bucket: b, w: w, cancel: cancel}, nil
}

// Next waits for the next step. It returns the cause of ctx when ctx ends first, and ErrWatchLost when
// the watch is over.
func (w *Watch) Next(ctx context.Context) (Change, error) {
	select {
	case entry, ok := <-w.w.Updates():
		if !ok {
			return Change{}, fmt.Errorf("watch %s: %w", w.bucket.name, ErrWatchLost)
		}
		if entry == nil {
			return Change{Kind: Synced}, nil
		}
		change := Change{Kind: Put, Record: record(entry)}
		if entry.Operation() != jetstream.KeyValuePut {
			change.Kind, change.Record.Value = Deleted, nil
		}
		return change, nil
	case <-ctx.Done():
		return Change{}, context.Cause(ctx)
	}
}

// Close ends the watch and frees what it holds. Next must not be running.
func (w *Watch) Close() {
	w.cancel()
	if err := w.w.Stop(); err != nil {
		return // ended before, with its context or with the store
	}
	// The deliverer may be waiting for room for one more change and sees the end only after it:
	// take what comes until the channel is closed.
	for range w.w.Updates() { // emptying is the purpose
	}
}

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxRead is the most entries one Read returns, whatever is asked for: it bounds the memory of one call.
const maxRead = 1024

// maxReadBytes ends a Read early, so that one call of large entries stays small.
const maxReadBytes = 8 << 20

// readTimeout bounds a Read whose context has no deadline.
const readTimeout = 5 * time.Second

// Bounds says how much a journal keeps; what is older goes when one of them is exceeded. Zero is no bound.
type Bounds struct {
	Count int64         // entries
	Bytes int64         // bytes on the disk, with the store's own headers
	Age   time.Duration // at least 100 ms
}

// Entry is one entry of a journal.
type Entry struct {
	Seq   uint64    // from 1, without gaps, never reused
	Time  time.Time // when it was appended
	Value []byte    // belongs to the receiver
}

// Journal is an append-only log that keeps its newest entries.
type Journal struct {
	name   string
	stream jetstream.Stream
	store  *Store
}

// Journal opens the journal of that name and makes it when there is none. Other bounds than before
// take effect at once. The name follows the rules of a bucket's; a bucket and a journal may share one.
func (s *Store) Journal(ctx context.Context, name string, b Bounds) (*Journal, error) {
	if !namePattern.MatchString(name) {
		return nil, fmt.Errorf("open journal: %q is not a journal name", name)
	}
	unbounded := func(n int64) int64 {
		if n <= 0 {
			return -1
		}
		return n
	}
	duplicates := time.Duration(0)
	if b.Age > 0 && b.Age < 2*time.Minute { // JetStream's default window must not be longer than the age
		duplicates = b.Age
	}
	stream, err := s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        "JOURNAL_" + name,
		Subjects:    []string{journalSubject(name)},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		MaxMsgs:     unbounded(b.Count),
		MaxBytes:    unbounded(b.Bytes),
		MaxAge:      b.Age,
		Duplicates:  duplicates,
		MaxMsgSize:  maxPayload,
		AllowDirect: true,
		DenyDelete:  true,
	})
	if err != nil {
		return nil, unavailable("open journal "+name, err)
	}
	return &Journal{name: name, stream: stream, store: s}, nil
}

func journalSubject(name string) string { return "journal." + name }

// Append writes an entry and returns its sequence number; the entry is durable then. The value is not
// retained.
func (j *Journal) Append(ctx context.Context, value []byte) (uint64, error) {
	if len(value) > MaxValue {
		return 0, fmt.Errorf("append to %s: %w: %d bytes, at most %d", j.name, ErrTooLarge, len(value), MaxValue)
	}
	ack, err := j.store.js.Publish(ctx, journalSubject(j.name), value)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return 0, fmt.Errorf("append to %s: %w", j.name, err)
		}
		return 0, unavailable("append to "+j.name, err)
	}
	return ack.Sequence, nil
}

// State returns the sequence numbers of the oldest and the newest entry. last stays what it was when
// all entries have aged out; then first is last+1. Both are as of the moment they were asked for.
func (j *Journal) State(ctx context.Context) (first, last uint64, err error) {
	info, err := j.stream.Info(ctx)
	if err != nil {
		return 0, 0, unavailable("ask for the state of "+j.name, err)
	}
	first, last = info.State.FirstSeq, info.State.LastSeq
	if first == 0 { // never written to
		first = 1
	}
	return first, last, nil
}

// FirstSeq returns the sequence number of the oldest entry kept; see State.
func (j *Journal) FirstSeq(ctx context.Context) (uint64, error) {
	first, _, err := j.State(ctx)
	return first, err
}

// LastSeq returns the sequence number of the newest entry ever written, 0 when there is none.
func (j *Journal) LastSeq(ctx context.Context) (uint64, error) {
	_, last, err := j.State(ctx)
	return last, err
}

// Read returns entries in order, from the first whose number is from or above: fewer than limit when
// there are no more, or when limit is large (call again with the number after the last). A first entry
// above from means that the ones before are no longer kept.
func (j *Journal) Read(ctx context.Context, from uint64, limit int) ([]Entry, error) {
	if limit <= 0 {
		return nil, nil
	}
	limit = min(limit, maxRead)
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, readTimeout)
		defer cancel()
	}
	entries, err := j.readBatch(ctx, max(from, 1), limit)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return nil, fmt.Errorf("read %s: %w", j.name, err)
		}
		return nil, unavailable("read "+j.name, err)
	}
	return entries, nil
}

// batchRequest is JetStream's request for several messages at once (NATS ADR-31).
type batchRequest struct {
	Seq      uint64 `json:"seq"`
	Batch    int    `json:"batch"`
	MaxBytes int    `json:"max_bytes"`
}

// readBatch asks for limit messages in one request. Each comes as one message; the last is followed by
// one with status 204.
func (j *Journal) readBatch(ctx context.Context, from uint64, limit int) ([]Entry, error) {
	request, err := json.Marshal(batchRequest{Seq: from, Batch: limit, MaxBytes: maxReadBytes})
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	inbox := j.store.conn.NewInbox()
	sub, err := j.store.conn.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // fails only when the connection is gone, and the subscription with it
	subject := "$JS.API.DIRECT.GET.JOURNAL_" + j.name
	if err := j.store.conn.PublishRequest(subject, inbox, request); err != nil {
		return nil, fmt.Errorf("send request: %w", err)
	}
	var entries []Entry
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, fmt.Errorf("wait for entries: %w", err)
		}
		switch status := m.Header.Get("Status"); status {
		case "":
		case "204", "404": // end of batch; nothing from here on
			return entries, nil
		default:
			return nil, fmt.Errorf("JetStream answered %s %s", status, m.Header.Get("Description"))
		}
		entry, err := parseEntry(m)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
}

func parseEntry(m *nats.Msg) (Entry, error) {
	seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return Entry{}, fmt.Errorf("read sequence number: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer))
	if err != nil {
		return Entry{}, fmt.Errorf("read time: %w", err)
	}
	return Entry{Seq: seq, Time: at, Value: m.Data}, nil
}

// Package catalog is the built-in authority: the streams that this server
// knows by itself, with their tokens.
//
// Streams are declared in the configuration, made from a declared template
// such as "event-*" by their first publisher, or created through the control
// API and kept in the durable store. Catalog is the type to read first.
package catalog

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/store"
	"github.com/klive-media/klive/internal/stream"
)

// Declared is a stream of the configuration. An ID that ends in '*' is a
// template for every id that begins with what stands before it.
type Declared struct {
	ID      string
	Token   string
	Partner int
	// Passphrase is that of SRT; "" is none of its own.
	Passphrase string
}

// Options are what a Catalog needs.
type Options struct {
	Store    *store.Store
	Declared []Declared
	Logger   *slog.Logger
}

// Catalog holds the streams. The store is the truth for those made through the
// API; the map is a copy of it that reads without I/O.
type Catalog struct {
	streams   *store.Bucket
	state     *store.Bucket
	templates []Declared
	throttle  *throttle

	mu      sync.Mutex // guards the fields below
	rows    map[string]row
	changed chan struct{}
}

// row is an entry with its secrets.
type row struct {
	entry   stream.Entry
	secrets stream.Secrets
	// template is the declared id, such as "event-*", that the row was made from;
	// "" for the others.
	template string
}

// guessed is what a wrong token for the row was a guess at: the token of a
// template is one secret, under however many ids it is tried.
func (r row) guessed() string { return cmp.Or(r.template, r.entry.ID) }

var (
	_ stream.Authority = (*Catalog)(nil)
	_ stream.Entries   = (*Catalog)(nil)
)

// maxTemplated bounds the streams made from templates in one server run.
const maxTemplated = 10000

// Open reads the stored streams and adds the declared ones. Where both have
// the same id, the configuration wins and the stored one sleeps.
func Open(ctx context.Context, o Options) (*Catalog, error) {
	c := &Catalog{throttle: newThrottle(), rows: make(map[string]row), changed: make(chan struct{})}
	var err error
	if c.streams, err = o.Store.Bucket(ctx, "streams"); err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	if c.state, err = o.Store.Bucket(ctx, "catalog"); err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	records, err := c.streams.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("read catalog: %w", err)
	}
	for _, rec := range records {
		r, err := decode(rec)
		if err != nil {
			return nil, fmt.Errorf("read catalog: %w", err)
		}
		c.rows[r.entry.ID] = r
	}
	now := time.Now()
	for _, d := range o.Declared {
		if prefix, ok := strings.CutSuffix(d.ID, "*"); ok {
			d.ID = prefix
			c.templates = append(c.templates, d)
			continue
		}
		if _, both := c.rows[d.ID]; both && o.Logger != nil {
			o.Logger.Warn("a stream of the configuration hides one made through the API", "stream", d.ID)
		}
		c.rows[d.ID] = declaredRow(d, d.ID, stream.FromConfig, now)
	}
	// The longest prefix is the best match.
	slices.SortStableFunc(c.templates, func(a, b Declared) int { return cmp.Compare(len(b.ID), len(a.ID)) })
	return c, nil
}

func declaredRow(d Declared, id string, origin stream.Origin, now time.Time) row {
	return row{secrets: stream.Secrets{Token: d.Token, Passphrase: d.Passphrase}, entry: stream.Entry{
		ID: id, Partner: d.Partner, Origin: origin, Created: now, Updated: now, TokenUpdatedAt: now, Encrypted: d.Passphrase != "",
	}}
}

// record is a row on disk.
type record struct {
	DisplayName  string            `json:"display_name,omitempty"`
	Partner      int               `json:"partner,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Token        string            `json:"token"`
	Passphrase   string            `json:"passphrase,omitempty"` // of SRT
	Created      time.Time         `json:"created"`
	Updated      time.Time         `json:"updated"`
	TokenUpdated time.Time         `json:"token_updated"`
}

func decode(rec store.Record) (row, error) {
	var v record
	if err := json.Unmarshal(rec.Value, &v); err != nil {
		return row{}, fmt.Errorf("decode stream %q: %w", rec.Key, err)
	}
	return row{secrets: stream.Secrets{Token: v.Token, Passphrase: v.Passphrase}, entry: stream.Entry{
		ID: rec.Key, DisplayName: v.DisplayName, Partner: v.Partner, Labels: v.Labels, Origin: stream.FromAPI,
		Created: v.Created, Updated: v.Updated, TokenUpdatedAt: v.TokenUpdated, Encrypted: v.Passphrase != "", Revision: rec.Revision,
	}}, nil
}

func (r row) encode() ([]byte, error) {
	return json.Marshal(record{
		DisplayName: r.entry.DisplayName, Partner: r.entry.Partner, Labels: r.entry.Labels, Token: r.secrets.Token, Passphrase: r.secrets.Passphrase,
		Created: r.entry.Created, Updated: r.entry.Updated, TokenUpdated: r.entry.TokenUpdatedAt,
	})
}

// find is the row of an id, made from a template where one fits.
func (c *Catalog) find(id string) (row, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.rows[id]; ok {
		return r, true
	}
	for _, t := range c.templates {
		if strings.HasPrefix(id, t.ID) && ingest.IsCatalogID(id) {
			r := declaredRow(t, id, stream.FromTemplate, time.Now())
			r.template = t.ID + "*"
			return r, true
		}
	}
	return row{}, false
}

// keep puts a row into the map, unless a newer one is there already.
func (c *Catalog) keep(r row) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rows[r.entry.ID].entry.Revision > r.entry.Revision {
		return
	}
	c.rows[r.entry.ID] = r
	c.announce()
}

// drop takes a row out of the map, unless a newer one is there already.
func (c *Catalog) drop(id string, revision uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rows[id].entry.Revision > revision {
		return
	}
	delete(c.rows, id)
	c.announce()
}

// announce closes Changed; c.mu is held.
func (c *Catalog) announce() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Changed implements stream.Entries.
func (c *Catalog) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// List implements stream.Entries.
func (c *Catalog) List(context.Context) ([]stream.Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]stream.Entry, 0, len(c.rows))
	for _, id := range slices.Sorted(maps.Keys(c.rows)) {
		out = append(out, c.rows[id].entry)
	}
	return out, nil
}

// Get implements stream.Entries.
func (c *Catalog) Get(_ context.Context, id string) (stream.Entry, error) {
	r, err := c.covered(id)
	return r.entry, err
}

// Secrets implements stream.Entries.
func (c *Catalog) Secrets(_ context.Context, id string) (stream.Secrets, error) {
	r, err := c.covered(id)
	return r.secrets, err
}

// Passphrase is the SRT passphrase of the stream that a publisher asks for; ""
// when it has none of its own, and when there is no such stream: what is wrong
// with an address, Authenticate says, and slows down who guesses. It does not
// wait.
func (c *Catalog) Passphrase(_ context.Context, r ingest.Request) (string, error) {
	found, _ := c.find(r.Stream)
	return found.secrets.Passphrase, nil
}

// covered is the row of an id that is there or that a template covers: its
// addresses are wanted before its first publisher comes.
func (c *Catalog) covered(id string) (row, error) {
	if r, ok := c.find(id); ok {
		return r, nil
	}
	return row{}, notFound(id)
}

func (c *Catalog) stored(id string) (row, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.rows[id]
	if !ok {
		return row{}, notFound(id)
	}
	return r, nil
}

func notFound(id string) error {
	return fault.New(fault.StreamNotFound, "no stream %q is known on this server", id).With("stream", id)
}

// NewToken makes a random token of 130 bits that is easy to paste.
func NewToken() string { return strings.ToLower(rand.Text()) }

// storeFault turns an error of the store into one a caller can act on.
func storeFault(id string, err error) error {
	switch {
	case errors.Is(err, store.ErrConflict):
		return fault.New(fault.EtagMismatch, "stream %q was changed meanwhile; read it again", id)
	case errors.Is(err, store.ErrExists):
		return fault.New(fault.AlreadyExistsReason, "a stream %q exists already", id)
	case errors.Is(err, store.ErrNotFound):
		return notFound(id)
	}
	return fault.New(fault.StoreUnavailable, "the server's store did not answer; try again").Because(err)
}

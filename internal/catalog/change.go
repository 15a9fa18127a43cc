package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/store"
	"github.com/klive-media/klive/internal/stream"
)

// Bounds of what a stream made through the API may hold, in bytes. The
// contract in api/proto says the same.
const (
	minToken       = 8
	maxToken       = 128
	maxDisplayName = 256
	maxLabels      = 64
	maxLabel       = 128 // of a key, and of a value
	maxRetries     = 8
)

// tokenPattern keeps tokens to what stands in every address unescaped.
var tokenPattern = regexp.MustCompile(`^[0-9A-Za-z._~-]+$`)

// labelKey keeps keys to what a filter can name without quotes.
var labelKey = regexp.MustCompile(`^[0-9A-Za-z_.:/*+@-]+$`)

// Create implements stream.Entries.
func (c *Catalog) Create(ctx context.Context, e stream.Entry, s stream.Secrets) (stream.Entry, stream.Secrets, error) {
	if s.Token == "" {
		s.Token = NewToken()
	}
	for _, err := range []error{checkID(e.ID), checkEntry(e), checkToken(s.Token), checkPassphrase(s.Passphrase)} {
		if err != nil {
			return stream.Entry{}, stream.Secrets{}, err
		}
	}
	if _, ok := c.find(e.ID); ok {
		return stream.Entry{}, stream.Secrets{}, fault.New(fault.AlreadyExistsReason, "a stream %q exists already, or a template of the configuration covers it", e.ID)
	}
	now := time.Now().UTC()
	r := row{secrets: s, entry: stream.Entry{
		ID: e.ID, DisplayName: e.DisplayName, Partner: e.Partner, Labels: maps.Clone(e.Labels),
		Origin: stream.FromAPI, Created: now, Updated: now, TokenUpdatedAt: now, Encrypted: s.Passphrase != "",
	}}
	value, err := r.encode()
	if err != nil {
		return stream.Entry{}, stream.Secrets{}, fmt.Errorf("encode stream: %w", err)
	}
	if r.entry.Revision, err = c.streams.Create(ctx, e.ID, value); err != nil {
		return stream.Entry{}, stream.Secrets{}, storeFault(e.ID, err)
	}
	c.keep(r)
	return r.entry, s, nil
}

// Update implements stream.Entries. A publisher on air stays when the
// passphrase changes; it needs the new one when it comes back.
func (c *Catalog) Update(ctx context.Context, e stream.Entry, passphrase *string, revision uint64) (stream.Entry, error) {
	if err := checkEntry(e); err != nil {
		return stream.Entry{}, err
	}
	if passphrase != nil {
		if err := checkPassphrase(*passphrase); err != nil {
			return stream.Entry{}, err
		}
	}
	r, err := c.change(ctx, e.ID, revision, func(r *row) {
		r.entry.DisplayName, r.entry.Partner, r.entry.Labels = e.DisplayName, e.Partner, maps.Clone(e.Labels)
		if passphrase != nil {
			r.secrets.Passphrase, r.entry.Encrypted = *passphrase, *passphrase != ""
		}
	})
	return r.entry, err
}

// RotateToken implements stream.Entries. The publisher on air stays; it needs
// the new token when it comes back.
func (c *Catalog) RotateToken(ctx context.Context, id string) (stream.Entry, stream.Secrets, error) {
	r, err := c.change(ctx, id, 0, func(r *row) {
		r.secrets.Token = NewToken()
		r.entry.TokenUpdatedAt = time.Now().UTC()
	})
	return r.entry, r.secrets, err
}

// change applies fn to a stream made through the API and stores it. revision 0
// applies it to whatever is there.
func (c *Catalog) change(ctx context.Context, id string, revision uint64, fn func(*row)) (row, error) {
	if err := c.changeable(id); err != nil {
		return row{}, err
	}
	for try := 0; ; try++ {
		rec, err := c.streams.Get(ctx, id)
		if err != nil {
			return row{}, storeFault(id, err)
		}
		if revision != 0 && rec.Revision != revision {
			return row{}, storeFault(id, store.ErrConflict)
		}
		r, err := decode(rec)
		if err != nil {
			return row{}, err
		}
		fn(&r)
		r.entry.Updated = time.Now().UTC()
		value, err := r.encode()
		if err != nil {
			return row{}, fmt.Errorf("encode stream: %w", err)
		}
		r.entry.Revision, err = c.streams.Update(ctx, id, value, rec.Revision)
		if errors.Is(err, store.ErrConflict) && revision == 0 && try < maxRetries {
			continue
		}
		if err != nil {
			return row{}, storeFault(id, err)
		}
		c.keep(r)
		return r, nil
	}
}

// Delete implements stream.Entries.
func (c *Catalog) Delete(ctx context.Context, id string, revision uint64) error {
	if err := c.changeable(id); err != nil {
		return err
	}
	r, err := c.stored(id)
	if err != nil {
		return err
	}
	if err := c.streams.Delete(ctx, id, revision); err != nil {
		return storeFault(id, err)
	}
	c.drop(id, r.entry.Revision)
	return nil
}

// changeable refuses streams that the configuration owns.
func (c *Catalog) changeable(id string) error {
	r, err := c.covered(id)
	if err != nil {
		return err
	}
	if r.entry.Origin != stream.FromAPI {
		return fault.New(fault.ManagedByConfig, "stream %q is declared in the configuration; change it there", id).With("stream", id)
	}
	return nil
}

func checkID(id string) error {
	if !ingest.IsCatalogID(id) {
		return invalid("stream_id", "a stream id is 1 to 63 letters, digits, _ and -, and begins with a letter or digit; %q is not", id)
	}
	if _, _, ends := ingest.SplitName(id); ends {
		return invalid("stream_id", "%q ends like an ingest index (_ and 1 to 4 digits); choose another id", id)
	}
	return nil
}

func checkToken(token string) error {
	if len(token) < minToken || len(token) > maxToken || !tokenPattern.MatchString(token) {
		return invalid("token", "a token is %d to %d letters, digits, dots, _, ~ and -", minToken, maxToken)
	}
	return nil
}

func checkPassphrase(passphrase string) error {
	if passphrase != "" && !ingest.ValidPassphrase(passphrase) {
		return invalid("srt_passphrase", "a passphrase of SRT is %d to %d bytes of printable text, or empty for none", ingest.MinPassphrase, ingest.MaxPassphrase)
	}
	return nil
}

func checkEntry(e stream.Entry) error {
	switch {
	case len(e.DisplayName) > maxDisplayName:
		return invalid("display_name", "a display name has at most %d bytes", maxDisplayName)
	case e.Partner < 0:
		return invalid("partner_id", "a partner is a positive number, or 0 for none")
	case len(e.Labels) > maxLabels:
		return invalid("labels", "a stream has at most %d labels", maxLabels)
	}
	for k, v := range e.Labels {
		if len(k) > maxLabel || !labelKey.MatchString(k) {
			return invalid("labels", "a label's key has 1 to %d letters, digits or characters of _-.:/*+@", maxLabel)
		}
		if len(v) > maxLabel {
			return invalid("labels", "a label's value has at most %d bytes", maxLabel)
		}
	}
	return nil
}

func invalid(field, format string, args ...any) error {
	return fault.New(fault.InvalidField, format, args...).With("field", field)
}

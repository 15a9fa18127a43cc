package delivery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/klive-media/klive/internal/store"
)

// tidy removes what is of no use any more, now and every hour.
func (q *Queue) tidy(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	// The recordings are known soon after the start, and what was kept of old
	// ones need not wait for an hour.
	for pause := tidyAgain; ; pause = sweepEach {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		q.sweepFiles()
		q.forget(ctx)
		q.pack() // behind the sweep, which needs the rows
		timer.Reset(pause)
	}
}

// sweepFiles removes files that were made for the backend, are delivered, and
// were not taken away within a day. What it does not know it leaves alone.
func (q *Queue) sweepFiles() {
	old := map[string]bool{}
	q.mu.Lock()
	for _, r := range q.table {
		if r.State == delivered && time.Since(r.Done) >= linkLife {
			names := []string{q.pieceName(r)}
			if r.Content {
				names = append(names, q.wholeName(r))
			}
			for _, name := range names {
				old[name], old[name+".part"] = true, true
			}
		}
	}
	// A whole recording has many rows; the one that carries it decides.
	for _, r := range q.table {
		if r.Content && (r.State != delivered || time.Since(r.Done) < linkLife) {
			delete(old, q.wholeName(r))
			delete(old, q.wholeName(r)+".part")
		}
	}
	q.mu.Unlock()
	for _, dir := range []string{q.opts.SharedDir, q.opts.WorkDir} {
		if dir == "" {
			continue
		}
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			q.log.Warn("files that were handed over could not be tidied up", "error", err)
		}
		for _, e := range entries {
			if !old[e.Name()] {
				continue
			}
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				q.log.Warn("a file that was handed over could not be removed", "error", err)
			}
		}
	}
}

// pieceName is the name under which a piece is handed over.
func (q *Queue) pieceName(r *row) string {
	return fmt.Sprintf("%s.%s.%d_%s_%d.mp4", r.Stream, r.Asset, r.ServerIndex, r.Recording, r.Number)
}

// forget removes the rows of recordings that are gone for good: not listed for
// a day, and their files not there either. A row that went too early would
// make its piece look new, and it would be sent twice; so a disk that is only
// away must not look like a deletion.
func (q *Queue) forget(ctx context.Context) {
	var back []string
	q.mu.Lock()
	for id, k := range q.known {
		if k.packed != nil && !k.gone.IsZero() && time.Since(k.gone) >= linkLife {
			back = append(back, id)
		}
	}
	q.mu.Unlock()
	for _, id := range back {
		if err := q.unpack(ctx, id); err != nil {
			q.log.Warn("the rows of a recording that is gone could not be read", "recording", id, "error", err)
		}
	}
	var gone []*row
	q.mu.Lock()
	for _, r := range q.table {
		if k := q.known[r.Recording]; k != nil && !k.gone.IsZero() && time.Since(k.gone) >= linkLife {
			gone = append(gone, r)
		}
	}
	q.mu.Unlock()
	for _, r := range gone {
		if _, err := os.Stat(r.File); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if r.State != delivered {
			q.log.Warn("a delivery is forgotten: its recording and its file are gone for a day", "entry", r.Stream, "recording", r.Recording,
				"rendition", r.Rendition, "number", r.Number, "state", r.shown(false).State.String())
		}
		if err := q.rows.Delete(ctx, r.key, r.revision); err != nil && !errors.Is(err, store.ErrNotFound) {
			q.log.Warn("the row of a delivery could not be removed", "key", r.key, "error", err)
			continue
		}
		q.mu.Lock()
		q.drop(r)
		q.mu.Unlock()
	}
}

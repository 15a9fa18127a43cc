package segment

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// record is the little about a shelf that its files' names do not say. It is
// written when a broadcast begins, when its targets are fixed and when it ends.
type record struct {
	Broadcast       string        `json:"broadcast"`
	Start           time.Time     `json:"start"`
	SegmentDuration time.Duration `json:"segment_duration,omitempty"`
	Window          time.Duration `json:"window,omitempty"`
	Note            note          `json:"note,omitempty"`
	OnAir           bool          `json:"on_air"`
	Ended           time.Time     `json:"ended,omitzero"`
	TargetSegment   time.Duration `json:"target_segment,omitempty"`
	TargetPart      time.Duration `json:"target_part,omitempty"`
	// Next and Disc are above every media sequence number and discontinuity
	// sequence number of the broadcasts before this one; of this one when it
	// ended.
	Next uint64 `json:"next"`
	Disc uint64 `json:"discontinuity"`
}

// note is Broadcast.Note in a record. One that cannot be read, or is longer
// than MaxNote, is left out: the broadcast matters more than what is noted of
// it.
type note []byte

// UnmarshalJSON implements json.Unmarshaler; it never fails.
func (n *note) UnmarshalJSON(b []byte) error {
	var plain []byte
	if err := json.Unmarshal(b, &plain); err != nil || len(plain) > MaxNote {
		plain = nil
	}
	*n = plain
	return nil
}

const (
	recordName = "shelf.json"
	maxRecord  = 64 << 10
)

// record is the shelf's; mu is held.
func (h *shelf) record() record {
	return record{
		Broadcast: h.broadcast.ID, Start: h.broadcast.Start, SegmentDuration: h.broadcast.SegmentDuration,
		Window: h.broadcast.Window, Note: h.broadcast.Note, OnAir: h.onAir, Ended: h.endedAt, TargetSegment: h.targets.Segment, TargetPart: h.targets.Part,
		Next: h.next, Disc: h.disc,
	}
}

// readRecord reads a shelf's record; a missing one is empty.
func readRecord(dir string) (r record, err error) {
	b, err := os.ReadFile(filepath.Join(dir, recordName))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("read shelf record: %w", err)
	}
	if r, err = parseRecord(b); err != nil {
		return r, fmt.Errorf("read shelf record in %s: %w", dir, err)
	}
	return r, nil
}

func parseRecord(b []byte) (r record, err error) {
	if len(b) > maxRecord {
		return r, fmt.Errorf("%d bytes are too many", len(b))
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("decode: %w", err)
	}
	if r.TargetPart < 0 || r.TargetSegment < 0 || r.TargetPart > r.TargetSegment {
		return r, fmt.Errorf("targets %s and %s make no sense", r.TargetSegment, r.TargetPart)
	}
	return r, nil
}

// writeRecord replaces a shelf's record; after a crash it is the old or the
// new one, whole.
func writeRecord(dir string, r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode shelf record: %w", err)
	}
	return replaceFile(filepath.Join(dir, recordName), b)
}

// replaceFile writes a file under another name, syncs it and renames it.
func replaceFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/segment/mp4"
)

// This file is what a restart finds. It belongs to New; nobody else sees the
// recordings yet.

// damaged reports something on disk that cannot be read. It stays where it is.
func (r *Recorder) damaged(what string, err error) {
	r.counters.errors.Add(1)
	r.log.Error("something of the recordings on disk cannot be read; it is left as it is", "what", what, "error", err)
}

func (r *Recorder) recover() error {
	streams, err := os.ReadDir(r.opts.Dir)
	if err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	for _, d := range streams {
		if !d.IsDir() {
			continue
		}
		dir := filepath.Join(r.opts.Dir, d.Name())
		list, err := os.ReadDir(dir)
		if err != nil {
			r.damaged(d.Name(), err)
			continue
		}
		for _, x := range list {
			if !x.IsDir() || !validID(x.Name()) {
				continue
			}
			if err := r.recoverRecording(filepath.Join(dir, x.Name()), x.Name()); err != nil {
				r.damaged(filepath.Join(d.Name(), x.Name()), err)
			}
		}
	}
	r.await()
	return nil
}

// await finds the recordings whose broadcasts can come back.
func (r *Recorder) await() {
	for _, i := range r.opts.Store.Interrupted() {
		for _, c := range r.all {
			if c.info.Stream == i.ID.Stream && c.info.ServerIndex == i.ID.ServerIndex && c.info.Broadcast == i.Broadcast.ID {
				c.awaited = true
			}
		}
	}
}

func (r *Recorder) recoverRecording(dir, id string) error {
	b, err := readAtMost(filepath.Join(dir, sidecarName), maxSidecar)
	if errors.Is(err, fs.ErrNotExist) && neverBegan(dir) {
		return os.RemoveAll(dir) //nolint:wrapcheck // logged by the caller
	}
	if err != nil {
		return fmt.Errorf("read recording's description: %w", err)
	}
	s, err := parseSidecar(b, id)
	if err != nil {
		return fmt.Errorf("read recording's description: %w", err)
	}
	c := &recording{
		id: id, dir: dir, began: s.Start, closing: s.Closing, end: s.End, deleting: s.Deleting, err: s.Err, gaps: s.Gaps,
		renditions: make(map[string]*rendition),
		info: egress.Info{
			Stream: s.Stream, ServerIndex: s.ServerIndex, Broadcast: s.Broadcast, Partner: s.Partner, Start: s.OnAir,
			Policy: egress.Policy{Recording: s.Mode}, Continued: true,
		},
	}
	for id, next := range s.Next {
		c.renditions[id] = &rendition{id: id, next: next}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list pieces: %w", err)
	}
	for _, ext := range [...]string{extPiece, extWork} { // what is finished first
		for _, e := range entries {
			r.recoverFile(c, e.Name(), ext)
		}
	}
	for _, d := range c.renditions {
		slices.SortFunc(d.pieces, func(a, b *piece) int { return a.number - b.number })
		for i, p := range d.pieces {
			if p.state == growing && (i < len(d.pieces)-1 || !c.closing.IsZero()) {
				p.state = waiting
			}
		}
	}
	r.all[id] = c
	return nil
}

// neverBegan reports whether the crash came before the recording's description
// was there: nothing else can be.
func neverBegan(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !strings.HasPrefix(e.Name(), ".new-") })
}

// readAtMost reads a small file.
func readAtMost(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err //nolint:wrapcheck // wrapped by the caller
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most+1)) //nolint:wrapcheck // wrapped by the caller
}

// recoverFile takes up a piece or a work file.
func (r *Recorder) recoverFile(c *recording, name, ext string) {
	path := filepath.Join(c.dir, name)
	if strings.HasPrefix(name, ".new-") || strings.HasSuffix(name, extNew) {
		_ = os.Remove(path) // of a write that was cut short; it is in nobody's way if it stays
		return
	}
	base, ok := strings.CutSuffix(name, ext)
	if !ok {
		return
	}
	id, number, ok := parsePieceName(base, c.info.Stream, c.info.ServerIndex)
	if !ok {
		return
	}
	d := c.renditions[id]
	if d == nil {
		d = &rendition{id: id}
	}
	var err error
	if ext == extPiece {
		err = recoverPiece(d, path, number)
	} else {
		err = r.recoverWork(c, d, path, number)
	}
	if err != nil {
		r.damaged(name, err)
		return
	}
	c.renditions[id] = d
}

// recoverPiece reads what a finished piece says of itself.
func recoverPiece(d *rendition, path string, number int) error {
	f, err := os.Open(path)
	if err != nil {
		return err //nolint:wrapcheck // logged by the caller
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err //nolint:wrapcheck // logged by the caller
	}
	note, err := readNote(f, info.Size())
	if err != nil {
		return err
	}
	d.pieces = append(d.pieces, &piece{
		number: number, state: finished, start: note.Start, offset: note.Offset, duration: note.Duration, size: info.Size(),
	})
	d.next, d.marks = max(d.next, note.Next), max(d.marks, note.Marks)
	return nil
}

// readNote reads the note of a finished piece.
func readNote(r io.ReaderAt, size int64) (n pieceNote, err error) {
	b, err := mp4.Note(r, size)
	if err != nil {
		return n, fmt.Errorf("read piece: %w", err)
	}
	if err := json.Unmarshal(b, &n); err != nil {
		return n, fmt.Errorf("read piece: %w: %w", mp4.ErrMalformed, err)
	}
	if n.Duration < 0 || n.Number < 1 {
		return n, fmt.Errorf("read piece: %w: its note makes no sense", mp4.ErrMalformed)
	}
	return n, nil
}

// recoverWork takes up a work file, cut back to where it is whole. What stood
// behind that was not finished; the shelf still has it.
func (r *Recorder) recoverWork(c *recording, d *rendition, path string, number int) error {
	for _, p := range d.pieces {
		if p.number == number { // the crash came before its work file was deleted
			return os.Remove(path) //nolint:wrapcheck // logged by the caller
		}
	}
	w, size, err := readWork(path)
	switch {
	case errors.Is(err, mp4.ErrMalformed) || errors.Is(err, io.ErrUnexpectedEOF):
		// Its head never came to the disk, or was lost. It is in the way of nobody
		// there, and of the next piece here.
		if size == 0 {
			return os.Remove(path) //nolint:wrapcheck // logged by the caller
		}
		return errors.Join(err, os.Rename(path, path+extDamaged))
	case err != nil:
		return err
	case len(w.segments) == 0:
		return os.Remove(path) //nolint:wrapcheck // logged by the caller
	}
	if w.good < size {
		// Nothing is written over before it is kept.
		if err := setAside(path, w.good, size); err != nil {
			return err
		}
	}
	p := &piece{number: number}
	first, end := &w.segments[0], w.segments[0].end()
	p.start, p.offset = first.wall, first.start
	for i := range w.segments {
		s := &w.segments[i]
		if s.start < p.offset {
			p.start, p.offset = s.wall, s.start
		}
		end = max(end, s.end())
		d.next = max(d.next, s.number+1)
	}
	p.duration = end - p.offset
	d.pieces = append(d.pieces, p)
	return nil
}

func readWork(path string) (w *contents, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err //nolint:wrapcheck // wrapped by the caller
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err //nolint:wrapcheck // wrapped by the caller
	}
	if w, err = scan(f, info.Size()); err != nil {
		return nil, info.Size(), err
	}
	if _, err = w.verify(f); err != nil {
		return nil, info.Size(), err
	}
	w.dropBad()
	return w, info.Size(), nil
}

// dropBad cuts segments off the end that a power cut has taken: the shelf may
// still have them.
func (c *contents) dropBad() {
	for n := len(c.segments); n > 0 && c.segments[n-1].bad; n-- {
		c.good = c.segments[n-1].at - boxOverhead - segmentRecord
		c.segments = c.segments[:n-1]
	}
	for n := len(c.marks); n > 0 && c.marks[n-1].pos > c.good; n-- {
		c.marks = c.marks[:n-1]
	}
}

// setAside keeps what stands behind the good part of a work file, unless it is
// just a segment that was not copied to its end.
func setAside(path string, good, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err //nolint:wrapcheck // logged by the caller
	}
	defer f.Close()
	if cutShort(f, good, size) {
		return nil
	}
	to, err := os.OpenFile(path+extDamaged, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err //nolint:wrapcheck // logged by the caller
	}
	_, err = io.Copy(to, io.NewSectionReader(f, good, size-good))
	if e := to.Close(); err == nil {
		err = e
	}
	return err //nolint:wrapcheck // logged by the caller
}

// cutShort reports whether a work file just ends too early.
func cutShort(r io.ReaderAt, good, size int64) bool {
	_, err := (&contents{}).scanRecord(r, good, size)
	return errors.Is(err, io.ErrUnexpectedEOF)
}

package record

import (
	"errors"
	"fmt"
	"os"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment"
	"github.com/klive-media/klive/internal/segment/fmp4"
	"github.com/klive-media/klive/internal/segment/mp4"
)

// This file is how a piece begins and grows.

// begin makes the work file of the next piece. The piece before is finished
// from here on.
func (f *follower) begin(shelf segment.Shelf, s *set) error {
	if err := f.open(s); err != nil {
		return err
	}
	var list [][]byte
	for i, k := range kinds {
		x := s.content(i)
		if x == nil {
			continue
		}
		b, err := shelf.Init(segment.RowID{Rendition: f.d.id, Kind: k}, x.Run, x.Init)
		if err != nil {
			return fmt.Errorf("read init section: %w", err)
		}
		list = append(list, b)
	}
	init, err := fmp4.Merge(list...)
	if err != nil {
		return fmt.Errorf("make init section of piece: %w", err)
	}
	f.rec.mu.Lock()
	number := 1
	if p := f.d.newest(); p != nil {
		number = p.number + 1
	}
	f.rec.mu.Unlock()
	for f.c.taken(f.d.id, number) {
		number++
	}
	marks := f.marks
	if f.work != nil {
		marks += f.work.marks
	}
	head := workHead{Recording: f.c.id, Stream: f.info.Stream, Rendition: f.d.id, Number: number, Marks: marks}
	w, err := createWork(f.c.path(f.d.id, number, extWork), init, head, f.rec.step)
	if err != nil {
		return err
	}
	lead := s.leading()
	w.mark = lead.Start
	// The first segment goes in before anybody hears of the piece: what has no
	// media is none, and the piece before is the last one until then.
	for i, k := range kinds {
		if x := s.content(i); x != nil {
			if err := f.copyTo(w, shelf, k, x); err != nil {
				_ = w.f.Close()
				_ = os.Remove(w.path) // if it stays, the next attempt begins it anew
				return err
			}
			break
		}
	}
	before := f.work
	f.work, f.marks = w, marks
	f.turn(before, number, lead)
	return nil
}

// taken reports whether there is a file of a piece with this number. A restart
// that could not read it does not list it; it must not be written over, nor be
// taken for another piece by who delivers them.
func (c *recording) taken(rendition string, number int) bool {
	for _, ext := range [...]string{extPiece, extWork} {
		if _, err := os.Lstat(c.path(rendition, number, ext)); err == nil {
			return true
		}
	}
	return false
}

// turn makes the new piece the one that grows.
func (f *follower) turn(before *work, number int, lead *segment.Segment) {
	f.rec.mu.Lock()
	var old *piece
	if p := f.d.newest(); p != nil && p.state == growing {
		old = p
		p.state = waiting
	}
	f.d.pieces = append(f.d.pieces, &piece{number: number, start: lead.Time, offset: lead.Start})
	f.d.split = 0
	f.rec.touch()
	f.rec.mu.Unlock()
	f.mu.Lock()
	f.works[f.d.id] = f.work
	f.mu.Unlock()
	if before != nil {
		_ = before.f.Close() // it is synced before it is read
	}
	if old != nil {
		f.finish(job{d: f.d, number: old.number, after: f.work})
	}
}

// lost reports whether an error says that the shelf does not have a segment any
// more, or not as it was: there is no use in trying again.
func lost(err error) bool {
	return fault.ReasonOf(err) == fault.NotPlayable || errors.Is(err, errShort) || errors.Is(err, mp4.ErrMalformed)
}

// copyTo puts a track's segment into a work file.
func (f *follower) copyTo(w *work, shelf segment.Shelf, kind media.Kind, s *segment.Segment) error {
	if to := w.done.Load(); to > w.synced {
		if err := w.addSynced(to); err != nil {
			return err
		}
	}
	c, err := shelf.Open(segment.RowID{Rendition: f.d.id, Kind: kind}, s.Run, s.Number, -1)
	if err != nil {
		return fmt.Errorf("open segment %d: %w", s.Number, err)
	}
	defer c.Close()
	was := w.size
	x := workSegment{kind: kind, number: s.Number, start: s.Start, duration: s.Duration, wall: s.Time, size: c.Size}
	if err := w.append(x, c, f.room); err != nil {
		return err
	}
	f.rec.counters.bytes.Add(w.size - was)
	return nil
}

// mark writes the samples of the data track that fall into the segment.
func (f *follower) mark(s *segment.Segment) error {
	o := &f.rec.opts
	if o.Mark == nil {
		return nil
	}
	for w := f.work; w.mark < s.Start+s.Duration; w.mark += o.MarkEvery {
		wall := s.Time.Add(w.mark - s.Start)
		payload := o.Mark(f.info, f.d.id, f.marks+w.marks, wall)
		if len(payload) == 0 {
			continue
		}
		if len(payload) > maxMark {
			return fmt.Errorf("a mark of %d bytes is longer than %d", len(payload), maxMark)
		}
		if err := w.addMark(w.mark, wall, payload); err != nil {
			return err
		}
	}
	return nil
}

// maxMark bounds a sample of the data track.
const maxMark = 64 << 10

// grown tells how long the piece is now.
func (f *follower) grown() {
	f.rec.mu.Lock()
	if p := f.d.newest(); p != nil {
		p.offset, p.duration = f.work.start, f.work.end-f.work.start
		p.start = f.work.first.wall.Add(f.work.start - f.work.first.start)
	}
	f.rec.mu.Unlock()
}

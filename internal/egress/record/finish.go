package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/run"
	"github.com/klive-media/klive/internal/segment/mp4"
	"github.com/klive-media/klive/internal/stream"
)

// This file is how pieces are finished, beside the copying.

const (
	// tryAgain is when a piece that could not be finished is tried again.
	tryAgain = 5 * time.Second
	// attempts is how often that is done after the broadcast ended, before it is
	// left to Serve.
	attempts = 3
)

// pieceNote stands at the beginning of a piece: what List says of it.
type pieceNote struct {
	Recording   string        `json:"recording"`
	Stream      string        `json:"stream"`
	ServerIndex int           `json:"server_index"`
	Rendition   string        `json:"rendition"`
	Number      int           `json:"number"`
	Start       time.Time     `json:"start"`
	Offset      time.Duration `json:"offset"`
	Duration    time.Duration `json:"duration"`
	// Marks is how many samples the data track has up to the end of this piece.
	Marks int `json:"marks,omitempty"`
	// Next is the number of the segment after the piece's last.
	Next uint64 `json:"next"`
}

// finishing finishes pieces, one after the other, until no more come.
func (s *session) finishing(ctx context.Context) {
	defer close(s.idle)
	for failures := 0; ctx.Err() == nil; { // what is left then stays for the next run
		s.mu.Lock()
		var j job
		some, last := len(s.jobs) > 0, s.last
		if some {
			j = s.jobs[0]
		}
		s.mu.Unlock()
		if !some {
			if last {
				return
			}
			select {
			case <-s.wake:
			case <-ctx.Done():
				return
			}
			continue
		}
		err := run.Protect("finish piece", func() error { return s.rec.finishPiece(ctx, s.c, j) })
		if err == nil {
			failures = 0
			s.mu.Lock()
			s.jobs = s.jobs[1:]
			s.mu.Unlock()
			continue
		}
		if ctx.Err() != nil {
			return // what it is made of stays
		}
		s.failed(j.d.id, err)
		s.mu.Lock()
		s.jobs = append(s.jobs[1:], j) // what is wrong with it need not be wrong with the others
		waiting := len(s.jobs)
		s.mu.Unlock()
		if failures++; last && failures >= max(attempts, waiting) {
			return
		}
		if failures < waiting { // another one first
			continue
		}
		select {
		case <-time.After(tryAgain):
		case <-ctx.Done():
		}
	}
}

// syncing syncs what was copied, and what is known of the recording, now and
// then until nothing is to be finished any more.
func (s *session) syncing(ctx context.Context) error {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.idle:
			return nil
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.sync()
		}
	}
}

func (s *session) sync() {
	s.mu.Lock()
	works := make([]*work, 0, len(s.works))
	for _, w := range s.works {
		works = append(works, w)
	}
	dirty := s.dirty
	s.dirty = false
	s.mu.Unlock()
	for _, w := range works {
		if err := w.sync(); err != nil {
			s.failed(w.head.Rendition, err)
		}
	}
	if dirty {
		if err := s.rec.save(s.c); err != nil {
			s.failed("", err)
			s.mu.Lock()
			s.dirty = true
			s.mu.Unlock()
		}
	}
}

// finishPiece makes the MP4 of a piece of its work file. It may be called again
// when it failed.
func (r *Recorder) finishPiece(ctx context.Context, c *recording, j job) error {
	select {
	case r.tokens <- struct{}{}:
		defer func() { <-r.tokens }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	from := c.path(j.d.id, j.number, extWork)
	if err := syncFile(from); err != nil {
		return fmt.Errorf("finish piece: %w", err)
	}
	m, note, damage, err := assembleFile(from, c)
	if errors.Is(err, mp4.ErrMalformed) {
		return r.giveUp(c, j, err)
	}
	if err != nil {
		return fmt.Errorf("finish piece: %w", err)
	}
	if damage != nil {
		r.failed(c, j.d.id, fmt.Errorf("finish piece %d: a part of it is lost: %w", j.number, damage))
	}
	if j.after != nil { // once the piece has its name, it is not the last one for sure
		if err := syncFile(j.after.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("finish piece: %w", err)
		}
		if err := syncDir(c.dir); err != nil {
			return fmt.Errorf("finish piece: %w", err)
		}
	}
	if err := r.at("piece to be written"); err != nil {
		return fmt.Errorf("finish piece: %w", err)
	}
	told := func(err error) { r.unshared(c, j.d.id, err) }
	size, err := r.writePiece(ctx, m, c.path(j.d.id, j.number, extNew), c.path(j.d.id, j.number, extPiece), told)
	if err != nil {
		return fmt.Errorf("finish piece: %w", err)
	}
	if err := syncDir(c.dir); err != nil {
		return fmt.Errorf("finish piece: %w", err)
	}
	if err := r.at("piece named"); err != nil {
		return fmt.Errorf("finish piece: %w", err)
	}
	r.counters.bytes.Add(size)
	r.counters.pieces.Add(1)
	r.told(c, j, note, size)
	if err := os.Remove(from); err != nil {
		r.log.Warn("a work file that is not needed any more could not be deleted", "recording", c.id, "error", err)
	}
	return r.at("work file deleted")
}

// told makes a finished piece known.
func (r *Recorder) told(c *recording, j job, note *pieceNote, size int64) {
	r.mu.Lock()
	last := false
	for i, p := range j.d.pieces {
		if p.number == j.number {
			p.state, p.start, p.offset, p.duration, p.size = finished, note.Start, note.Offset, note.Duration, size
			last = !c.closing.IsZero() && i == len(j.d.pieces)-1
		}
	}
	r.touch()
	r.mu.Unlock()
	r.event(c, stream.PieceFinished, "a piece of the recording is finished",
		"rendition", j.d.id, "number", fmt.Sprint(j.number), "duration", note.Duration.String(),
		"size", fmt.Sprint(size), "last", fmt.Sprint(last))
}

// giveUp sets a work file aside that no piece can be made of.
func (r *Recorder) giveUp(c *recording, j job, cause error) error {
	from := c.path(j.d.id, j.number, extWork)
	if err := os.Rename(from, from+extDamaged); err != nil {
		return fmt.Errorf("set damaged work file aside: %w", err)
	}
	r.failed(c, j.d.id, fmt.Errorf("piece %d is lost: %w", j.number, cause))
	r.mu.Lock()
	j.d.pieces = slices.DeleteFunc(j.d.pieces, func(p *piece) bool { return p.number == j.number })
	r.touch()
	r.mu.Unlock()
	return nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err //nolint:wrapcheck // wrapped by the caller
	}
	err = f.Sync()
	if e := f.Close(); err == nil {
		err = e
	}
	return err //nolint:wrapcheck // wrapped by the caller
}

// writePiece writes the movie under a first name and gives it its last one when
// it is complete and the group's; unshared is told when it could not be given to
// the group.
func (r *Recorder) writePiece(ctx context.Context, m *mp4.Movie, first, last string, unshared func(error)) (size int64, err error) {
	f, err := os.OpenFile(first, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o640)
	if err != nil {
		return 0, err //nolint:wrapcheck // wrapped by the caller
	}
	size, err = m.Write(ctx, f)
	if err == nil {
		if e := r.shareFile(f); e != nil {
			unshared(e)
		}
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(first, last)
	}
	if err != nil {
		_ = os.Remove(first)
		return 0, err //nolint:wrapcheck // wrapped by the caller
	}
	return size, nil
}

// markType is the MIME type of the data track. What its samples are is known to
// who makes the marks.
const markType = "application/octet-stream"

// assembleFile reads a work file into a movie.
func assembleFile(path string, c *recording) (m *mp4.Movie, note *pieceNote, damage, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, nil, err //nolint:wrapcheck // wrapped by the caller
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, nil, err //nolint:wrapcheck // wrapped by the caller
	}
	return assemble(f, info.Size(), &mp4.Source{Path: path}, c)
}

// assemble reads what is in a work file into a movie. damage is what could not
// be used of it; err is mp4.ErrMalformed when nothing can.
func assemble(f io.ReaderAt, size int64, src *mp4.Source, c *recording) (m *mp4.Movie, note *pieceNote, damage, err error) {
	w, err := scan(f, size)
	if err != nil {
		return nil, nil, nil, err
	}
	if w.good < size {
		damage = fmt.Errorf("%w: behind %d of %d bytes", mp4.ErrMalformed, w.good, size)
	}
	if _, err := w.verify(f); err != nil {
		return nil, nil, nil, err
	}
	m = &mp4.Movie{}
	if m.Tracks, err = mp4.Tracks(w.init); err != nil {
		return nil, nil, nil, err
	}
	for i := range w.segments {
		s := &w.segments[i]
		if s.bad {
			damage = fmt.Errorf("%w: segment %d", mp4.ErrMalformed, s.number)
			continue
		}
		if err := appendRuns(m, src, f, s); err != nil {
			damage = fmt.Errorf("segment %d: %w", s.number, err)
		}
	}
	if m.Samples() == 0 {
		return nil, nil, nil, fmt.Errorf("%w: no samples", mp4.ErrMalformed)
	}
	appendMarks(m, src, w)
	note = describe(m, w, c)
	if m.Note, err = json.Marshal(note); err != nil {
		return nil, nil, nil, err //nolint:wrapcheck // wrapped by the caller
	}
	m.Created, m.Title = note.Start, fmt.Sprintf("%s %s %d", c.info.Stream, note.Rendition, note.Number)
	return m, note, damage, nil
}

func appendRuns(m *mp4.Movie, src *mp4.Source, f io.ReaderAt, s *workSegment) error {
	return mp4.Runs(f, s.at, s.at+s.size, func(run *mp4.Run) error {
		i := slices.IndexFunc(m.Tracks, func(t *mp4.Track) bool { return t.ID == run.Track })
		if i < 0 {
			return fmt.Errorf("%w: samples of an unknown track %d", mp4.ErrMalformed, run.Track)
		}
		m.Tracks[i].Append(src, run)
		return nil
	})
}

// appendMarks adds the data track. It counts like the track that leads, so that
// a mark is where the media is.
func appendMarks(m *mp4.Movie, src *mp4.Source, w *contents) {
	if len(w.marks) == 0 {
		return
	}
	id := uint32(0)
	for _, t := range m.Tracks {
		id = max(id, t.ID)
	}
	data := mp4.NewMeta(id+1, m.Tracks[0].Scale, markType)
	end := media.ToTicks(m.End(), data.Scale)
	for i, k := range w.marks {
		at := media.ToTicks(k.at, data.Scale)
		next := end
		if i+1 < len(w.marks) {
			next = media.ToTicks(w.marks[i+1].at, data.Scale)
		}
		data.Append(src, &mp4.Run{Base: at, Data: k.pos, Bytes: k.len, Samples: []mp4.Sample{{
			Size: uint32(k.len), Duration: uint32(max(next-at, 0)), Sync: true, //nolint:gosec // bounded by maxRecord; within a piece
		}}})
	}
	m.Tracks = append(m.Tracks, data)
}

// describe is what is known of the piece.
func describe(m *mp4.Movie, w *contents, c *recording) *pieceNote {
	n := &pieceNote{
		Recording: c.id, Stream: c.info.Stream, ServerIndex: c.info.ServerIndex,
		Rendition: w.head.Rendition, Number: w.head.Number,
		Offset: m.Start(), Duration: m.Duration(), Marks: w.head.Marks + len(w.marks),
	}
	first := &w.segments[0]
	n.Start = first.wall.Add(n.Offset - first.start)
	for i := range w.segments {
		n.Next = max(n.Next, w.segments[i].number+1)
	}
	return n
}

package record

import (
	"fmt"
	"os"
	"time"

	"github.com/klive-media/klive/internal/stream"
)

// This file is how a session takes up what an earlier one left, and how it ends.

// resume goes on with the pieces that a restart found.
func (s *session) resume() {
	if s.c == nil {
		return
	}
	s.rec.share(s.c) // a crash may have come before that
	for _, d := range s.rec.left(s.c) {
		f := s.follow(d.id)
		s.rec.mu.Lock()
		var grows int
		var wait []int
		for _, p := range d.pieces {
			switch p.state {
			case growing:
				grows = p.number
			case waiting:
				wait = append(wait, p.number)
			}
		}
		s.rec.mu.Unlock()
		if grows > 0 {
			if err := f.reopen(grows); err != nil {
				// What it has is kept: it is finished, and another piece begins.
				s.failed(d.id, err)
				s.rec.mu.Lock()
				d.newest().state = waiting
				s.rec.mu.Unlock()
				wait = append(wait, grows)
			}
		}
		for _, n := range wait {
			s.finish(job{d: d, number: n, after: f.work})
		}
	}
}

// left are the renditions of a recording, in a list of the caller's.
func (r *Recorder) left(c *recording) (out []*rendition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range c.renditions {
		out = append(out, d)
	}
	return out
}

// reopen goes on with a work file.
func (f *follower) reopen(number int) error {
	path := f.c.path(f.d.id, number, extWork)
	c, _, err := readWork(path)
	if err != nil {
		return fmt.Errorf("go on with a piece: %w", err)
	}
	w, err := reopenWork(path, c, f.rec.opts.MarkEvery)
	if err != nil {
		return fmt.Errorf("go on with a piece: %w", err)
	}
	w.step = f.rec.step
	f.work, f.marks, f.want = w, c.head.Marks, 0
	for i, k := range kinds {
		if last := w.last[k]; last != nil {
			f.ends[i], f.began = last.end(), true
			f.want = max(f.want, last.number) // again, as the other track may lack it
		}
	}
	f.mu.Lock()
	f.works[f.d.id] = w
	f.mu.Unlock()
	return nil
}

// keep leaves the recording open for the next run of the server.
func (s *session) keep() {
	s.sync()
	for _, f := range s.all {
		if f.work != nil {
			_ = f.work.f.Close() // synced before
		}
	}
}

// close says that nothing more comes: the pieces that grow are finished, and
// are the last.
func (s *session) close() {
	if s.c == nil {
		return
	}
	r := s.rec
	r.mu.Lock()
	if s.c.closing.IsZero() {
		s.c.closing = time.Now()
	}
	var jobs []job
	for _, f := range s.all {
		if p := f.d.newest(); p != nil && p.state == growing {
			p.state = waiting
			jobs = append(jobs, job{d: f.d, number: p.number})
		}
	}
	r.touch()
	r.mu.Unlock()
	if err := r.save(s.c); err != nil {
		s.failed("", err) // the next run finds out that the broadcast is over
	}
	for _, f := range s.all {
		if f.work != nil {
			_ = f.work.f.Close() // it is synced before it is read
		}
	}
	for _, j := range jobs {
		s.finish(j)
	}
}

// ended notes the end when all pieces are finished.
func (s *session) ended() {
	if s.c == nil {
		return
	}
	r, c := s.rec, s.c
	r.mu.Lock()
	end, size, pieces := c.began, int64(0), 0
	for _, d := range c.renditions {
		for _, p := range d.pieces {
			if p.state != finished {
				r.mu.Unlock()
				return // Serve goes on
			}
			if e := p.start.Add(p.duration); e.After(end) {
				end = e
			}
			size += p.size
			pieces++
		}
	}
	c.end = end
	r.touch()
	r.mu.Unlock()
	if err := r.save(c); err != nil {
		s.failed("", err)
	}
	r.event(c, stream.RecordingEnded, "the recording is complete",
		"duration", end.Sub(c.began).String(), "pieces", fmt.Sprint(pieces), "size", fmt.Sprint(size))
}

// removeAll deletes a recording's folder, its description last.
func removeAll(c *recording) error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("delete recording: %w", err)
	}
	for _, e := range entries {
		if e.Name() == sidecarName {
			continue
		}
		if err := os.RemoveAll(c.dir + string(os.PathSeparator) + e.Name()); err != nil {
			return fmt.Errorf("delete recording: %w", err)
		}
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("delete recording: %w", err)
	}
	return nil
}

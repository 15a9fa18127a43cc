package segment

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment/fmp4"
)

// emit makes the pending samples a part that ends at end, in ticks; final: it
// is the segment's last, and the segment lasts d.
func (l *lane) emit(end int64, d time.Duration, final bool) {
	l.pending[len(l.pending)-1].Duration = uint32(max(end-l.last, 1)) //nolint:gosec // within a part
	l.parts++
	l.buffers[0] = fmp4.Chunk(l.parts, uint32(l.track.ID), uint64(l.base), l.pending) //nolint:gosec // not negative
	if !l.opened {
		l.mark()
	}
	part := Part{
		Duration: media.FromTicks(end-l.base, l.scale), Independent: l.key,
		Size: l.bytes + int64(len(l.buffers[0])),
	}
	buffers := l.buffers
	if !l.opened {
		l.openFile()
	}
	l.frames += len(l.pending)
	l.high = max(end, l.last+1)
	l.pending, l.bytes = l.pending[:0], 0
	l.buffers = make([][]byte, 1, cap(buffers))

	if final { // whole segments are read from the file: it has to be complete first
		l.write(buffers)
	}
	l.publish(part, buffers, d, final)
	if !final { // viewers of live need not wait for the disk
		l.write(buffers)
	}
}

// mark puts the event message of Options.Mark in front of the segment's first
// part, on the leading row.
func (l *lane) mark() {
	k := l.k
	mark := k.store.opts.Mark
	if mark == nil || l.id.Kind != media.Video && (k.video != nil || k.expectVideo) {
		return
	}
	data := mark(k.shelf.id, l.id, l.seg.Number, k.wall(l.seg.Start))
	if len(data) == 0 || len(data) > MaxMark {
		return
	}
	at := uint64(max(media.ToTicks(l.seg.Start, l.scale), 0))    //nolint:gosec // not negative
	event := fmp4.Event(l.scale, at, uint32(l.seg.Number), data) //nolint:gosec // only to be told from its neighbours
	l.buffers[0] = append(event, l.buffers[0]...)
}

// publish puts a part on the row, and closes the segment with its last.
func (l *lane) publish(part Part, buffers [][]byte, d time.Duration, final bool) {
	h := l.k.shelf
	h.mu.Lock()
	r := l.row
	if !l.opened {
		l.opened = true
		l.seg.Time = h.wall(l.seg.Start)
		if l.file.broken {
			r.memory[l.seg.Number] = true
		}
		r.begin(l.seg)
	}
	r.add(part, buffers)
	if r.fps == 0 {
		l.rate(r, part.Duration)
	}
	if final {
		l.closed(r, d)
	}
	l.k.touch()
	r.commit() // before heard: who is told of the row finds its index
	h.heard(l.k.d, r, l.k.expectVideo, l.k.expectAudio)
	h.unlock()
}

// close ends a segment whose parts are all published.
func (l *lane) close(d time.Duration) {
	h := l.k.shelf
	h.mu.Lock()
	if l.row.open != nil {
		l.closed(l.row, d)
		l.row.commit()
	}
	h.unlock()
}

// closed moves the open segment to the closed ones and its file to the worker;
// shelf.mu is held.
func (l *lane) closed(r *row, d time.Duration) {
	seg := r.closeOpen(d)
	l.rate(r, d)
	if f := l.file.take(); f != nil {
		r.postFinish(seg, f)
	}
}

// covered is how long the published parts of the segment last.
func (l *lane) covered() time.Duration {
	l.k.shelf.mu.Lock()
	defer l.k.shelf.mu.Unlock()
	if o := l.row.open; o != nil {
		return o.Duration
	}
	return 0
}

// skip puts a gap where the lane has nothing, up to the cut c.
func (l *lane) skip(c *cut) {
	h := l.k.shelf
	d := min(max(c.at-l.cur.at, time.Millisecond), l.k.limit)
	h.mu.Lock()
	if l.row.last < l.cur.number {
		l.row.gap(Segment{
			Number: l.cur.number, Discontinuity: l.cur.disc, Start: c.at - d, Duration: d, Time: h.wall(c.at - d),
		})
		l.row.commit()
	}
	h.unlock()
}

// rate measures the frame rate: from the first frames at once, from every
// segment better. shelf.mu is held.
func (l *lane) rate(r *row, d time.Duration) {
	var fps float64
	// A value that trembles would make every multivariant playlist another one.
	still := nearly + (3*rounding/2).Seconds()/d.Seconds()
	switch {
	case l.id.Kind != media.Video || l.frames < 2 && r.fps > 0 || d <= 0:
		return
	case r.fps == 0 && l.k.cadence.frame > 0:
		fps = nameRate(float64(time.Second)/float64(l.k.cadence.frame), roughly)
	case r.fps == 0:
		fps = nameRate(float64(l.frames)/d.Seconds(), roughly)
	case d >= 2*time.Second:
		fps = nameRate(float64(l.frames)/d.Seconds(), still)
	default:
		return
	}
	if !l.k.cadence.regular {
		still = 0.1
	}
	if r.fps == 0 || math.Abs(fps/r.fps-1) > still {
		r.fps = fps
	}
}

// sameInit reports whether the row's newest init section fits the track, and
// finds the row.
func (s *DiskStore) sameInit(l *lane, t *media.Track) bool {
	h := l.k.shelf
	h.mu.Lock()
	defer h.mu.Unlock()
	if l.row == nil {
		l.row = h.row(l.id)
	}
	return l.row.initRun == s.runID && l.row.track.SameConfig(t)
}

// newInit makes an init section for the track.
func (l *lane) newInit(t *media.Track) {
	s, h := l.k.store, l.k.shelf
	n := int(s.counters.inits.Add(1) - 1)
	err := os.MkdirAll(l.row.dir, 0o750)
	if err == nil {
		err = writeInit(l.row, s.runID, n, t)
	}
	if err != nil {
		s.failed(h, Event{Rendition: l.id.Rendition, Err: err})
	}
	h.mu.Lock()
	l.row.track, l.row.initRun, l.row.init = t, s.runID, n
	if err == nil {
		l.row.unsynced[initID{s.runID, n}] = true
	}
	h.mu.Unlock()
}

// writeInit writes an init section and, beside it, the track it was made of.
// Live does not wait for them to be synced: the worker does that before the
// first segment that names them gets its last name, and a restart looks whether
// they are whole.
func writeInit(r *row, run string, n int, t *media.Track) error {
	b, err := fmp4.Init(t)
	if err != nil {
		return err
	}
	text, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("describe track: %w", err)
	}
	path := r.path(initName(run, n))
	if err = os.WriteFile(path+extTrack, text, 0o640); err == nil {
		err = os.WriteFile(path+extInit, b, 0o640)
	}
	if err != nil { // half a file would be taken for the whole
		_ = os.Remove(path + extTrack)
		_ = os.Remove(path + extInit)
		return fmt.Errorf("write init section: %w", err)
	}
	return nil
}

// segmentFile is the file of the open segment.
type segmentFile struct {
	f      *os.File
	broken bool // the disk refused: the segment is in memory only
}

// take gives the file away.
func (f *segmentFile) take() *os.File {
	file := f.f
	f.f = nil
	return file
}

// openFile makes the file of the segment. It exists before the segment's
// number is announced, so that no later run uses the number again.
func (l *lane) openFile() {
	l.seg.Time = l.k.wall(l.seg.Start)
	f, err := os.OpenFile(l.row.path(l.seg.fileName(true)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	l.file = segmentFile{f: f}
	if err != nil {
		l.refused(fmt.Errorf("create segment file: %w", err))
	}
}

// write appends a part to the segment's file.
func (l *lane) write(buffers [][]byte) {
	if l.file.f == nil {
		return
	}
	n, err := l.k.store.write(l.file.f, buffers)
	l.k.store.counters.disk.Add(n)
	if err != nil {
		l.refused(fmt.Errorf("write segment file: %w", err))
	}
}

// refused gives the segment's file up; once per segment.
func (l *lane) refused(err error) {
	if f := l.file.take(); f != nil {
		_ = f.Close() // it failed already
	}
	l.file.broken = true
	h := l.k.shelf
	h.mu.Lock()
	if l.opened {
		l.row.memory[l.seg.Number] = true
	}
	h.unlock()
	l.k.store.failed(h, Event{Rendition: l.id.Rendition, At: l.seg.Start, Err: err})
}

// maxVectors is how many buffers one writev takes (IOV_MAX on Linux).
const maxVectors = 1024

// writeAll appends the buffers to a file with as few calls as may be. It does
// not change buffers.
func writeAll(f *os.File, buffers [][]byte) (written int64, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("get descriptor: %w", err)
	}
	var partial [][]byte // a copy of what is left after a short write
	for len(buffers) > 0 && err == nil {
		batch := buffers[:min(len(buffers), maxVectors)]
		var n int
		var failed error
		err = conn.Write(func(fd uintptr) bool {
			n, failed = unix.Writev(int(fd), batch) //nolint:gosec // a descriptor
			return true
		})
		if errors.Is(failed, unix.EINTR) {
			continue
		}
		if err == nil {
			err = failed
		}
		if n <= 0 && err == nil {
			err = errors.New("nothing was written")
		}
		if err != nil {
			break
		}
		written += int64(n)
		done := 0
		for done < len(batch) && n >= len(batch[done]) {
			n -= len(batch[done])
			done++
		}
		buffers = buffers[done:]
		if n > 0 {
			partial = append(partial[:0:0], buffers...)
			partial[0] = partial[0][n:]
			buffers = partial
		}
	}
	return written, err
}

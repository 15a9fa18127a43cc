package record

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment"
	"github.com/klive-media/klive/internal/segment/mp4"
)

// A work file is a piece while it grows: the segments' bytes as they are on the
// shelf, behind the init section, so that it is a fragmented MP4 that players
// can play. Between them stand boxes of our own, which players pass over:
//
//	ftyp moov
//	head                 what the piece is
//	segment … media … end    for each segment of each track
//	mark                 a sample of the data track
//	synced               all before the place it names is on the disk for sure
//
// Every box of ours ends with a checksum of its content; end holds that of the
// media. A file that ends in the middle of something is good up to there.
const (
	boxHead    = 'h'
	boxSegment = 's'
	boxEnd     = 'e'
	boxMark    = 'm'
	boxSynced  = 'y'

	workType = "kLive.workfile." // and one of the letters above: 16 bytes, as a uuid has
)

// Limits of what is read of a work file.
const (
	maxRecord   = 1 << 20 // a box of ours
	maxWorkInit = 1 << 20
	boxOverhead = 8 + 16 + 4 // head, type and checksum
)

// castagnoli is the checksum of work files.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// workHead is what a piece is.
type workHead struct {
	Recording string `json:"recording"`
	Stream    string `json:"stream"`
	Rendition string `json:"rendition"`
	Number    int    `json:"number"`
	// Marks is how many samples the data track had in the pieces before.
	Marks int `json:"marks"`
}

// workSegment is one track's segment in a work file.
type workSegment struct {
	kind            media.Kind
	number          uint64
	start, duration time.Duration
	wall            time.Time
	at, size        int64 // of the media
	sum             uint32
	bad             bool // its bytes are not what they were
}

func (s *workSegment) end() time.Duration { return s.start + s.duration }

// workMark is a sample of the data track in a work file.
type workMark struct {
	at       time.Duration
	wall     time.Time
	pos, len int64 // of the payload
}

// appendRecord appends a box of ours.
func appendRecord(b []byte, kind byte, content []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(boxOverhead+len(content))) //nolint:gosec // bounded by maxRecord
	b = append(b, "uuid"+workType...)
	b = append(append(b, kind), content...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(content, castagnoli))
}

const segmentRecord = 1 + 5*8

func (s *workSegment) record() []byte {
	b := make([]byte, 0, segmentRecord)
	b = append(b, byte(s.kind))
	for _, v := range [...]int64{int64(s.number), int64(s.start), int64(s.duration), s.wall.UnixNano(), s.size} { //nolint:gosec // a number of segments
		b = binary.BigEndian.AppendUint64(b, uint64(v)) //nolint:gosec // two's complement
	}
	return b
}

func numbers(b []byte, out ...*int64) bool {
	if len(b) < 8*len(out) {
		return false
	}
	for i, p := range out {
		*p = int64(binary.BigEndian.Uint64(b[8*i:])) //nolint:gosec // two's complement
	}
	return true
}

func parseSegment(b []byte) (s workSegment, ok bool) {
	if len(b) != segmentRecord {
		return s, false
	}
	var number, start, duration, wall int64
	numbers(b[1:], &number, &start, &duration, &wall, &s.size)
	s.kind = media.Kind(b[0])
	s.number, s.start, s.duration, s.wall = uint64(number), time.Duration(start), time.Duration(duration), time.Unix(0, wall) //nolint:gosec // as written
	const longest = 1000 * time.Hour
	ok = (s.kind == media.Video || s.kind == media.Audio) && number >= 0 && s.size >= 0 && duration >= 0 &&
		s.duration < longest && s.start > -longest*1000 && s.start < longest*1000
	return s, ok
}

// work is a work file that grows. It belongs to the goroutine that copies.
type work struct {
	path string
	f    *os.File
	head workHead
	size int64

	tracks []*mp4.Track // that it can hold
	last   map[media.Kind]*workSegment
	next   map[media.Kind]uint64 // number after that of the newest
	first  workSegment
	marks  int                // in this piece
	mark   time.Duration      // stream time of the next one
	start  time.Duration      // of the earliest segment
	end    time.Duration      // of the latest
	synced int64              // what the newest synced record says
	step   func(string) error // for tests

	written atomic.Int64 // size, for who syncs
	done    atomic.Int64 // up to where it is synced
}

// createWork makes a work file with its head.
func createWork(path string, init []byte, head workHead, step func(string) error) (*work, error) {
	text, err := json.Marshal(head)
	if err != nil {
		return nil, fmt.Errorf("describe piece: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("create work file: %w", err)
	}
	w := &work{path: path, f: f, head: head, step: step, last: make(map[media.Kind]*workSegment), next: make(map[media.Kind]uint64)}
	if w.tracks, err = mp4.Tracks(init); err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("read init section: %w", err)
	}
	if err := w.put(appendRecord(append([]byte(nil), init...), boxHead, text)); err != nil {
		_ = f.Close() // it failed already
		return nil, fmt.Errorf("write work file: %w", err)
	}
	return w, nil
}

// reopenWork goes on with a work file that an earlier run left, from where it
// is whole.
func reopenWork(path string, c *contents, markEvery time.Duration) (*work, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open work file: %w", err)
	}
	if err := f.Truncate(c.good); err != nil {
		_ = f.Close() // it failed already
		return nil, fmt.Errorf("cut work file: %w", err)
	}
	w := &work{path: path, f: f, head: c.head, size: c.good, synced: c.synced, last: make(map[media.Kind]*workSegment), next: make(map[media.Kind]uint64)}
	for i := range c.segments {
		w.note(c.segments[i])
	}
	if w.marks = len(c.marks); w.marks > 0 {
		w.mark = c.marks[w.marks-1].at + markEvery
	} else {
		w.mark = w.first.start
	}
	if w.tracks, err = mp4.Tracks(c.init); err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("read work file: %w", err)
	}
	return w, nil
}

// note takes a segment into the account.
func (w *work) note(s workSegment) {
	if len(w.last) == 0 {
		w.first, w.start, w.end = s, s.start, s.end()
	}
	w.start, w.end = min(w.start, s.start), max(w.end, s.end())
	w.last[s.kind], w.next[s.kind] = &s, s.number+1
	w.written.Store(w.size)
}

// has reports whether a segment of the kind is there with this number or a
// later one.
func (w *work) has(kind media.Kind, number uint64) bool {
	return w.next[kind] > number
}

// put appends bytes.
func (w *work) put(b []byte) error {
	n, err := w.f.WriteAt(b, w.size)
	if err != nil {
		return err //nolint:wrapcheck // wrapped by the caller
	}
	w.size += int64(n)
	if w.step != nil {
		return w.step("written to work file")
	}
	return nil
}

// errShort is a segment that has other bytes than it was said to have.
var errShort = errors.New("the segment is not as long as it should be")

// append copies a segment. When that fails the file is as it was.
func (w *work) append(s workSegment, c *segment.Content, room []byte) (err error) {
	was := w.size
	defer func() {
		if err != nil {
			w.size = was
			_ = w.f.Truncate(was) // if not, the next attempt writes over it
			err = fmt.Errorf("copy segment %d: %w", s.number, err)
		}
	}()
	b := appendRecord(room[:0], boxSegment, s.record())
	s.at = w.size + int64(len(b))
	fill := len(b)
	room = b[:cap(b)]
	var sum uint32
	err = readContent(c, room, fill, func(b []byte, from int) error {
		sum = crc32.Update(sum, castagnoli, b[from:])
		return w.put(b)
	})
	if err != nil {
		return err
	}
	if w.size-s.at != s.size {
		return errShort
	}
	if err := w.put(appendRecord(room[:0], boxEnd, binary.BigEndian.AppendUint32(nil, sum))); err != nil {
		return err
	}
	s.sum = sum
	w.note(s)
	return nil
}

// readContent hands the content over in pieces as large as room; in front of
// the first stand the fill bytes that room holds already.
func readContent(c *segment.Content, room []byte, fill int, put func(b []byte, from int) error) error {
	from, left := fill, c.Size
	buffer, done := 0, 0 // of c.Buffers, which are not ours to change
	read := func(b []byte) (n int, err error) {
		if c.Buffers == nil {
			return c.File.Read(b) //nolint:wrapcheck // wrapped below
		}
		if buffer == len(c.Buffers) {
			return 0, io.EOF
		}
		n = copy(b, c.Buffers[buffer][done:])
		if done += n; done == len(c.Buffers[buffer]) {
			buffer, done = buffer+1, 0
		}
		return n, nil
	}
	for first := true; left > 0 || first; first = false {
		for left > 0 && fill < len(room) {
			n, err := read(room[fill:min(int64(len(room)), int64(fill)+left)])
			fill, left = fill+n, left-int64(n)
			if err != nil && n == 0 {
				if errors.Is(err, io.EOF) {
					return errShort
				}
				return fmt.Errorf("read segment: %w", err)
			}
		}
		if err := put(room[:fill], from); err != nil {
			return err
		}
		fill, from = 0, 0
	}
	return nil
}

// sync syncs what is written. It may be called beside the copying.
func (w *work) sync() error {
	to, before := w.written.Load(), w.done.Load()
	err := w.f.Sync()
	if err == nil && before == 0 { // its name, too
		err = syncDir(filepath.Dir(w.path))
	}
	switch {
	case errors.Is(err, os.ErrClosed): // finished meanwhile
		return nil
	case err != nil:
		// What the disk refused once it may have dropped: nothing of this file is
		// taken for synced any more, so that its checksums count.
		w.done.Store(unsure)
		return fmt.Errorf("sync work file: %w", err)
	case before != unsure:
		w.done.Store(to)
	}
	return nil
}

// unsure stands for a place up to which a file is synced.
const unsure = -1

// addMark appends a sample of the data track.
func (w *work) addMark(at time.Duration, wall time.Time, payload []byte) error {
	b := binary.BigEndian.AppendUint64(nil, uint64(at))           //nolint:gosec // two's complement
	b = binary.BigEndian.AppendUint64(b, uint64(wall.UnixNano())) //nolint:gosec // two's complement
	was := w.size
	if err := w.put(appendRecord(nil, boxMark, append(b, payload...))); err != nil {
		w.size = was
		return fmt.Errorf("write mark: %w", err)
	}
	w.marks++
	return nil
}

// addSynced notes that all before to is on the disk.
func (w *work) addSynced(to int64) error {
	was := w.size
	if err := w.put(appendRecord(nil, boxSynced, binary.BigEndian.AppendUint64(nil, uint64(to)))); err != nil { //nolint:gosec // a place in the file
		w.size = was
		return fmt.Errorf("write work file: %w", err)
	}
	w.synced = to
	return nil
}

package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment/fmp4"
)

// maxInit bounds an init section that is read back.
const maxInit = 64 << 10

// Init implements Shelf.
func (h *shelf) Init(id RowID, run string, n int) ([]byte, error) {
	r := (*h.rows.Load())[id]
	if r == nil || !validRun(run) || n < 0 {
		return nil, notPlayable("the init section")
	}
	f, err := os.Open(r.path(initName(run, n) + extInit))
	if err != nil {
		return h.unwrittenInit(r, run, n)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxInit))
	if err != nil {
		return nil, fmt.Errorf("read init section: %w", err)
	}
	return b, nil
}

// unwrittenInit makes the newest init section again when the disk refused it.
func (h *shelf) unwrittenInit(r *row, run string, n int) ([]byte, error) {
	h.mu.Lock()
	track, newest := r.track, r.initRun == run && r.init == n
	h.mu.Unlock()
	if !newest || track == nil {
		return nil, notPlayable("the init section")
	}
	b, err := fmp4.Init(track)
	if err != nil {
		return nil, fmt.Errorf("make init section: %w", err)
	}
	return b, nil
}

// MuxInit implements Shelf.
func (h *shelf) MuxInit(rendition, run string, video, audio int) ([]byte, error) {
	v, err := h.Init(RowID{rendition, media.Video}, run, video)
	if err != nil {
		return nil, err
	}
	a, err := h.Init(RowID{rendition, media.Audio}, run, audio)
	if err != nil {
		return nil, err
	}
	b, err := fmp4.Merge(v, a)
	if err != nil {
		return nil, fmt.Errorf("make init section of picture and sound: %w", err)
	}
	return b, nil
}

// Open implements Shelf.
func (h *shelf) Open(id RowID, run string, number uint64, part int) (*Content, error) {
	r := (*h.rows.Load())[id]
	if r == nil {
		return nil, notPlayable("the row")
	}
	seg, p, buffers, before := h.locate(r, run, number, part)
	if seg == nil {
		return nil, notPlayable("the segment")
	}
	if buffers != nil && before == 0 {
		return &Content{Size: p.Size, Buffers: buffers}, nil
	}
	f, err := r.openFile(seg)
	if err != nil {
		return nil, err
	}
	if before > 0 { // the disk refused in the middle of the segment
		defer f.Close()
		head := make([]byte, before)
		if _, err := io.ReadFull(f, head); err != nil {
			return nil, notPlayable("the segment")
		}
		return &Content{Size: p.Size, Buffers: append([][]byte{head}, buffers...)}, nil
	}
	if p.Offset > 0 {
		if _, err := f.Seek(p.Offset, io.SeekStart); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("open part: %w", err)
		}
	}
	return &Content{Size: p.Size, File: f, Offset: p.Offset}, nil
}

// locate finds a segment or a part of it and its bytes if they are in memory.
// With part < 0, p spans the whole segment; before is how many of its bytes are
// in the file only, in front of those in memory.
func (h *shelf) locate(r *row, run string, number uint64, part int) (seg *Segment, p Part, buffers [][]byte, before int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found Segment
	switch o := r.open; {
	case o != nil && o.Number == number && o.Run == run:
		if part < 0 {
			return nil, p, nil, 0
		}
		found = *o
		found.Parts = r.parts
	default:
		s := r.find(run, number)
		if s == nil {
			return nil, p, nil, 0
		}
		found = *s
	}
	if part >= 0 {
		if part >= len(found.Parts) {
			return nil, p, nil, 0
		}
		return &found, found.Parts[part], r.buffers(number, part), 0
	}
	p = Part{Size: found.Size}
	if !r.memory[number] {
		return &found, p, nil, 0
	}
	for i := range found.Parts {
		switch b := r.buffers(number, i); {
		case b != nil:
			buffers = append(buffers, b...)
		case buffers != nil: // in neither
			return nil, p, nil, 0
		default:
			before = found.Parts[i].Offset + found.Parts[i].Size
		}
	}
	return &found, p, buffers, before
}

// openFile opens the segment's file under the name it has now: it is renamed
// a moment after it was finished.
func (r *row) openFile(s *Segment) (*os.File, error) {
	for _, open := range [...]bool{false, true, false} {
		f, err := os.Open(filepath.Join(r.dir, s.fileName(open)))
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open segment file: %w", err)
		}
	}
	return nil, notPlayable("the segment")
}

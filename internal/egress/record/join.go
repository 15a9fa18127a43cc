package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/segment/mp4"
)

// Join implements stream.Recordings. Pieces that follow each other are joined
// to the sample; a hole of up to 10 s between two is kept, so that sound and
// picture stay where they are, a longer one is left out. The file has its name
// only when it is complete. Recordings and renditions that are not known, or
// have no finished piece, are fault.RecordingNotFound.
func (r *Recorder) Join(ctx context.Context, id, rendition, path string) (time.Duration, error) {
	c, files, created := r.finishedFiles(id, rendition)
	if len(files) == 0 {
		return 0, fault.New(fault.RecordingNotFound, "the recording %q has no finished piece of a rendition %q", id, rendition)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("join recording: %s exists already", filepath.Base(path))
	}
	whole := &mp4.Movie{Title: c.info.Stream + " " + rendition, Created: created}
	var back, end time.Duration
	for i, file := range files {
		part, err := readPiece(file)
		if err != nil {
			return 0, fmt.Errorf("join recording: %w", err)
		}
		if hole := part.Start() - end; i > 0 && hole > maxBridge {
			back += hole
		}
		end = part.End()
		whole.Join(part, back)
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("join recording: %w", context.Cause(ctx))
		}
	}
	note, err := json.Marshal(pieceNote{
		Recording: id, Rendition: rendition, Number: 1, Start: created, Offset: whole.Start(), Duration: whole.Duration(),
	})
	if err != nil {
		return 0, fmt.Errorf("join recording: %w", err)
	}
	whole.Note = note
	told := func(err error) { r.unshared(c, rendition, err) }
	if _, err := r.writePiece(ctx, whole, path+".new", path, told); err != nil {
		return 0, fmt.Errorf("join recording: %w", err)
	}
	return whole.Duration(), syncDir(filepath.Dir(path))
}

// finishedFiles are the finished pieces of a rendition, in order.
func (r *Recorder) finishedFiles(id, rendition string) (c *recording, files []string, created time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c = r.all[id]
	if c == nil || c.deleting || c.renditions[rendition] == nil {
		return nil, nil, created
	}
	for _, p := range c.renditions[rendition].pieces {
		if p.state == finished {
			if files == nil {
				created = p.start
			}
			files = append(files, c.path(rendition, p.number, extPiece))
		}
	}
	return c, files, created
}

func readPiece(path string) (*mp4.Movie, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err //nolint:wrapcheck // wrapped by the caller
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err //nolint:wrapcheck // wrapped by the caller
	}
	return mp4.Read(f, info.Size(), &mp4.Source{Path: path})
}

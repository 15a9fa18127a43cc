package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klive-media/klive/internal/kaltura/client"
)

// handOver brings a file to where the backend can read it and returns the
// segment that names it there.
func (q *Queue) handOver(ctx context.Context, r *row, file, name string) (client.Segment, error) {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return client.Segment{}, &ownError{codeFileMissing, fmt.Sprintf("the file of piece %d of rendition %s is not on the disk", r.Number, r.Rendition), somePatience}
	}
	if err != nil {
		return client.Segment{}, fmt.Errorf("look at the recorded file: %w", err)
	}
	if q.opts.Way == Upload {
		if err := q.upload(ctx, r, file, info.Size(), name); err != nil {
			return client.Segment{}, err
		}
		return client.Segment{Upload: r.Upload.Token}, nil
	}
	if q.opts.SharedDir == "" {
		if file, err = filepath.Abs(file); err != nil {
			return client.Segment{}, fmt.Errorf("find the recorded file: %w", err)
		}
		r.InPlace = true
		return client.Segment{Path: filepath.ToSlash(file), Keep: true}, nil
	}
	r.InPlace = false
	name = strings.ReplaceAll(name, "/", "-")
	if err := q.link(file, info, filepath.Join(q.opts.SharedDir, name)); err != nil {
		return client.Segment{}, fmt.Errorf("hand over the recorded file: %w", err)
	}
	return client.Segment{Path: path.Join(filepath.ToSlash(q.opts.BackendDir), name)}, nil
}

// link makes a file appear under another name as well, so that the backend may
// take that name away and the file stays here. Where a hard link is not
// possible, across file systems, it is copied. The name is never there with
// half of the content.
func (q *Queue) link(file string, info fs.FileInfo, name string) error {
	if have, err := os.Stat(name); err == nil {
		if os.SameFile(info, have) {
			return nil // made before, and not taken
		}
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	if os.Link(file, name) != nil {
		if err := q.duplicate(file, name); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(name))
}

// duplicate copies a file; the copy is on the disk before it has its name.
func (q *Queue) duplicate(file, name string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	temporary := name + ".part"
	out, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	q.share(temporary, sharedFile)
	err = errors.Join(err, out.Sync(), out.Close())
	if err == nil {
		err = os.Rename(temporary, name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return nil
}

// syncDir puts the names in a folder on the disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

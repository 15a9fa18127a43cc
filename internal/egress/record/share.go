package record

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/klive-media/klive/internal/stream"
)

// This file is how a backend that runs as another user may read recordings:
// they are of a group that both are in. A group that cannot be given takes
// nothing from the recording.

// shareFolder lets the group list a folder; what is made in it is the group's.
func (r *Recorder) shareFolder(dir string) error {
	if r.opts.Group == nil {
		return nil
	}
	info, err := os.Stat(dir)
	if err == nil {
		err = os.Chown(dir, -1, *r.opts.Group)
	}
	if err == nil { // after that, as a change of group may take the bit away
		err = os.Chmod(dir, info.Mode().Perm()|0o050|os.ModeSetgid)
	}
	if err == nil {
		err = r.at("folder shared")
	}
	if err != nil {
		return fmt.Errorf("give folder to group %d: %w", *r.opts.Group, err)
	}
	return nil
}

// shareFile lets the group read a file.
func (r *Recorder) shareFile(f *os.File) error {
	if r.opts.Group == nil {
		return nil
	}
	err := f.Chown(-1, *r.opts.Group)
	if err == nil {
		err = f.Chmod(0o640)
	}
	if err == nil {
		err = r.at("file shared")
	}
	if err != nil {
		return fmt.Errorf("give piece to group %d: %w", *r.opts.Group, err)
	}
	return nil
}

// share lets the group list a recording's folder and its stream's.
func (r *Recorder) share(c *recording) {
	for _, dir := range [...]string{filepath.Dir(c.dir), c.dir} {
		if err := r.shareFolder(dir); err != nil {
			r.unshared(c, "", err)
		}
	}
}

// unshared tells, once for each recording, that others cannot read it.
func (r *Recorder) unshared(c *recording, rendition string, err error) {
	r.counters.errors.Add(1)
	text := withoutPath(err)
	r.mu.Lock()
	again := c.unshared
	if c.unshared = true; !again {
		c.err = text
		r.touch()
	}
	r.mu.Unlock()
	if again {
		return
	}
	r.log.Error("a recording is written, but could not be given to the group that is to read it; make the server's user a member of that group",
		"stream", c.info.Stream, "recording", c.id, "rendition", rendition, "error", err)
	r.event(c, stream.RecordingFailed, "the recording is written, but could not be given to the group that is to read it",
		"rendition", rendition, "error", text)
}

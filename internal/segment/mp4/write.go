package mp4

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klive-media/klive/internal/media"
)

// interleave is how much of one track stands together in the file.
const interleave = 500 * time.Millisecond

// syncEvery is how many bytes are written before they are synced, so that a
// large file does not fill the page cache with what others then wait for.
const syncEvery = 32 << 20

// group is a chunk of the file: chunks of one track that follow each other.
type group struct {
	track    int   // index
	from, to int   // of its chunks
	at       int64 // in mdat
	bytes    int64
	samples  uint32
	entry    uint32
}

// plan orders the chunks of all tracks by time.
func plan(tracks []*Track) []group {
	var out []group
	next := make([]int, len(tracks))
	at := int64(0)
	for {
		pick, when := -1, time.Duration(0)
		for i, t := range tracks {
			if next[i] == len(t.table.chunks) {
				continue
			}
			if d := media.FromTicks(t.table.chunks[next[i]].dts, t.Scale); pick < 0 || d < when {
				pick, when = i, d
			}
		}
		if pick < 0 {
			return out
		}
		t := tracks[pick]
		g := group{track: pick, from: next[pick], at: at, entry: t.table.chunks[next[pick]].entry}
		for g.to = g.from; g.to < len(t.table.chunks); g.to++ {
			c := &t.table.chunks[g.to]
			end := t.table.last
			if g.to+1 < len(t.table.chunks) {
				end = t.table.chunks[g.to+1].dts
			}
			if g.to > g.from && (c.entry != g.entry || media.FromTicks(end, t.Scale)-when > interleave) {
				break
			}
			g.bytes += c.bytes
			g.samples += c.samples
		}
		next[pick] = g.to
		at += g.bytes
		out = append(out, g)
	}
}

// Write writes the movie to a file that is empty and syncs it; it returns the
// file's length. It does not need more memory than the tables do.
func (m *Movie) Write(ctx context.Context, f *os.File) (size int64, err error) {
	tracks := m.filled()
	if len(tracks) == 0 {
		return 0, malformed("a movie without samples")
	}
	if len(m.Note) > MaxNote {
		return 0, fmt.Errorf("write MP4: a note of %d bytes is too long", len(m.Note))
	}
	order := plan(tracks)
	head := m.head(tracks, order)
	if _, err := f.Write(head); err != nil {
		return 0, fmt.Errorf("write MP4: %w", err)
	}
	size = int64(len(head))
	c := &copier{dst: f, at: size}
	defer c.close()
	synced := int64(0)
	for _, g := range order {
		for i := g.from; i < g.to; i++ {
			x := &tracks[g.track].table.chunks[i]
			if err := c.copy(x.src, x.at, x.bytes); err != nil {
				return 0, fmt.Errorf("write MP4: %w", err)
			}
		}
		size += g.bytes
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("write MP4: %w", context.Cause(ctx))
		}
		if size-synced >= syncEvery {
			synced = size
			if err := f.Sync(); err != nil {
				return 0, fmt.Errorf("sync MP4: %w", err)
			}
		}
	}
	if err := f.Sync(); err != nil {
		return 0, fmt.Errorf("sync MP4: %w", err)
	}
	return size, nil
}

// copier copies ranges of files to the end of a file.
type copier struct {
	dst  *os.File
	at   int64 // in dst
	src  *Source
	file *os.File
	room []byte // for where the kernel cannot copy
}

func (c *copier) close() {
	if c.file != nil {
		_ = c.file.Close() // was only read
	}
}

func (c *copier) copy(src *Source, at, n int64) error {
	if c.src != src {
		c.close()
		f, err := os.Open(src.Path)
		if c.file = nil; err != nil {
			return err //nolint:wrapcheck // wrapped by the caller
		}
		c.src, c.file = src, f
	}
	for n > 0 && c.room == nil {
		k, err := unix.CopyFileRange(int(c.file.Fd()), &at, int(c.dst.Fd()), &c.at, int(min(n, 1<<30)), 0) //nolint:gosec // descriptors
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil: // another kind of file system, or an old kernel: by hand
			c.room = make([]byte, 256<<10)
		case k == 0:
			return io.ErrUnexpectedEOF
		}
		if err == nil {
			n -= int64(k)
		}
	}
	for n > 0 {
		b := c.room[:min(n, int64(len(c.room)))]
		if _, err := c.file.ReadAt(b, at); err != nil {
			return err //nolint:wrapcheck // wrapped by the caller
		}
		if _, err := c.dst.WriteAt(b, c.at); err != nil {
			return err //nolint:wrapcheck // wrapped by the caller
		}
		at, c.at, n = at+int64(len(b)), c.at+int64(len(b)), n-int64(len(b))
	}
	return nil
}

package chunk

import (
	"errors"
	"io"
)

// ReadBuffer is the size of a Reader's buffer, in bytes: with it one system
// call takes in what an encoder sent since the last, up to a key frame of
// about 15 Mbit/s video.
const ReadBuffer = 32 << 10

// maxEmptyReads is how many reads without bytes and without error a source
// may give before it is broken.
const maxEmptyReads = 100

// buffer is a read buffer one can look into. Its source is read only when the
// bytes asked for are not there.
type buffer struct {
	src      io.Reader
	b        []byte
	r, w     int // b[r:w] is unread
	received uint64
}

func (b *buffer) buffered() int { return b.w - b.r }

// need makes at least n bytes available; n must not be above len(b.b).
func (b *buffer) need(n int) error {
	if b.w-b.r >= n {
		return nil
	}
	return b.fill(n)
}

func (b *buffer) fill(n int) error {
	if b.r > 0 {
		copy(b.b, b.b[b.r:b.w])
		b.w -= b.r
		b.r = 0
	}
	for empty := 0; b.w < n; {
		got, err := b.src.Read(b.b[b.w:])
		b.w += got
		b.received += uint64(got) //nolint:gosec // never negative
		if b.w >= n {
			return nil
		}
		if err != nil {
			if err == io.EOF && b.w > 0 {
				return io.ErrUnexpectedEOF
			}
			return err
		}
		if got > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads {
			return io.ErrNoProgress
		}
	}
	return nil
}

// readFull fills p: first from the buffer, then, as long as p wants at least a
// whole buffer, straight from the source.
func (b *buffer) readFull(p []byte) error {
	n := copy(p, b.b[b.r:b.w])
	b.r += n
	p = p[n:]
	if len(p) >= len(b.b) {
		got, err := io.ReadFull(b.src, p)
		b.received += uint64(got) //nolint:gosec // never negative
		return midway(err)
	}
	for len(p) > 0 {
		if err := b.fill(1); err != nil {
			return midway(err)
		}
		n := copy(p, b.b[b.r:b.w])
		b.r += n
		p = p[n:]
	}
	return nil
}

// midway is err for a read that began inside a message: there, the end of the
// bytes is not a good end.
func midway(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

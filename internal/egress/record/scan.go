package record

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/klive-media/klive/internal/segment/mp4"
)

// This file is how a work file is read.

// contents are what is found in a work file.
type contents struct {
	init     []byte
	head     workHead
	segments []workSegment
	marks    []workMark
	good     int64 // up to where it is whole
	synced   int64 // up to where no power cut can have taken anything
}

// scan reads a work file up to where it is whole. The error says that not even
// its beginning is (mp4.ErrMalformed), or that reading failed.
func scan(r io.ReaderAt, size int64) (*contents, error) {
	c := &contents{}
	at, err := c.scanHead(r, size)
	if err != nil {
		return nil, fmt.Errorf("read work file: %w", err)
	}
	c.good = at
	for {
		next, err := c.scanRecord(r, at, size)
		if err != nil && !errors.Is(err, mp4.ErrMalformed) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("read work file: %w", err)
		}
		if err != nil {
			return c, nil
		}
		at, c.good = next, next
	}
}

// scanHead reads ftyp, moov and head.
func (c *contents) scanHead(r io.ReaderAt, size int64) (at int64, err error) {
	for _, name := range [...]string{"ftyp", "moov"} {
		x, err := mp4.ReadBox(r, at, size)
		if err != nil {
			return 0, err
		}
		if x.Name != name || x.Size > maxWorkInit {
			return 0, fmt.Errorf("%w: %q where %q should be", mp4.ErrMalformed, x.Name, name)
		}
		at += x.Size
	}
	c.init = make([]byte, at)
	if n, err := r.ReadAt(c.init, 0); err != nil && n < len(c.init) {
		return 0, err
	}
	kind, content, next, err := readRecord(r, at, size)
	if err != nil {
		return 0, err
	}
	if kind != boxHead {
		return 0, fmt.Errorf("%w: no head", mp4.ErrMalformed)
	}
	if err := json.Unmarshal(content, &c.head); err != nil {
		return 0, fmt.Errorf("%w: head: %w", mp4.ErrMalformed, err)
	}
	return next, nil
}

// readRecord reads the box of ours at a place.
func readRecord(r io.ReaderAt, at, size int64) (kind byte, content []byte, next int64, err error) {
	x, err := mp4.ReadBox(r, at, size)
	if err != nil {
		return 0, nil, 0, err
	}
	if x.Name != "uuid" || x.Size < boxOverhead || x.Size > maxRecord {
		return 0, nil, 0, fmt.Errorf("%w: box %q at %d", mp4.ErrMalformed, x.Name, at)
	}
	b := make([]byte, x.Size-x.Head)
	if n, err := r.ReadAt(b, at+x.Head); err != nil && n < len(b) {
		return 0, nil, 0, err
	}
	if string(b[:len(workType)]) != workType {
		return 0, nil, 0, fmt.Errorf("%w: a box of another kind at %d", mp4.ErrMalformed, at)
	}
	kind, content = b[len(workType)], b[len(workType)+1:len(b)-4]
	if crc32.Checksum(content, castagnoli) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return 0, nil, 0, fmt.Errorf("%w: the box at %d has another checksum", mp4.ErrMalformed, at)
	}
	return kind, content, at + x.Size, nil
}

func (c *contents) scanRecord(r io.ReaderAt, at, size int64) (next int64, err error) {
	kind, content, next, err := readRecord(r, at, size)
	if err != nil {
		return 0, err
	}
	bad := fmt.Errorf("%w: record %q at %d", mp4.ErrMalformed, kind, at)
	switch kind {
	case boxSegment:
		s, ok := parseSegment(content)
		if !ok {
			return 0, bad
		}
		if s.size > size-next {
			return 0, io.ErrUnexpectedEOF
		}
		s.at = next
		kind, content, next, err := readRecord(r, next+s.size, size)
		if err != nil {
			return 0, err
		}
		if kind != boxEnd || len(content) != 4 {
			return 0, bad
		}
		s.sum = binary.BigEndian.Uint32(content)
		c.segments = append(c.segments, s)
		return next, nil
	case boxMark:
		var stream, wall int64
		if !numbers(content, &stream, &wall) {
			return 0, bad
		}
		n := int64(len(content) - 16)
		c.marks = append(c.marks, workMark{time.Duration(stream), time.Unix(0, wall), next - 4 - n, n})
		return next, nil
	case boxSynced:
		var to int64
		if !numbers(content, &to) || to < 0 || to > at {
			return 0, bad
		}
		c.synced = max(c.synced, to)
		return next, nil
	}
	return 0, bad
}

// verify reads the segments that a power cut can have taken and marks those
// whose bytes are not what they were.
func (c *contents) verify(r io.ReaderAt) (bad int, err error) {
	room := make([]byte, 256<<10)
	for i := range c.segments {
		s := &c.segments[i]
		if s.at+s.size <= c.synced {
			continue
		}
		sum := uint32(0)
		for at := s.at; at < s.at+s.size; {
			n, err := r.ReadAt(room[:min(int64(len(room)), s.at+s.size-at)], at)
			if n == 0 {
				return bad, fmt.Errorf("read work file: %w", err)
			}
			sum = crc32.Update(sum, castagnoli, room[:n])
			at += int64(n)
		}
		if s.bad = sum != s.sum; s.bad {
			bad++
		}
	}
	return bad, nil
}

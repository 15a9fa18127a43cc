package kalturatest

import (
	"cmp"
	"fmt"
	"io"
	"mime/multipart"
	"os"
	"path/filepath"
	"slices"
)

// The states of an upload token.
const (
	uploadPending = 0
	uploadPartial = 1
	uploadFull    = 2
	uploadClosed  = 3
)

// maxInMemory bounds an upload that has no directory to go to.
const maxInMemory = 256 << 20

// upload is an upload token and the bytes that came in.
type upload struct {
	id, user string
	partner  int
	name     string
	expected int64
	status   int
	path     string // the file; empty: data
	data     []byte
	parts    [][2]int64 // what has come, as ranges
}

// whole is the number of bytes from the beginning without a hole.
func (u *upload) whole() int64 {
	slices.SortFunc(u.parts, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) })
	var end int64
	for _, p := range u.parts {
		if p[0] > end {
			break
		}
		end = max(end, p[1])
	}
	return end
}

// end is where the furthest byte is.
func (u *upload) end() int64 {
	var end int64
	for _, p := range u.parts {
		end = max(end, p[1])
	}
	return end
}

func (u *upload) show() object {
	return object{"objectType": "KalturaUploadToken", "id": u.id, "partnerId": u.partner, "userId": u.user, "status": u.status,
		"fileName": u.name, "fileSize": u.expected, "uploadedFileSize": u.whole()}
}

func addUpload(c *call) (any, error) {
	p := c.params.object("uploadToken")
	u := &upload{id: fmt.Sprintf("0_%032x", c.nextID()), user: c.session.User, partner: c.partner, name: p.str("fileName"),
		expected: int64(p.number("fileSize", 0))}
	if c.options.Directory != "" {
		u.path = filepath.Join(c.options.Directory, u.id+".upload"+filepath.Ext(filepath.Base(u.name)))
	}
	c.uploads[u.id] = u
	return u.show(), nil
}

// findUpload reads uploadTokenId; only administrators see others' tokens.
func (c *call) findUpload() (*upload, error) {
	u := c.uploads[c.params.str("uploadTokenId")]
	if u == nil || !c.all && u.partner != c.partner || !c.session.IsAdmin() && u.user != c.session.User {
		return nil, fail("UPLOAD_TOKEN_NOT_FOUND")
	}
	return u, nil
}

func getUpload(c *call) (any, error) {
	u, err := c.findUpload()
	if err != nil {
		return nil, err
	}
	return u.show(), nil
}

func listUploads(c *call) (any, error) {
	var all []any
	equal := c.params.object("filter").str("idEqual")
	for _, u := range c.uploads {
		if (c.all || u.partner == c.partner) && (equal == "" || u.id == equal) {
			all = append(all, u.show())
		}
	}
	return c.page("KalturaUploadTokenListResponse", all), nil
}

// receive is uploadToken.upload: one chunk, at its offset, in any order. Where
// the backend waits up to 45 s for missing chunks behind a final one, the
// simulator says at once that they are missing.
func receive(c *call) (any, error) {
	file := c.files["fileData"]
	if file == nil {
		return nil, fail("MISSING_MANDATORY_PARAMETER", "PARAM", "fileData")
	}
	u, at, err := c.beginChunk(file.Size)
	if err != nil {
		return nil, err
	}
	chunk, err := u.read(file, at)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		return nil, fail("UPLOAD_ERROR")
	}
	if need := int(at) + len(chunk); chunk != nil && need > len(u.data) {
		u.data = append(u.data, make([]byte, need-len(u.data))...)
	}
	if chunk != nil {
		copy(u.data[at:], chunk)
	}
	u.parts = append(u.parts, [2]int64{at, at + file.Size})
	if u.status != uploadFull {
		u.status = uploadPartial
	}
	if c.params.truth("finalChunk", true) {
		if whole := u.whole(); whole < u.end() || u.expected > 0 && whole != u.expected {
			return nil, fail("UPLOAD_TOKEN_CANNOT_MATCH_EXPECTED_SIZE")
		}
		u.status = uploadFull
	}
	return u.show(), nil
}

// beginChunk says where a chunk goes.
func (c *call) beginChunk(size int64) (*upload, int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, err := c.findUpload()
	if err != nil {
		return nil, 0, err
	}
	if u.status != uploadPending && u.status != uploadPartial {
		return nil, 0, fail("UPLOAD_TOKEN_INVALID_STATUS_FOR_UPLOAD")
	}
	at := int64(0)
	if c.params.truth("resume", false) {
		if u.status == uploadPending {
			return nil, 0, fail("UPLOAD_TOKEN_CANNOT_RESUME")
		}
		if at = int64(c.params.number("resumeAt", -1)); at < 0 {
			at = u.end()
		}
	} else {
		u.parts = nil
	}
	if u.path == "" && at+size > maxInMemory {
		return nil, 0, fail("UPLOAD_ERROR")
	}
	return u, at, nil
}

// read takes a chunk out of the request: into the file at its offset, or, for
// an upload without one, into the memory that is returned.
func (u *upload) read(header *multipart.FileHeader, at int64) ([]byte, error) {
	in, err := header.Open()
	if err != nil {
		return nil, fmt.Errorf("open the chunk: %w", err)
	}
	defer in.Close()
	if u.path == "" {
		return io.ReadAll(in)
	}
	out, err := os.OpenFile(u.path, os.O_WRONLY|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open the upload: %w", err)
	}
	if _, err = io.Copy(io.NewOffsetWriter(out, at), in); err != nil {
		_ = out.Close() // the first error counts
		return nil, fmt.Errorf("write the chunk: %w", err)
	}
	return nil, out.Close()
}

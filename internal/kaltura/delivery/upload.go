package delivery

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/klive-media/klive/internal/kaltura/client"
)

// uploadLife is how long an upload is continued: the backend forgets it after
// seven days.
const uploadLife = 6 * 24 * time.Hour

// upload brings a file to the backend, in chunks, from where an earlier try or
// an earlier process came to. When it returns nil, r.Upload is complete.
func (q *Queue) upload(ctx context.Context, r *row, file string, size int64, name string) error {
	if size == 0 {
		return &ownError{codeFileMissing, fmt.Sprintf("the file of piece %d of rendition %s is empty", r.Number, r.Rendition), refusal}
	}
	done, err := q.continueUpload(ctx, r, size)
	if err != nil || done {
		return err
	}
	if r.Upload == nil {
		u, err := q.opts.Client.NewUpload(ctx, r.Partner, name, size)
		if err != nil {
			return fmt.Errorf("begin the upload: %w", err)
		}
		r.Upload = &upload{Token: string(u.ID), Begun: time.Now()}
		if err := q.save(ctx, r); err != nil {
			return err
		}
	}
	in, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("open the recorded file: %w", err)
	}
	defer in.Close()
	for r.Upload.Offset < size {
		chunk := min(q.opts.ChunkSize, size-r.Upload.Offset)
		_, err := q.opts.Client.UploadChunk(ctx, r.Partner, r.Upload.Token, in, r.Upload.Offset, chunk, r.Upload.Offset+chunk == size)
		if err != nil {
			return fmt.Errorf("upload the recorded file from byte %d on: %w", r.Upload.Offset, err)
		}
		q.answered()
		r.Upload.Offset += chunk
		if err := q.save(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// continueUpload finds out how far an upload is that was begun before; done
// means that all is there. An upload that cannot be continued is forgotten.
func (q *Queue) continueUpload(ctx context.Context, r *row, size int64) (done bool, err error) {
	if r.Upload == nil {
		return false, nil
	}
	if time.Since(r.Upload.Begun) > uploadLife {
		r.Upload = nil
		return false, nil
	}
	u, err := q.opts.Client.GetUpload(ctx, r.Partner, r.Upload.Token)
	if client.HasCode(err, "UPLOAD_TOKEN_NOT_FOUND") {
		r.Upload = nil
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask how far the upload is: %w", err)
	}
	q.answered()
	switch {
	case u.Status == client.UploadFull && r.Upload.Offset == size:
		return true, nil
	case u.Status == client.UploadFull && int64(u.Uploaded) == size: // the answer to the last chunk was lost
		r.Upload.Offset = size
		return true, nil
	case u.Status == client.UploadPending:
		r.Upload.Offset = 0
	case u.Status == client.UploadPartial && int64(u.Uploaded) < size:
		// What the backend has, be it more or less than was confirmed.
		r.Upload.Offset = int64(u.Uploaded)
	case u.Status == client.UploadPartial:
		// All is there but for the end of it: the last chunk is sent again.
		r.Upload.Offset = max(0, size-q.opts.ChunkSize)
	default:
		r.Upload = nil
	}
	return false, nil
}

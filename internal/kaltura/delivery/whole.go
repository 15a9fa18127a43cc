package delivery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/stream"
)

// Some partners' recordings are not made of pieces: the backend answers
// KALTURA_RECORDING_ENABLED and wants the whole recording of the source, once,
// when it is over. Then all rows of the recording are marked Content. They
// wait; when the recording is complete one of them, the carrier, stands for
// all: what becomes of it becomes of the others.

// carrierOf is the row that stands for a whole recording: the last of the
// source. Zero: it is not complete yet, or not needed (a backup's).
func carrierOf(rec *stream.Recording, rows []*row, source string) pieceID {
	if rec.ServerIndex != 0 || !rec.Finished() || len(rows) == 0 || len(rows) < len(rec.Pieces) {
		return pieceID{}
	}
	if !slices.ContainsFunc(rows, func(r *row) bool { return r.Rendition == source }) {
		source = rows[0].Rendition // the encoder never sent what the profile calls the source
	}
	var carrier pieceID
	for _, r := range rows { // by number
		if r.Rendition == source {
			carrier = r.id()
		}
	}
	return carrier
}

// sortOut brings the rows of a recording that is handed over as a whole into
// line with the carrier.
func (q *Queue) sortOut(ctx context.Context, rec *stream.Recording, rows []*row, carrier pieceID) error {
	var to, accepted state
	note, by := "", ""
	if rec.ServerIndex != 0 {
		to, note = delivered, "not needed: the backend takes the whole recording, of the primary"
	}
	for _, r := range rows {
		if r.id() == carrier && r.State.passed() {
			to, note = r.State, "part of the whole recording, which was handed over at once"
			if r.Accepted != 0 {
				note, accepted, by = "part of the whole recording: "+r.Error, r.Accepted, r.AcceptedBy
			}
		}
	}
	var failed error
	for _, old := range rows {
		r := old.copy()
		switch {
		case old.id() == carrier || old.State == sending || old.State == delivered:
			continue
		case to != 0 && (old.State != inDoubt || old.Content && to == delivered):
			r.Content, r.Upload, r.Intent = true, nil, nil
			r.State, r.Done, r.Code, r.Error = to, time.Now(), "", note
			r.Accepted, r.AcceptedBy = accepted, by
		case old.State == queued && !old.Content:
			r.Content, r.Upload, r.Intent = true, nil, nil
		default:
			continue
		}
		failed = errors.Join(failed, q.save(ctx, r))
	}
	return failed
}

// sendWhole hands a whole recording over.
func (q *Queue) sendWhole(ctx context.Context, r *row) {
	r.Attempts++
	r.Tried = time.Now()
	if _, partner := q.profileOf(r.Stream, r.ServerIndex); r.Partner == 0 {
		r.Partner = partner
	}
	e, err := q.opts.Client.GetEntry(ctx, r.Partner, r.Stream) // is anybody there?
	if err != nil {
		q.failed(ctx, r, err)
		return
	}
	q.answered()
	if r.Partner == 0 {
		r.Partner = int(e.Partner)
	}
	file, length, err := q.join(ctx, r)
	if err != nil {
		q.failed(ctx, r, err)
		return
	}
	segment, err := q.handOver(ctx, r, file, q.wholeName(r))
	if err != nil {
		q.failed(ctx, r, err)
		return
	}
	q.call(ctx, r, &intent{}, func(ctx context.Context) (client.Entry, error) {
		segment.Entry, segment.Index, segment.Duration = r.Stream, r.ServerIndex, length
		return q.opts.Client.SetContent(ctx, r.Partner, segment)
	})
}

// wholeName is the file name of a whole recording.
func (q *Queue) wholeName(r *row) string {
	return fmt.Sprintf("%s.whole.%d_%s.mp4", r.Stream, r.ServerIndex, r.Recording)
}

// join makes one file of a recording's rendition, unless an earlier try did.
func (q *Queue) join(ctx context.Context, r *row) (file string, length time.Duration, err error) {
	if q.opts.WorkDir == "" {
		return "", 0, errors.New("the backend takes whole recordings, and there is no folder to make them in")
	}
	if err := os.MkdirAll(q.opts.WorkDir, 0o755); err != nil {
		return "", 0, fmt.Errorf("make the folder for whole recordings: %w", err)
	}
	q.share(q.opts.WorkDir, sharedFolder)
	file = filepath.Join(q.opts.WorkDir, q.wholeName(r))
	if r.Joined > 0 {
		if _, err := os.Stat(file); err == nil {
			return file, r.Joined, nil
		}
	}
	temporary := file + ".part"
	for _, old := range []string{temporary, file} { // left by a crash
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", 0, fmt.Errorf("make room for the whole recording: %w", err)
		}
	}
	length, err = q.opts.Recordings.Join(ctx, r.Recording, r.Rendition, temporary)
	if err != nil {
		err = errors.Join(err, ignoreMissing(os.Remove(temporary)))
		if fault.ReasonOf(err) == fault.RecordingNotFound {
			return "", 0, &ownError{codeFileMissing, "the recording is not on the disk any more", refusal}
		}
		return "", 0, fmt.Errorf("join the pieces: %w", err)
	}
	q.share(temporary, sharedFile)
	if err := errors.Join(os.Rename(temporary, file), syncDir(q.opts.WorkDir)); err != nil {
		return "", 0, fmt.Errorf("join the pieces: %w", err)
	}
	r.Joined, r.Upload = length, nil
	return file, length, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

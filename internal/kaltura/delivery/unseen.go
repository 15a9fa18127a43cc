package delivery

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

// maxUnseen is after how many answers that a file is not there somebody is
// told: one may be a disk that was slow to show it.
const maxUnseen = 5

// unseen says of a piece that the backend did not find its file what to check,
// and logs it once until the lane goes on. It is no event, as RECORDING_DELIVERY_REFUSED
// is of pieces that are not tried any more.
func (q *Queue) unseen(r *row) {
	if q.opts.Way != SharedDisk {
		return
	}
	where, keys := "under "+path.Join(filepath.ToSlash(q.opts.BackendDir), q.handedName(r)),
		"kaltura.shared_directory, kaltura.backend_directory and recording.group"
	if r.InPlace {
		where, keys = "where this server has it", "recording.directory and recording.group, or set kaltura.shared_directory"
	}
	r.Error = fmt.Sprintf("the backend does not find or may not read the file %s; check %s", where, keys)
	q.mu.Lock()
	tell := false
	if l := q.lanes[r.lane()]; l != nil {
		l.unseen++
		tell = l.unseen == maxUnseen
	}
	q.mu.Unlock()
	if !tell {
		return
	}
	q.log.Warn("the backend does not see recorded pieces on the shared disk; they wait", "entry", r.Stream, "recording", r.Recording,
		"rendition", r.Rendition, "number", r.Number, "code", r.Code, "error", r.Error)
}

// handedName is the name in the shared folder under which a row's file is
// handed over.
func (q *Queue) handedName(r *row) string {
	name := q.pieceName(r)
	if r.Content {
		name = q.wholeName(r)
	}
	return strings.ReplaceAll(name, "/", "-")
}

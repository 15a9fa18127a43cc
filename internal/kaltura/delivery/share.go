package delivery

import (
	"fmt"
	"io/fs"
	"os"
)

// A backend that runs as another user reads what is made for it here by a
// group that both are in. A group that cannot be given keeps nothing from being
// sent: the disk may show files to others by rules of its own, and what the
// backend does not see it says.

// share gives a file or folder of ours to the group. Errors have been told.
func (q *Queue) share(path string, mode fs.FileMode) {
	if q.opts.Group <= 0 {
		return
	}
	err := os.Chown(path, -1, q.opts.Group)
	if err == nil { // after that, as a change of group may take bits away
		err = os.Chmod(path, mode)
	}
	q.mu.Lock()
	again := q.unshared
	q.unshared = err != nil
	q.mu.Unlock()
	if err != nil && !again {
		q.log.Warn(fmt.Sprintf("what is made for the backend could not be given to group %d; make the server's user a member of it", q.opts.Group), "error", err)
	}
}

// The modes of what is made for the backend.
const (
	sharedFile   = 0o640
	sharedFolder = fs.ModeSetgid | 0o750
)

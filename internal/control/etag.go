package control

import (
	"strconv"

	"github.com/klive-media/klive/internal/fault"
)

// revisionOf reads an etag a caller sent back; "" is revision 0, which is not
// checked. Whatever no etag of ours looks like belongs to no revision, so it
// is a mismatch and not a mistake (AIP-154).
func revisionOf(tag string) (uint64, error) {
	if tag == "" {
		return 0, nil
	}
	revision, err := strconv.ParseUint(tag, 36, 64)
	if err != nil || etag(revision) != tag {
		return 0, fault.New(fault.EtagMismatch, "the stream was changed since it was read; read it again")
	}
	return revision, nil
}

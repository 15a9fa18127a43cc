package ingest

import (
	"strconv"
	"strings"
)

// StreamName joins a stream id and an ingest index.
func StreamName(id string, index int) string { return id + "_" + strconv.Itoa(index) }

// SplitName splits a stream name at its last underscore. ok is false when what
// follows it is not 1 to 4 digits making an index of at least 1, or when
// nothing stands before it.
func SplitName(name string) (id string, index int, ok bool) {
	i := strings.LastIndexByte(name, '_')
	if i <= 0 {
		return "", 0, false
	}
	digits := name[i+1:]
	if len(digits) < 1 || len(digits) > 4 {
		return "", 0, false
	}
	for _, d := range []byte(digits) {
		if d < '0' || d > '9' {
			return "", 0, false
		}
		index = index*10 + int(d-'0')
	}
	return name[:i], index, index >= 1
}

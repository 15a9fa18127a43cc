package harness

import (
	"fmt"
	"os"
)

// Holdings are what a process holds of the system now.
type Holdings struct {
	Files   int // open descriptors
	Threads int
}

// Holds counts what a process holds.
func Holds(pid int) (h Holdings, err error) {
	for dir, n := range map[string]*int{"fd": &h.Files, "task": &h.Threads} {
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", pid, dir))
		if err != nil {
			return h, err
		}
		*n = len(list)
	}
	return h, nil
}

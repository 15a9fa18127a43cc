package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// lockName is the file whose flock says that a process has the directory open. The kernel gives the
// lock back when the process ends in whatever way, so a crash never leaves a stale one.
const lockName = "lock"

// lockDir takes the lock on dir or fails with ErrInUse at once.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open store: open lock file: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner := readOwner(f)
		f.Close() // nothing was written to it
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("open store: %s is in use by another server%s; stop it, or set another data_dir: %w", dir, owner, ErrInUse)
		}
		return nil, fmt.Errorf("open store: lock %s: %w", dir, err)
	}
	// The process id is a courtesy to the person who reads the message above; the flock is the truth.
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			f.Close() // the write's error is the one to report
			return nil, fmt.Errorf("open store: write lock file: %w", err)
		}
	}
	return f, nil
}

// readOwner returns " (process N)" when the lock file tells.
func readOwner(f *os.File) string {
	var buf [16]byte
	n, _ := f.ReadAt(buf[:], 0)
	pid := strings.TrimSpace(string(buf[:n]))
	if _, err := strconv.ParseUint(pid, 10, 32); err != nil {
		return ""
	}
	return " (process " + pid + ")"
}

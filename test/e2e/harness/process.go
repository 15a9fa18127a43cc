package harness

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a child with its output in a file.
type Process struct {
	cmd   *exec.Cmd
	path  string
	ended chan struct{}
	err   error // how it ended; valid when ended is closed
}

// StartProcess starts cmd with its output appended to the file. The child gets a process group of its own, so that
// KillGroup ends with it what it started.
func StartProcess(cmd *exec.Cmd, output string) (*Process, error) {
	f, err := os.OpenFile(output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the child has its own
	if cmd.Stdout == nil {
		cmd.Stdout = f
	}
	cmd.Stderr = f
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p := &Process{cmd: cmd, path: output, ended: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal to the child alone.
func (p *Process) Signal(s syscall.Signal) {
	if !p.Ended() {
		_ = p.cmd.Process.Signal(s) // it may just have ended
	}
}

// KillGroup kills the child and what it started, and waits for the child.
func (p *Process) KillGroup() {
	if !p.Ended() {
		_ = syscall.Kill(-p.PID(), syscall.SIGKILL) // it may just have ended
	}
	p.Wait(stopTimeout)
}

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.ended }

// Ended reports whether the child has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Wait waits for the end at most d and reports whether it came.
func (p *Process) Wait(d time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(d):
		return false
	}
}

// Err is how the child ended; nil for exit code 0 and while it runs.
func (p *Process) Err() error {
	if !p.Ended() {
		return nil
	}
	return p.err
}

// OutputFile is where the output goes.
func (p *Process) OutputFile() string { return p.path }

// Output is all that was written to the output file.
func (p *Process) Output() string {
	b, err := os.ReadFile(p.path)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Tail is the end of Output.
func (p *Process) Tail(n int) string {
	s := p.Output()
	if len(s) > n {
		s = "… " + s[len(s)-n:]
	}
	return s
}

// Usage is what a process has used.
type Usage struct {
	CPU time.Duration // user and system
	RSS int64         // bytes
}

// clockTick is the unit of /proc/<pid>/stat: sysconf(_SC_CLK_TCK), which Linux fixes at 100 for programs.
const clockTick = 10 * time.Millisecond

// Usages sums the usage of processes.
func Usages(pids ...int) (Usage, error) {
	var u Usage
	for _, pid := range pids {
		one, err := usage(pid)
		if err != nil {
			return u, err
		}
		u.CPU += one.CPU
		u.RSS += one.RSS
	}
	return u, nil
}

func usage(pid int) (Usage, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, err
	}
	// The name in parentheses may hold spaces; proc(5) counts the fields behind it from 3.
	s := string(b)
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(fields) < 22 {
		return Usage{}, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(fields[i-3], 10, 64) // the kernel writes numbers
		return n
	}
	return Usage{
		CPU: time.Duration(number(14)+number(15)) * clockTick,
		RSS: number(24) * int64(os.Getpagesize()),
	}, nil
}

// Children are the process ids whose parent is pid.
func Children(pid int) []int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	var list []int
	for _, f := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			list = append(list, n)
		}
	}
	return list
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/klive-media/klive/test/e2e/harness"
)

// child is this program in another role. It is told its task by one line of JSON, answers with lines of JSON, and ends
// when its standard input does.
type child struct {
	*harness.Process
	in  io.Closer
	out *bufio.Reader
}

var children atomic.Int64

// startChild starts a role and hands it the task.
func (b *bench) startChild(role string, task any) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(task)
	if err != nil {
		return nil, err
	}
	return b.startProgram(exec.Command(self, role, string(text)), role)
}

// startProgram starts a program that behaves like a child.
func (b *bench) startProgram(cmd *exec.Cmd, name string) (*child, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	cmd.Stdout = w
	p, err := harness.StartProcess(cmd, filepath.Join(b.dir, fmt.Sprintf("%s-%d.log", name, children.Add(1))))
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &child{Process: p, in: in, out: bufio.NewReader(r)}, nil
}

// answer reads one line of JSON.
func (c *child) answer(ctx context.Context, into any) error {
	type line struct {
		b   []byte
		err error
	}
	got := make(chan line, 1)
	go func() {
		b, err := c.out.ReadBytes('\n')
		got <- line{b, err}
	}()
	select {
	case l := <-got:
		if l.err != nil {
			return fmt.Errorf("a child ended: %w: %s", l.err, c.Tail(1000))
		}
		return json.Unmarshal(l.b, into)
	case <-ctx.Done():
		c.KillGroup()
		return context.Cause(ctx)
	}
}

// end ends the child in good order.
func (c *child) end() {
	c.in.Close()
	if !c.Wait(10 * time.Second) {
		c.KillGroup()
	}
}

// wait waits for d, or fails when ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// window measures the CPU that processes use in d, in cores.
func window(ctx context.Context, d time.Duration, pids func() []int) (cores float64, err error) {
	before, err := harness.Usages(pids()...)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := wait(ctx, d); err != nil {
		return 0, err
	}
	after, err := harness.Usages(pids()...)
	if err != nil {
		return 0, err
	}
	return (after.CPU - before.CPU).Seconds() / time.Since(began).Seconds(), nil
}

// klive starts the shipped binary with its defaults and a template for the streams that are published.
func (b *bench) klive(ctx context.Context, extra string) (*harness.Server, error) {
	dir, err := os.MkdirTemp(b.dir, "klive-")
	if err != nil {
		return nil, err
	}
	return harness.Launch(ctx, harness.Options{Dir: dir, Config: "streams: [ { id: \"load-*\", token: " + secret + " } ]\n" + extra})
}

// secret is the token of every stream here.
const secret = "s3cret"

// nginx starts nginx with a configuration; %s in it is its folder.
func (b *bench) nginx(ctx context.Context, listen, config string) (*harness.Process, string, error) {
	dir, err := os.MkdirTemp(b.dir, "nginx-")
	if err != nil {
		return nil, "", err
	}
	file := filepath.Join(dir, "nginx.conf")
	head := "user root; daemon off; worker_processes 1; pid nginx.pid; error_log error.log warn;\nload_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\nevents { worker_connections 2048; }\n"
	if err := os.WriteFile(file, []byte(head+config), 0o600); err != nil {
		return nil, "", err
	}
	binary, err := exec.LookPath("nginx")
	if err != nil {
		binary = "/usr/sbin/nginx"
	}
	p, err := harness.StartProcess(exec.Command(binary, "-p", dir, "-c", file), filepath.Join(dir, "out.log"))
	if err != nil {
		return nil, "", err
	}
	return p, dir, reachable(ctx, p, listen)
}

// stopNginx ends nginx and its workers.
func stopNginx(p *harness.Process) {
	p.Signal(syscall.SIGTERM)
	if !p.Wait(5 * time.Second) {
		p.KillGroup()
	}
}

// family are the process ids of p and its children.
func family(p *harness.Process) func() []int {
	return func() []int { return append([]int{p.PID()}, harness.Children(p.PID())...) }
}

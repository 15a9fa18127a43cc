package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/klive-media/klive/test/e2e/encoder"
	"github.com/klive-media/klive/test/e2e/harness"
)

// publication is the task of the publisher: the same recording as many streams, in real time, from one process.
type publication struct {
	Clip   string   `json:"clip"`   // folder of the recording
	Host   string   `json:"host"`   // where to
	Raw    bool     `json:"raw"`    // no RTMP, only its bytes
	App    string   `json:"app"`    // RTMP application
	Names  []string `json:"names"`  // stream names
	Ledger string   `json:"ledger"` // file that gets the time at which each picture was sent; empty: none
}

// ledgerFrames is how many pictures of a stream the ledger holds: ten minutes.
const ledgerFrames = 10 * 60 * 30

// ledger is when each picture of each stream was sent, in nanoseconds of the Unix time; 0: not yet. Both processes see
// the same memory.
type ledger []int64

func openLedger(path string, streams int) (ledger, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n := streams * ledgerFrames
	if err := f.Truncate(int64(n) * 8); err != nil {
		return nil, err
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, n*8, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the ledger: %w", err)
	}
	return unsafe.Slice((*int64)(unsafe.Pointer(&b[0])), n), nil
}

// at is the time a picture was sent.
func (l ledger) at(stream, frame int) (time.Time, bool) {
	if frame < 0 || frame >= ledgerFrames || l[stream*ledgerFrames+frame] == 0 {
		return time.Time{}, false
	}
	return time.Unix(0, l[stream*ledgerFrames+frame]), true
}

// onAir is the publisher's first answer, done its last.
type (
	onAir struct {
		Streams int `json:"streams"`
	}
	done struct {
		Frames []int  `json:"frames"` // pictures sent, by stream
		Error  string `json:"error"`
	}
)

// publisherRole publishes until its standard input ends.
func publisherRole(args []string) error {
	if len(args) != 1 {
		return errors.New("the task is missing")
	}
	var task publication
	if err := json.Unmarshal([]byte(args[0]), &task); err != nil {
		return err
	}
	clip, err := encoder.Make(task.Clip, encoder.Standard)
	if err != nil {
		return err
	}
	var times ledger
	if task.Ledger != "" {
		if times, err = openLedger(task.Ledger, len(task.Names)); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends when the parent says so
		cancel()
	}()
	conns := make([]*encoder.Conn, len(task.Names))
	for i, name := range task.Names {
		if task.Raw {
			conns[i], err = encoder.DialRaw(ctx, task.Host)
		} else {
			conns[i], err = encoder.Dial(ctx, encoder.Address{Host: task.Host, App: task.App, Name: name})
		}
		if err != nil {
			return fmt.Errorf("publish %s: %w", name, err)
		}
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(onAir{len(conns)}); err != nil {
		return err
	}
	return out.Encode(play(ctx, clip, conns, times))
}

// play plays the clip on all connections; their key frames are spread over the time between two.
func play(ctx context.Context, clip *encoder.Clip, conns []*encoder.Conn, times ledger) done {
	result := done{Frames: make([]int, len(conns))}
	var mu sync.Mutex // guards result.Error
	var all sync.WaitGroup
	start := time.Now()
	gop := time.Duration(encoder.Standard.GOP) * time.Second / time.Duration(encoder.Standard.Rate)
	for i, c := range conns {
		all.Go(func() {
			begin := start.Add(gop * time.Duration(i) / time.Duration(len(conns)))
			if wait(ctx, time.Until(begin)) != nil {
				return
			}
			err := c.Play(ctx, clip, begin, 0, func(frame int) {
				result.Frames[i]++
				if times != nil && frame < ledgerFrames {
					times[i*ledgerFrames+frame] = time.Now().UnixNano()
				}
			})
			c.Close()
			if err != nil {
				mu.Lock()
				result.Error = err.Error()
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return result
}

// publish starts a publisher and waits until all its streams were granted.
func (b *bench) publish(ctx context.Context, task publication) (*child, error) {
	task.Clip = b.clip
	c, err := b.startChild("publisher", task)
	if err != nil {
		return nil, err
	}
	var ok onAir
	if err := c.answer(ctx, &ok); err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

// unpublish ends a publisher and returns how many pictures of each stream it sent.
func unpublish(ctx context.Context, c *child) ([]int, error) {
	c.in.Close()
	var d done
	err := c.answer(ctx, &d)
	c.end()
	if err != nil {
		return nil, err
	}
	if d.Error != "" {
		return d.Frames, errors.New(d.Error)
	}
	return d.Frames, nil
}

// names are n stream ids that were not used before.
func names(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("load-%s-%d", prefix, i)
	}
	return list
}

// indexed adds the ingest index to stream ids.
func indexed(ids []string) []string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = id + "_1"
	}
	return list
}

// sinkRole only reads what comes over TCP: the least a Go program can do with it.
func sinkRole([]string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(l.Addr().String()); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 16<<10)
			for {
				if _, err := c.Read(buf); err != nil {
					return
				}
			}
		}()
	}
}

// reachable waits until something listens at the address.
func reachable(ctx context.Context, p *harness.Process, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return harness.Until(ctx, 20*time.Millisecond, func() (bool, error) {
		if p.Ended() {
			return false, fmt.Errorf("it ended while starting: %s; %s", p.Tail(2000), errorLog(p))
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			return false, nil //nolint:nilerr // not yet
		}
		return true, c.Close()
	})
}

// errorLog is what a program wrote to error.log beside its output.
func errorLog(p *harness.Process) string {
	b, err := os.ReadFile(filepath.Join(filepath.Dir(p.OutputFile()), "error.log"))
	if err != nil {
		return ""
	}
	return string(b)
}

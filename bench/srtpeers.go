package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	gosrt "github.com/datarhei/gosrt"

	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/ingest/srt"
	wire "github.com/klive-media/klive/internal/srt"
	"github.com/klive-media/klive/test/e2e/harness"
)

// What takes SRT here prints its address and then, each time that nobody is left, how many bytes it has read since the
// last time.

// srtDoorRole is the server cut down to its way in, as doorRole: the SRT door, the repair of time, and the Log.
func srtDoorRole([]string) error {
	debug.SetGCPercent(40) // as the server does, see docs/adr/0009-garbage-collection.md
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l, err := wire.Listen(ctx, "127.0.0.1:0", wire.Options{})
	if err != nil {
		return err
	}
	gate := &countingGate{out: json.NewEncoder(os.Stdout)}
	if err := gate.out.Encode(l.Addr().String()); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return srt.New(srt.Options{
		Listener: l, Gate: gate, Grammar: ingest.CatalogGrammar("kLive"), ServerPassphrase: srtPassphrase, Stats: &gate.stats,
	}).Run(ctx)
}

// countingGate lets everybody in, and tells what was read when the last is gone.
type countingGate struct {
	openGate
	stats srt.Stats
	out   *json.Encoder
	open  atomic.Int64
	told  uint64 // of stats.BytesIn; whoever is the last has it for himself
}

func (g *countingGate) Open(ctx context.Context, r ingest.Request) (ingest.Publication, error) {
	p, err := g.openGate.Open(ctx, r)
	if err != nil {
		return nil, err
	}
	g.open.Add(1)
	return &countedPublication{p, g}, nil
}

type countedPublication struct {
	ingest.Publication
	gate *countingGate
}

func (p *countedPublication) Close(cause error) {
	p.Publication.Close(cause)
	if p.gate.open.Add(-1) == 0 {
		n := p.gate.stats.BytesIn.Load()
		_ = p.gate.out.Encode(n - p.gate.told) // who asked is gone
		p.gate.told = n
	}
}

// gosrtRole only reads what comes over SRT through gosrt, the other engine in Go.
func gosrtRole([]string) error {
	l, err := gosrt.Listen("srt", "127.0.0.1:0", gosrt.DefaultConfig())
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(l.Addr().String()); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	var open, read atomic.Int64
	for {
		call, err := l.Accept2()
		if err != nil {
			return err
		}
		if err := call.SetPassphrase(srtPassphrase); err != nil {
			call.Reject(gosrt.REJ_BADSECRET)
			continue
		}
		c, err := call.Accept()
		if err != nil {
			continue // a caller that went away in the middle
		}
		open.Add(1)
		go func() {
			n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 2048))
			_ = c.Close()
			read.Add(n)
			if open.Add(-1) == 0 {
				_ = out.Encode(read.Swap(0)) // who asked is gone
			}
		}()
	}
}

// srtContestants starts all; they idle until it is their turn. The first is what the others are held against.
func srtContestants(ctx context.Context, b *bench) (list []*srtContestant, stop func(), err error) {
	stop = func() {
		for _, c := range list {
			c.stop()
		}
	}
	program, err := buildSRTGo(ctx, b)
	if err != nil {
		return nil, stop, err
	}
	address, err := harness.FreePort()
	if err != nil {
		return nil, stop, err
	}
	again := pick(b, 8*time.Second, 6*time.Second) // the Log is full behind this
	join := func(name string, p *child, err error) error {
		if err != nil {
			return fmt.Errorf("start %s: %w", name, err)
		}
		c := &srtContestant{name: name, again: again, pids: func() []int { return []int{p.PID()} }, stop: p.end, received: p.received}
		list = append(list, c)
		return p.answer(ctx, &c.address)
	}
	p, err := b.startProgram(exec.Command(program, harness.Port(address), srtPassphrase), "srtgo")
	if err := join("srtgo", p, err); err != nil {
		return list, stop, err
	}
	p, err = b.startChild("srtdoor", nil)
	if err := join("srtdoor", p, err); err != nil {
		return list, stop, err
	}
	s, err := b.klive(ctx, "srt: { passphrase: \""+srtPassphrase+"\" }")
	if err != nil {
		return list, stop, err
	}
	list = append(list, kliveSRT(b, s))
	p, err = b.startChild("gosrt", nil)
	return list, stop, join("gosrt", p, err)
}

// received reads what a child that takes SRT says when all publishers are gone.
func (c *child) received(ctx context.Context, _ int64) (n int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return n, c.answer(ctx, &n)
}

// kliveSRT is the shipped server.
func kliveSRT(b *bench, s *harness.Server) *srtContestant {
	c := &srtContestant{name: "klive", address: s.SRT, pids: func() []int { return []int{s.PID()} }, stop: func() { _ = s.Stop() }}
	c.again = pick(b, 20*time.Second, 8*time.Second)
	before := int64(0)
	c.received = func(ctx context.Context, sent int64) (int64, error) {
		waiting, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		var total int64
		err := harness.Until(waiting, 100*time.Millisecond, func() (bool, error) {
			n, err := s.Metric(ctx, "klive_srt_received_bytes_total")
			total = int64(n)
			return total-before >= sent, err
		})
		n := total - before
		before = total
		if waiting.Err() != nil && ctx.Err() == nil {
			err = nil // that is all that came
		}
		return n, err
	}
	c.after = func(ctx context.Context, ids []string, frames []int) error {
		counted, err := countOutput(ctx, s, ids, frames)
		if err != nil {
			return err
		}
		b.report.note("klive over SRT, %s", counted)
		return nil
	}
	return c
}

// buildSRTGo builds the peer that needs libsrt.
func buildSRTGo(ctx context.Context, b *bench) (program string, err error) {
	program = filepath.Join(b.dir, "srtgo")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "srtgo", "-o", program, "./bench/srtgo")
	build.Dir = b.root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the peer on libsrt: %w: %s", err, out)
	}
	return program, nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/ingest/srt"
	wire "github.com/klive-media/klive/internal/srt"
	"github.com/klive-media/klive/test/e2e/harness"
)

// srtPublishers is how many encoders publish over SRT at once.
const srtPublishers = 20

// logTime is how much of a stream a Log keeps by default.
const logTime = 4 * time.Second

// srtDoorRole is the server cut down to its way in, as doorRole: the SRT door, the repair of time, and the Log.
func srtDoorRole([]string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l, err := wire.Listen(ctx, "127.0.0.1:0", wire.Options{})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(l.Addr().String()); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return srt.New(srt.Options{
		Listener: l, Gate: openGate{}, Grammar: ingest.CatalogGrammar("kLive"), ServerPassphrase: srtPassphrase,
	}).Run(ctx)
}

// srtContestant is one way to take the streams in.
type srtContestant struct {
	name          string
	address       string
	pids          func() []int
	stop          func()
	before, grown int64
	cores         []float64
	rounds        int
}

// srtIngestion measures what 20 encrypted SRT publishers of 4.8 Mbit/s cost, in turns.
func srtIngestion(ctx context.Context, b *bench) error {
	list, stop, err := srtContestants(ctx, b)
	defer stop()
	if err != nil {
		return err
	}
	chunks, err := makeTransport(b.clip)
	if err != nil {
		return err
	}
	rate := float64(len(chunks)*srtMessage) / chunks[len(chunks)-1].at.Seconds() / 1e6 // MB/s
	b.report.note("SRT: %d publishers of %.2f Mbit/s each, AES-128, sent by github.com/datarhei/gosrt", srtPublishers, 8*rate)
	for range pick(b, 4, 2) {
		for _, c := range list {
			if err := c.round(ctx, b); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	floor := list[0]
	sink := median(floor.cores)
	b.report.figure("srt", "srtgo: a program that only reads through libsrt", "%.1f %% of a core (%s), %.1f MB grown", 100*sink,
		spread(percent(floor.cores), " %"), float64(floor.grown-floor.before)/1e6)
	bound := math.Round(100*rate*logTime.Seconds()) / 100
	for _, c := range list[1:] {
		ratio := median(c.cores) / sink
		detail := fmt.Sprintf("%.1f %% of a core; %s", 100*median(c.cores), spread(ratios(c.cores, floor.cores), ""))
		above := float64(c.grown-c.before-(floor.grown-floor.before)) / srtPublishers / 1e6
		memory := fmt.Sprintf("resident %.0f MB idle, %.0f MB with %d streams", float64(c.before)/1e6, float64(c.grown)/1e6, srtPublishers)
		if c.name == "srtdoor" { // without the server's garbage collection: its memory says nothing
			b.report.figure("srt", "20 encrypted publishers, door and Log alone / srtgo", "%.2f × (%s)", ratio, detail)
			continue
		}
		b.report.bar("srt", "20 encrypted publishers, klive as shipped, LL-HLS on / srtgo", ratio, 1.25, " ×", detail)
		b.report.bar("srt", "memory a stream above srtgo, klive as shipped, LL-HLS on", above, bound+0.5, " MB", memory)
	}
	b.report.note("The Log holds 4 s, here %.1f MB a stream; the bar of memory is that and 0.5 MB.", bound)
	return nil
}

func (c *srtContestant) round(ctx context.Context, b *bench) error {
	if c.before == 0 {
		u, err := harness.Usages(c.pids()...)
		if err != nil {
			return err
		}
		c.before = u.RSS
	}
	c.rounds++
	p, err := b.startChild("srtpublisher", srtTask{Clip: b.clip, Host: c.address, Names: indexed(names(fmt.Sprint(c.name, c.rounds), srtPublishers))})
	if err != nil {
		return err
	}
	defer p.end()
	var ok onAir
	if err := p.answer(ctx, &ok); err != nil {
		return err
	}
	// The Log is full behind this.
	if err := wait(ctx, pick(b, 20*time.Second, 6*time.Second)); err != nil {
		return err
	}
	cores, err := window(ctx, pick(b, 15*time.Second, 6*time.Second), c.pids)
	if err != nil {
		return err
	}
	u, err := harness.Usages(c.pids()...)
	if err != nil {
		return err
	}
	c.cores = append(c.cores, cores)
	if c.grown == 0 {
		c.grown = u.RSS
	}
	p.in.Close()
	var d srtDone
	if err := p.answer(ctx, &d); err != nil {
		return err
	}
	if d.Error != "" {
		return errors.New(d.Error)
	}
	return nil
}

// srtContestants starts all; they idle until it is their turn.
func srtContestants(ctx context.Context, b *bench) (list []*srtContestant, stop func(), err error) {
	stop = func() {
		for _, c := range list {
			c.stop()
		}
	}
	sink, err := srtgoContestant(ctx, b)
	if err != nil {
		return list, stop, err
	}
	list = append(list, sink)
	p, err := b.startChild("srtdoor", nil)
	if err != nil {
		return list, stop, err
	}
	door := &srtContestant{name: "srtdoor", pids: func() []int { return []int{p.PID()} }, stop: p.end}
	list = append(list, door)
	if err := p.answer(ctx, &door.address); err != nil {
		return list, stop, err
	}
	s, err := b.klive(ctx, "srt: { passphrase: \""+srtPassphrase+"\" }")
	if err != nil {
		return list, stop, err
	}
	list = append(list, &srtContestant{
		name: "klive", address: s.SRT, pids: func() []int { return []int{s.PID()} }, stop: func() { _ = s.Stop() },
	})
	return list, stop, nil
}

// srtgoContestant builds the peer, which needs libsrt, and starts it.
func srtgoContestant(ctx context.Context, b *bench) (*srtContestant, error) {
	program := filepath.Join(b.dir, "srtgo")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "srtgo", "-o", program, "./bench/srtgo")
	build.Dir = b.root
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the peer on libsrt: %w: %s", err, out)
	}
	address, err := harness.FreePort()
	if err != nil {
		return nil, err
	}
	c, err := b.startProgram(exec.Command(program, harness.Port(address), srtPassphrase), "srtgo")
	if err != nil {
		return nil, err
	}
	peer := &srtContestant{name: "srtgo", pids: func() []int { return []int{c.PID()} }, stop: c.end}
	if err := c.answer(ctx, &peer.address); err != nil {
		c.end()
		return nil, err
	}
	return peer, nil
}

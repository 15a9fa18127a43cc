package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/klive-media/klive/test/e2e/harness"
	"github.com/klive-media/klive/test/e2e/hlscheck"
)

// delivery measures the CPU of a gigabyte of finished segments, beside nginx serving the same bytes from files.
func delivery(ctx context.Context, b *bench) error {
	s, err := b.klive(ctx, "limits: { reconnect_window: 1h }")
	if err != nil {
		return err
	}
	defer s.Stop() //nolint:errcheck // the figures are taken
	ids := names("bulk", 1)
	p, err := b.publish(ctx, publication{Host: s.RTMP, App: "kLive?t=" + secret, Names: indexed(ids)})
	if err != nil {
		return err
	}
	defer p.end()
	video, err := videoPlaylist(ctx, s, ids[0])
	if err != nil {
		return err
	}
	if err := wait(ctx, pick(b, 40*time.Second, 18*time.Second)); err != nil {
		return err
	}
	// The publisher goes; within the reconnect window the playlist stands still, and so do its segments.
	if _, err := unpublish(ctx, p); err != nil {
		return err
	}
	b.report.note("Segments are delivered after the publisher left, within the reconnect window, so that both servers have the same bytes to serve and nothing else to do.")
	segments, parts, files, err := takeAway(ctx, video)
	if err != nil {
		return err
	}
	peer, stop, err := nginxStatic(ctx, b, files)
	if err != nil {
		return err
	}
	defer stop()
	var copies []string
	for i := range segments {
		copies = append(copies, fmt.Sprintf("%s/%d.m4s", peer.address, i))
	}
	pids := func() []int { return []int{s.PID()} }
	length := pick(b, 6*time.Second, 3*time.Second)
	var ours, theirs, small []float64
	for range pick(b, 4, 2) {
		for _, m := range []struct {
			list      *[]float64
			addresses []string
			pids      func() []int
		}{{&ours, segments, pids}, {&theirs, copies, peer.pids}, {&small, parts, pids}} {
			if len(m.addresses) == 0 {
				continue
			}
			each, err := perGigabyte(ctx, length, m.addresses, m.pids)
			if err != nil {
				return err
			}
			*m.list = append(*m.list, each)
		}
	}
	b.report.bar("delivery", "CPU of a gigabyte of segments, klive / nginx static", median(ours)/median(theirs), 1.3, " ×",
		fmt.Sprintf("klive %s; nginx %s", spread(ours, " s/GB"), spread(theirs, " s/GB")))
	if len(small) > 0 {
		b.report.figure("delivery", "the same as parts of 250 ms", "%s", spread(small, " s/GB"))
	}
	return nil
}

// takeAway downloads the finished segments of a playlist. It returns their addresses, those of their parts, and files
// for the peer.
func takeAway(ctx context.Context, video string) (segments, parts []string, files map[string][]byte, err error) {
	_, text, err := harness.Get(ctx, video)
	if err != nil {
		return nil, nil, nil, err
	}
	p, err := hlscheck.ParseMedia(text)
	if err != nil {
		return nil, nil, nil, err
	}
	files = make(map[string][]byte)
	for _, seg := range p.Segments {
		address, err := resolve(video, seg.URI)
		if err != nil {
			return nil, nil, nil, err
		}
		status, body, err := harness.Get(ctx, address)
		if err != nil || status != 200 {
			return nil, nil, nil, fmt.Errorf("download %s: %d, %w", address, status, err)
		}
		files[fmt.Sprintf("%d.m4s", len(segments))] = []byte(body)
		segments = append(segments, address)
		for _, part := range seg.Parts {
			address, err := resolve(video, part.URI)
			if err != nil {
				return nil, nil, nil, err
			}
			parts = append(parts, address)
		}
	}
	if len(segments) < 3 {
		return nil, nil, nil, errors.New("fewer than three finished segments are listed")
	}
	return segments, parts, files, nil
}

// perGigabyte is the CPU of 10^9 bytes in seconds.
func perGigabyte(ctx context.Context, d time.Duration, addresses []string, pids func() []int) (float64, error) {
	before, err := harness.Usages(pids()...)
	if err != nil {
		return 0, err
	}
	_, size, err := hammer(ctx, 4, d, addresses, false)
	if err != nil {
		return 0, err
	}
	after, err := harness.Usages(pids()...)
	if err != nil {
		return 0, err
	}
	return (after.CPU - before.CPU).Seconds() / (float64(size) / 1e9), nil
}

// packages runs the benchmarks of the packet path, which need no socket, and takes their figures over.
func packages(ctx context.Context, b *bench) error {
	for _, p := range []string{"./internal/pipeline", "./internal/segment/...", "./internal/rtmp/chunk"} {
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".", "-benchmem", "-benchtime", pick(b, "1s", "100ms"), p)
		cmd.Dir = b.root
		cmd.WaitDelay = 5 * time.Second
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("benchmark %s: %w: %s", p, err, out)
		}
		for _, line := range strings.Split(string(out), "\n") {
			fields := strings.Fields(line)
			if len(fields) < 3 || !strings.HasPrefix(fields[0], "Benchmark") {
				continue
			}
			b.report.figure("packages", filepath.Base(strings.TrimSuffix(p, "/..."))+" "+strings.TrimPrefix(fields[0], "Benchmark"), "%s", strings.Join(fields[2:], " "))
		}
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/klive-media/klive/test/e2e/harness"
)

// srtPublishers is how many encoders publish over SRT at once.
const srtPublishers = 20

// logTime is how much of a stream a Log keeps by default.
const logTime = 4 * time.Second

// srtContestant is one way to take the streams in.
type srtContestant struct {
	name    string
	address string
	again   time.Duration // from the start of the load to the window, behind the first turn
	pids    func() []int
	stop    func()
	// received is how many bytes were read in this turn; it may wait a moment until there are as many as were sent.
	received func(ctx context.Context, sent int64) (int64, error)
	after    func(ctx context.Context, ids []string, frames []int) error // looks at the output; nil: there is none
	// before and grown are for memory: resident bytes without load, and the median of those in the first window. (Later on
	// what is kept of the streams of the first turn counts too.)
	before, grown int64
	cores         []float64
	sum           srtDone // of all turns
	missing       int64   // bytes sent and not received
}

// srtIngestion measures what 20 encrypted SRT publishers of 4.8 Mbit/s cost, in turns (A B C D A B C ...).
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
	b.report.note("SRT: %d publishers of %.2f Mbit/s each, AES-128, sent by github.com/datarhei/gosrt: each stream's packets of 10 ms together", srtPublishers, 8*rate)
	rounds := [][]*srtContestant{list, list[:3], list, list[:3]} // the last has no bar
	for round, among := range rounds[:pick(b, 4, 2)] {
		for _, c := range among {
			if err := c.round(ctx, b, round); err != nil {
				return fmt.Errorf("%s, turn %d: %w", c.name, round+1, err)
			}
		}
	}
	srtReport(b, list, rate)
	return nil
}

// srtReport writes down what was measured: list[0] is what the others are held against.
func srtReport(b *bench, list []*srtContestant, rate float64) {
	floor := list[0]
	sink := median(floor.cores)
	b.report.figure("srt", "srtgo: a program that only reads through libsrt", "%.1f %% of a core (%s), %.1f MB grown", 100*sink,
		spread(percent(floor.cores), " %"), float64(floor.grown-floor.before)/1e6)
	bound := math.Round(100*rate*logTime.Seconds()) / 100
	var sent string
	for _, c := range list {
		sent += fmt.Sprintf("; to %s %d packets, %d of them again, %d given up, %d bytes of %.2f GB not read", c.name, c.sum.Sent, c.sum.Again, c.sum.Dropped,
			c.missing, float64(c.sum.Bytes)/1e9)
		if c == floor {
			continue
		}
		ratio := median(c.cores) / sink
		detail := fmt.Sprintf("%.1f %% of a core; %s", 100*median(c.cores), spread(ratios(c.cores, floor.cores), ""))
		above := float64(c.grown-c.before-(floor.grown-floor.before)) / srtPublishers / 1e6
		memory := fmt.Sprintf("resident %.0f MB idle, %.0f MB with %d streams", float64(c.before)/1e6, float64(c.grown)/1e6, srtPublishers)
		switch c.name {
		case "srtdoor":
			b.report.bar("srt", "20 encrypted publishers, door and Log alone / srtgo", ratio, 1.25, " ×", detail)
			b.report.bar("srt", "memory a stream above srtgo, door and Log alone", above, bound+0.5, " MB", memory)
		case "klive":
			b.report.bar("srt", "20 encrypted publishers, klive as shipped, LL-HLS on / srtgo", ratio, 1.25, " ×", detail)
			b.report.bar("srt", "memory a stream above srtgo, klive as shipped, LL-HLS on", above, bound+0.5, " MB", memory)
		default:
			b.report.figure("srt", "20 encrypted publishers, "+c.name+" / srtgo", "%.2f × (%s), %.1f MB grown", ratio, detail, float64(c.grown-c.before)/1e6)
		}
	}
	b.report.note("The Log holds 4 s, here %.2f MB a stream; the bar of memory is that and 0.5 MB.", bound)
	b.report.note("SRT, sent in all turns%s", sent)
}

// srtLoss is which part of the bytes may be missing in a turn that counts: who reads less works less.
const srtLoss = 0.001

func (c *srtContestant) round(ctx context.Context, b *bench, round int) error {
	if c.before == 0 {
		u, err := harness.Usages(c.pids()...)
		if err != nil {
			return err
		}
		c.before = u.RSS
	}
	ids := names(fmt.Sprint(c.name, round), srtPublishers)
	p, err := b.startChild("srtpublisher", srtTask{Clip: b.clip, Host: c.address, Names: indexed(ids)})
	if err != nil {
		return err
	}
	defer p.end()
	var ok onAir
	if err := p.answer(ctx, &ok); err != nil {
		return err
	}
	warm := c.again
	if round == 0 { // as long for all: memory settles slowly
		warm = pick(b, 20*time.Second, 8*time.Second)
	}
	lost := noRoom()
	if err := wait(ctx, warm); err != nil {
		return err
	}
	cores, resident, err := c.window(ctx, pick(b, 15, 6))
	if err != nil {
		return err
	}
	c.cores = append(c.cores, cores)
	if c.grown == 0 {
		c.grown = resident
	}
	p.in.Close()
	var d srtDone
	if err := p.answer(ctx, &d); err != nil {
		return err
	}
	if d.Error != "" {
		return errors.New(d.Error)
	}
	return c.account(ctx, ids, d, noRoom()-lost)
}

// window measures some seconds: the CPU in cores, and the median of the resident bytes.
func (c *srtContestant) window(ctx context.Context, seconds int) (cores float64, resident int64, err error) {
	before, err := harness.Usages(c.pids()...)
	if err != nil {
		return 0, 0, err
	}
	began, u := time.Now(), before
	var list []float64
	for range seconds {
		if err := wait(ctx, time.Second); err != nil {
			return 0, 0, err
		}
		if u, err = harness.Usages(c.pids()...); err != nil {
			return 0, 0, err
		}
		list = append(list, float64(u.RSS))
	}
	return (u.CPU - before.CPU).Seconds() / time.Since(began).Seconds(), int64(median(list)), nil
}

// noRoom is how many datagrams a socket of this machine had no room for, since it started (RcvbufErrors of UDP).
func noRoom() (n int64) {
	b, err := os.ReadFile("/proc/net/snmp")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 5 && f[0] == "Udp:" {
			n, _ = strconv.ParseInt(f[5], 10, 64) // the second such line; the first has the names
		}
	}
	return n
}

// account holds what came against what was sent. lost is how many datagrams found no room meanwhile.
func (c *srtContestant) account(ctx context.Context, ids []string, d srtDone, lost int64) error {
	c.sum.Bytes, c.sum.Sent, c.sum.Again, c.sum.Dropped = c.sum.Bytes+d.Bytes, c.sum.Sent+d.Sent, c.sum.Again+d.Again, c.sum.Dropped+d.Dropped
	n, err := c.received(ctx, d.Bytes)
	if err != nil {
		return err
	}
	c.missing += d.Bytes - n
	if float64(d.Bytes-n) > srtLoss*float64(d.Bytes) {
		return fmt.Errorf("of %d bytes that were published %d were read; %d packets were sent again, %d given up; %d found no room in a socket: was the machine busy?",
			d.Bytes, n, d.Again, d.Dropped, lost)
	}
	if c.after == nil {
		return nil
	}
	return c.after(ctx, ids, d.Frames)
}

// Command bench measures the shipped binary over sockets on this machine, beside peers and against the limits that the
// project has set itself. Figures are ratios taken in one run; nothing here is typed in.
//
//	go run ./bench [-run REGEXP] [-short] [-o FILE]
//
// It starts everything it needs on loopback (bin/klive, nginx, its own publisher and sink), ends only what it started,
// and stops by itself: in less than a quarter of an hour, with -short in less than five minutes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/klive-media/klive/test/e2e/encoder"
	"github.com/klive-media/klive/test/e2e/harness"
)

// scenario is one group of figures.
type scenario struct {
	name  string
	bound time.Duration // it is given up after this time
	run   func(ctx context.Context, b *bench) error
}

var scenarios = []scenario{
	{"handshake", time.Minute, handshakes},
	{"firstpart", 3 * time.Minute, firstParts},
	{"playlist", 3 * time.Minute, playlistRequests},
	{"blocking", 4 * time.Minute, blockingReloads},
	{"delivery", 4 * time.Minute, delivery},
	{"ingest", 12 * time.Minute, ingestion},
	{"srt", 12 * time.Minute, srtIngestion},
	{"packages", 4 * time.Minute, packages},
}

// bench is what every scenario gets.
type bench struct {
	root   string // of the source tree
	dir    string // scratch, removed at the end
	clip   string // path of the folder with the recording
	short  bool
	report *report
}

// pick gives the long value, or the short one with -short.
func pick[T any](b *bench, long, short T) T {
	if b.short {
		return short
	}
	return long
}

// media is the recording that is published.
func (b *bench) media() (*encoder.Clip, error) { return encoder.Make(b.clip, encoder.Standard) }

func main() {
	if len(os.Args) > 1 {
		// The children: the same program in another role.
		if role, ok := roles[os.Args[1]]; ok {
			if err := role(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, "bench "+os.Args[1]+":", err)
				os.Exit(1)
			}
			return
		}
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// roles are what a child can be told to be.
var roles = map[string]func(args []string) error{
	"publisher": publisherRole,
	"sink":      sinkRole,
	"door":      doorRole,
	"nethttp":   nethttpRole,

	"srtpublisher": srtPublisherRole,
	"srtdoor":      srtDoorRole,
	"gosrt":        gosrtRole,
}

func run() (err error) {
	only := flag.String("run", "", "run only the scenarios whose name fits this regular expression")
	short := flag.Bool("short", false, "measure for a shorter time; the figures are less steady")
	out := flag.String("o", "", "also write the table as Markdown to this file, e.g. bench/results/latest.md")
	flag.Parse()
	fits, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{short: *short, report: newReport(*short)}
	if b.root, err = harness.Root(); err != nil {
		return err
	}
	b.clip = filepath.Join(b.root, "bench", ".cache")
	if b.dir, err = os.MkdirTemp("", "klive-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	clip, err := b.media()
	if err != nil {
		return err
	}
	b.report.note("stream: H.264 %s, %d frames/s, a key frame every 2 s, AAC; %.2f Mbit/s", encoder.Standard.Size, encoder.Standard.Rate, float64(clip.Bitrate())/1e6)
	for _, s := range scenarios {
		if !fits.MatchString(s.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "== %s\n", s.name)
		began := time.Now()
		bounded, cancel := context.WithTimeoutCause(ctx, s.bound, fmt.Errorf("the scenario took longer than %v", s.bound))
		err := s.run(bounded, b)
		cancel()
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil {
			b.report.failed(s.name, err)
		}
		fmt.Fprintf(os.Stderr, "   %.0f s\n", time.Since(began).Seconds())
	}
	if err := b.report.write(os.Stdout); err != nil {
		return err
	}
	if *out == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(*out), 0o755); err != nil {
		return err
	}
	f, err := os.Create(*out)
	if err != nil {
		return err
	}
	return errors.Join(b.report.write(f), f.Close())
}

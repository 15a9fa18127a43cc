// The program klive: a live media server, and its command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/klive-media/klive/internal/app"
	"github.com/klive-media/klive/internal/config"
	"github.com/klive-media/klive/internal/control/ctl"
	"github.com/klive-media/klive/internal/kaltura/cli"
	"github.com/klive-media/klive/internal/observe"
	"github.com/klive-media/klive/internal/run"
)

// version is the release this source tree becomes; the build adds the commit.
const version = "0.1.0-dev"

// The exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2 // bad usage or configuration
)

// errUsage marks errors that are the caller's.
var errUsage = errors.New("bad usage or configuration")

type commandLine struct {
	Config string `help:"Configuration file; else $KLIVE_CONFIG, ./klive.yaml, /etc/klive/klive.yaml, else defaults." type:"path" placeholder:"FILE"`

	Serve       serveCommand       `cmd:"" default:"withargs" help:"Run the server (the default)."`
	Configuring configCommand      `cmd:"" name:"config" help:"Check or print the configuration."`
	Version     versionCommand     `cmd:"" help:"Print the version."`
	Healthcheck healthcheckCommand `cmd:"" help:"Ask a running server whether it is ready; for containers."`
	Ctl         ctl.Command        `cmd:"" help:"Control a running server over gRPC."`
	Kaltura     cli.Command        `cmd:"" help:"Simulate a Kaltura backend."`
}

func main() { os.Exit(realMain(os.Args[1:], os.Stdout, os.Stderr)) }

func realMain(args []string, out, errOut io.Writer) int {
	var cli commandLine
	exited := -1
	parser, err := kong.New(&cli, kong.Name("klive"),
		kong.Description("A live media server: RTMP in, LL-HLS out, controlled over gRPC and REST."),
		kong.Writers(out, errOut), kong.UsageOnError(), kong.Exit(func(code int) { exited = code }))
	if err != nil {
		return fail(errOut, err)
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 { // --help
		return exited
	}
	if err != nil {
		return fail(errOut, fmt.Errorf("%w: %w", errUsage, err))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	parsed.BindTo(ctx, (*context.Context)(nil))
	parsed.Bind(&cli, &streams{out, errOut}, &ctl.IO{Out: out, Err: errOut})
	if err := parsed.Run(); err != nil {
		return fail(errOut, err)
	}
	return exitOK
}

func fail(w io.Writer, err error) int {
	fmt.Fprintf(w, "klive: %v\n", err)
	if errors.Is(err, errUsage) {
		return exitUsage
	}
	return exitFailure
}

type streams struct{ out, err io.Writer }

func (c *commandLine) load() (config.Loaded, error) {
	l, err := config.Load(config.Options{File: c.Config})
	if err != nil {
		return l, fmt.Errorf("%w:\n%w", errUsage, err)
	}
	return l, nil
}

type serveCommand struct{}

// Run runs the server until SIGTERM or Ctrl-C; a second one hurries.
func (serveCommand) Run(ctx context.Context, c *commandLine, to *streams) error {
	loaded, err := c.load()
	if err != nil {
		return err
	}
	logger, _, err := observe.NewLogger(observe.LogOptions{Level: loaded.Log.Level, Format: loaded.Log.Format, Output: to.err})
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	for _, w := range loaded.Warnings {
		logger.Warn(w)
	}
	hurry := make(chan struct{})
	waiting := run.New(context.Background())
	defer waiting.Stop(nil) //nolint:errcheck // it only waits for a signal
	err = waiting.Go("second signal", func(stopped context.Context) error {
		select {
		case <-ctx.Done():
		case <-stopped.Done():
			return nil
		}
		again := make(chan os.Signal, 1)
		signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		defer signal.Stop(again)
		select {
		case <-again:
			close(hurry)
		case <-stopped.Done():
		}
		return nil
	})
	if err != nil {
		return err
	}
	server, err := app.New(ctx, app.Options{Config: loaded, Version: buildVersion(), Logger: logger, Output: to.out, Hurry: hurry})
	if err != nil {
		return err
	}
	return server.Run(ctx)
}

type configCommand struct {
	Check checkCommand `cmd:"" help:"Read the configuration and say what is wrong with it."`
	Print printCommand `cmd:"" help:"Print the configuration in force, secrets masked."`
}

type checkCommand struct{}

// Run checks the configuration.
func (checkCommand) Run(c *commandLine, to *streams) error {
	l, err := c.load()
	if err != nil {
		return err
	}
	name := l.File
	if name == "" {
		name = "the built-in defaults"
	}
	_, err = fmt.Fprintf(to.out, "%s: good\n", name)
	return err
}

type printCommand struct{}

// Run prints the configuration.
func (printCommand) Run(c *commandLine, to *streams) error {
	l, err := c.load()
	if err != nil {
		return err
	}
	return l.Print(to.out)
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run(to *streams) error {
	_, err := fmt.Fprintf(to.out, "klive %s\n", buildVersion())
	return err
}

func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return version + "+" + s.Value[:12]
		}
	}
	return version
}

type healthcheckCommand struct {
	Timeout time.Duration `help:"How long to wait." default:"3s"`
}

// Run asks /readyz of the control listener that the configuration names.
func (h healthcheckCommand) Run(ctx context.Context, c *commandLine) error {
	l, err := c.load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	host, port, err := net.SplitHostPort(l.Control.HTTPListen)
	if err != nil {
		return fmt.Errorf("%w: control.http_listen: %w", errUsage, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http"
	if l.Control.TLS.Enabled() {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := healthClient(l.Control).Do(req)
	if err != nil {
		return fmt.Errorf("ask the server: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("the server is not ready: %s %s", resp.Status, body)
	}
	return nil
}

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
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/klive-media/klive/internal/config"
	"github.com/klive-media/klive/internal/control/ctl"
	"github.com/klive-media/klive/internal/kaltura/cli"
)

// version is the release this source tree becomes.
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
		kong.Description("A live media server: RTMP and SRT in, LL-HLS out, controlled over gRPC and REST."),
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
	cli.Ctl.Server = cli.grpcServer
	parsed.BindTo(ctx, (*context.Context)(nil))
	parsed.Bind(&cli, &streams{out, errOut}, &ctl.IO{Out: out, Err: errOut})
	if err := parsed.Run(); err != nil {
		return fail(errOut, err)
	}
	return exitOK
}

func fail(w io.Writer, err error) int {
	fmt.Fprintf(w, "klive: %v\n", err)
	if _, usage := errors.AsType[*ctl.UsageError](err); usage || errors.Is(err, errUsage) {
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

// grpcServer is where the configuration puts the gRPC listener.
func (c *commandLine) grpcServer() (ctl.Server, error) {
	l, err := c.load()
	if err != nil {
		return ctl.Server{}, err
	}
	address, err := reachable("control.grpc_listen", l.Control.GRPCListen)
	return ctl.Server{Address: address, TLS: l.Control.TLS.Enabled()}, err
}

// reachable is the address at which this machine reaches a listener of its own.
func reachable(key, listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", errUsage, key, err)
	}
	if port == "0" {
		return "", fmt.Errorf("%w: %s picks a free port, so its address is not known here; the server's log says it", errUsage, key)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
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
	_, err := fmt.Fprintf(to.out, "klive %s\n", version)
	return err
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
	address, err := reachable("control.http_listen", l.Control.HTTPListen)
	if err != nil {
		return err
	}
	scheme := "http"
	if l.Control.TLS.Enabled() {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+"/readyz", nil)
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

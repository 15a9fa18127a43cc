// Package harness runs the server and its real clients as child processes: bin/klive with ports and a data folder of
// its own, ffmpeg as an encoder, a browser. It waits for conditions and never for time to pass, keeps every child's
// output, and ends only what it started.
//
// Server is the type to read first.
package harness

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Options say how a server is started.
type Options struct {
	// Binary is bin/klive; empty: $E2E_SERVER, else bin/klive of this source tree.
	Binary string
	// Dir holds the configuration, the data and the output. It must exist.
	Dir string
	// Config is YAML put into the configuration file behind data_dir.
	Config string
	// Env is added to the environment.
	Env []string
	// RTMP and Media are addresses (host:port) that others were told already; empty: free ones.
	RTMP, Media string
	// Token is what the control API asks for, when Config has one.
	Token string
}

// Server is bin/klive on free ports of 127.0.0.1. The ports stay the same across restarts.
type Server struct {
	RTMP, SRT, Media, GRPC, Control string // host:port
	Dir                             string

	options Options
	config  string
	token   string
	process *Process
}

// stopTimeout is how long a graceful stop may take.
const stopTimeout = 30 * time.Second

// startTimeout is how long the server may take until it is ready.
const startTimeout = 30 * time.Second

// Launch starts a server and waits until it is ready. Where servers start at the same time one may take a port that was
// free for another a moment ago; then it tries with others.
func Launch(ctx context.Context, o Options) (*Server, error) {
	s, err := launch(ctx, o)
	for try := 1; err != nil && strings.Contains(err.Error(), "address already in use") && try < 5; try++ {
		s, err = launch(ctx, o)
	}
	return s, err
}

func launch(ctx context.Context, o Options) (*Server, error) {
	if o.Binary == "" {
		binary, err := Binary()
		if err != nil {
			return nil, err
		}
		o.Binary = binary
	}
	ports, err := freePorts(5)
	if err != nil {
		return nil, err
	}
	s := &Server{RTMP: cmp.Or(o.RTMP, ports[0]), Media: cmp.Or(o.Media, ports[1]), GRPC: ports[2], Control: ports[3], SRT: ports[4], Dir: o.Dir, options: o,
		config: filepath.Join(o.Dir, "klive.yaml"), token: o.Token}
	text := fmt.Sprintf("data_dir: %s\n%s\n", filepath.Join(o.Dir, "data"), o.Config)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return s, s.Relaunch(ctx)
}

// Relaunch starts the server again after Kill or Stop, on the same ports and data.
func (s *Server) Relaunch(ctx context.Context) error {
	cmd := exec.Command(s.options.Binary, "serve", "--config", s.config)
	cmd.Dir = s.Dir
	cmd.Env = append(environment(), "KLIVE_RTMP_LISTEN="+s.RTMP, "KLIVE_SRT_LISTEN="+s.SRT, "KLIVE_MEDIA_HTTP_LISTEN="+s.Media,
		"KLIVE_CONTROL_GRPC_LISTEN="+s.GRPC, "KLIVE_CONTROL_HTTP_LISTEN="+s.Control)
	cmd.Env = append(cmd.Env, s.options.Env...)
	p, err := StartProcess(cmd, filepath.Join(s.Dir, "klive.log"))
	if err != nil {
		return err
	}
	s.process = p
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = Until(ctx, 10*time.Millisecond, func() (bool, error) {
		if p.Ended() {
			return false, fmt.Errorf("the server ended with %w while starting", p.Err())
		}
		return s.Ready(ctx), nil
	})
	if err != nil {
		s.Kill()
		return fmt.Errorf("start the server: %w; its output ends with:\n%s", err, p.Tail(4000))
	}
	return nil
}

// environment is this process's without settings of the server: a test has its own.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "KLIVE_") })
}

// Ready asks /readyz.
func (s *Server) Ready(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Control+"/readyz", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// Stop sends SIGTERM and waits; an exit code other than 0 is an error.
func (s *Server) Stop() error {
	if s.process == nil || s.process.Ended() {
		return nil
	}
	s.process.Signal(syscall.SIGTERM)
	if !s.process.Wait(stopTimeout) {
		s.Kill()
		return fmt.Errorf("the server did not stop within %v of SIGTERM", stopTimeout)
	}
	return s.process.Err()
}

// Kill sends SIGKILL and waits for the end.
func (s *Server) Kill() {
	s.process.Signal(syscall.SIGKILL)
	s.process.Wait(stopTimeout)
}

// Alive reports whether the process runs.
func (s *Server) Alive() bool { return !s.process.Ended() }

// PID is the process id.
func (s *Server) PID() int { return s.process.PID() }

// Log is all the server wrote since its first start.
func (s *Server) Log() string { return s.process.Output() }

// LogTail is the end of Log.
func (s *Server) LogTail(n int) string { return s.process.Tail(n) }

// Play is an address on the media listener.
func (s *Server) Play(path string) string { return "http://" + s.Media + path }

// API is an address on the control HTTP listener.
func (s *Server) API(path string) string { return "http://" + s.Control + path }

// PublishURL is the short address that a stream of the catalog is published to, with an index of 1.
func (s *Server) PublishURL(id, token string) string {
	return fmt.Sprintf("rtmp://%s/kLive?t=%s/%s_1", s.RTMP, token, id)
}

// Root is the folder of the source tree.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("go.mod was not found in this folder or above")
		}
		dir = up
	}
}

// Binary is $E2E_SERVER, else bin/klive of the source tree.
func Binary() (string, error) {
	if b := os.Getenv("E2E_SERVER"); b != "" {
		return b, nil
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	b := filepath.Join(root, "bin", "klive")
	if _, err := os.Stat(b); err != nil {
		return "", fmt.Errorf("%s is not there; build it with: make build", b)
	}
	return b, nil
}

// freePorts finds n addresses on 127.0.0.1 that nobody listens on now.
func freePorts(n int) ([]string, error) {
	var list []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		list = append(list, l.Addr().String())
	}
	return list, nil
}

// FreePort finds an address on 127.0.0.1 that nobody listens on now.
func FreePort() (string, error) {
	list, err := freePorts(1)
	if err != nil {
		return "", err
	}
	return list[0], nil
}

// Port is the port of host:port.
func Port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// Until calls try every interval until it says true, fails, or ctx ends.
func Until(ctx context.Context, every time.Duration, try func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		ok, err := try()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

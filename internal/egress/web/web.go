// Package web is the HTTP listener that viewers and browsers reach: HLS, the
// player page, WHIP, WHEP and recordings hang on it as mounts. It knows none
// of them; it brings TLS, HTTP/1.1 and HTTP/2, cross-origin rules, the bound on
// viewers, deadlines and counters.
//
// Server is the type to read first. Nothing here wraps a ResponseWriter: what a
// mount writes from a file must reach the socket by sendfile.
package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/run"
)

// Limits of a connection.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 90 * time.Second
	maxHeaderBytes    = 16 << 10
	// unwantedBody is how long we read on for a body that a request announces and
	// nobody wants, before the connection is closed: long enough that what is
	// under way does not reset the answer.
	unwantedBody = time.Second
	// bodyTimeout is how long a wanted body may take.
	bodyTimeout = 10 * time.Second
	// maxStream bounds one HTTP/2 request, as a peer can keep a stream from being
	// written to without the connection looking dead.
	maxStream = 5 * time.Minute
	// grace is how long answers under way may take when the server stops.
	grace = 3 * time.Second
)

// Mount is a part of the address space and who answers for it.
type Mount struct {
	// Prefix begins the path, such as "/live/".
	Prefix string
	// Action, when not empty, is the path segment that follows the one behind
	// Prefix: "whep" with Prefix "/live/" is /live/{id}/whep and what is below.
	Action  string
	Handler http.Handler
	// MaxBody is the largest request body in bytes. A larger one fails to be read
	// as with http.MaxBytesReader, and one that takes longer than 10 s ends the
	// request. 0: the mount wants none; a request that announces one anyway is
	// answered, and its connection closed.
	MaxBody int64
	// Viewers: who asks here is a viewer and counts towards Options.MaxViewers.
	Viewers bool
	// Methods are allowed from pages of other origins, such as "GET, HEAD";
	// Headers are the request headers they may send, Expose the response headers
	// they may read beyond the safe ones. All are comma-separated.
	Methods, Headers, Expose string
}

// matches reports whether the mount answers for path.
func (m *Mount) matches(path string) bool {
	rest, ok := strings.CutPrefix(path, m.Prefix)
	if !ok || m.Action == "" {
		return ok
	}
	_, rest, ok = strings.Cut(rest, "/")
	if !ok {
		return false
	}
	action, _, _ := strings.Cut(rest, "/")
	return action == m.Action
}

// Options are what a Server needs.
type Options struct {
	// Listen is a TCP address; port 0 picks a free one, see Server.Addr.
	Listen string
	// CertFile and KeyFile are PEM files; both empty serve clear text.
	CertFile, KeyFile string
	// CORSOrigins are the web origins whose pages may use the listener; "*" is
	// every one. None send no CORS headers.
	CORSOrigins []string
	// MaxViewers bounds the connections of viewers; 0 is no limit.
	MaxViewers int
	// Mounts are asked in order; the first that matches answers.
	Mounts []Mount
	Log    *slog.Logger
}

// Server is the listener.
type Server struct {
	mounts     []mount
	maxViewers int64
	log        *slog.Logger
	listener   net.Listener
	tls        bool
	http       *http.Server
	stats      Stats
}

type mount struct {
	Mount
	cors cors
}

// Stats are the listener's gauges and counters.
type Stats struct {
	connections, viewers      atomic.Int64
	accepted, refused, panics atomic.Uint64
	bytes                     atomic.Uint64
}

// Connections is the number of open connections.
func (s *Stats) Connections() int { return int(s.connections.Load()) }

// Viewers is the number of open connections that asked for something to watch.
// A browser opens up to six over HTTP/1.1 and one over HTTP/2.
func (s *Stats) Viewers() int { return int(s.viewers.Load()) }

// Accepted is the number of connections since start.
func (s *Stats) Accepted() uint64 { return s.accepted.Load() }

// Refused is the number of requests refused because of MaxViewers.
func (s *Stats) Refused() uint64 { return s.refused.Load() }

// Panics is the number of requests that ended in a panic.
func (s *Stats) Panics() uint64 { return s.panics.Load() }

// Bytes is the number of bytes written to sockets, headers and TLS included.
func (s *Stats) Bytes() uint64 { return s.bytes.Load() }

// Listen opens the listener. Run serves it and closes it.
func Listen(ctx context.Context, o Options) (*Server, error) {
	s := &Server{maxViewers: int64(o.MaxViewers), log: o.Log, tls: o.CertFile != ""}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, m := range o.Mounts {
		s.mounts = append(s.mounts, mount{Mount: m, cors: newCORS(o.CORSOrigins, m)})
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		Protocols:         &protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 128, SendPingTimeout: 20 * time.Second, PingTimeout: 15 * time.Second, WriteByteTimeout: stallAfter,
		},
		ConnContext: withConn,
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	if s.tls {
		certificate, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificate of media_http.tls: %w", err)
		}
		s.http.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("open the media HTTP listener: %w", err)
	}
	s.listener = &listener{Listener: l, server: s}
	return s, nil
}

// Addr is the address the listener has.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close closes a listener that was never run.
func (s *Server) Close() { _ = s.listener.Close() }

// Stats returns the listener's counters.
func (s *Server) Stats() *Stats { return &s.stats }

// Run serves until ctx ends. Requests that wait are then told so at once;
// answers under way get a short grace.
func (s *Server) Run(ctx context.Context) error {
	requests, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	s.http.BaseContext = func(net.Listener) context.Context { return requests }
	g := run.New(context.WithoutCancel(ctx))
	serve := func(context.Context) error {
		var err error
		if s.tls {
			err = s.http.ServeTLS(s.listener, "", "")
		} else {
			err = s.http.Serve(s.listener)
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve media HTTP: %w", err)
	}
	if err := g.Go("media http", serve); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-g.Context().Done():
	}
	stop(errStopping)
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if s.http.Shutdown(limit) != nil {
		_ = s.http.Close() // what is left took longer than the grace
	}
	return g.Wait()
}

var errStopping = errors.New("the server is stopping")

// ServeHTTP finds the mount and lets it answer.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.recover(r)
	m := s.find(r.URL.Path)
	boundBody(w, r, m)
	if m == nil {
		s.serveElsewhere(w, r)
		return
	}
	if m.cors.apply(w, r) {
		return
	}
	if r.ProtoMajor == 2 {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(maxStream))
	}
	if m.Viewers && !s.admit(r) {
		s.stats.refused.Add(1)
		h := w.Header()
		h.Set("Connection", "close")
		h.Set("Retry-After", "5")
		answer(w, r, http.StatusServiceUnavailable, "This server serves as many viewers as it is allowed to; try again later.")
		return
	}
	m.Handler.ServeHTTP(w, r)
}

// boundBody bounds the request's body in size and time: net/http reads what a
// handler leaves of it, without any deadline of its own.
func boundBody(w http.ResponseWriter, r *http.Request, m *mount) {
	if r.ContentLength == 0 { // -1 is an unknown length
		return
	}
	limit := bodyTimeout
	if m == nil || m.MaxBody == 0 {
		limit = unwantedBody
		if r.ProtoMajor == 1 { // HTTP/2 resets the stream
			w.Header().Set("Connection", "close")
		}
	} else {
		r.Body = http.MaxBytesReader(w, r.Body, m.MaxBody)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(limit)) // not supported is a test's writer
}

func (s *Server) find(path string) *mount {
	for i := range s.mounts {
		if s.mounts[i].matches(path) {
			return &s.mounts[i]
		}
	}
	return nil
}

// admit reports whether the request's connection is within MaxViewers.
func (s *Server) admit(r *http.Request) bool {
	c, ok := r.Context().Value(connKey{}).(*conn)
	return !ok || c.admit()
}

// recover logs a panic of a mount and ends the connection with it.
func (s *Server) recover(r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v != http.ErrAbortHandler { //nolint:errorlint // a sentinel that net/http compares in the same way
		s.stats.panics.Add(1)
		s.log.Error("a request ended in a panic", "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
	}
	panic(http.ErrAbortHandler)
}

// serveElsewhere answers where nothing is mounted.
func (s *Server) serveElsewhere(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/" {
		answer(w, r, http.StatusOK, "This is a kLive media server. The player page of a stream is at /live/{id}/, its HLS playlist at /live/{id}/index.m3u8.")
		return
	}
	answer(w, r, http.StatusNotFound, "Nothing is at this address; the player page of a stream is at /live/{id}/.")
}

func answer(w http.ResponseWriter, r *http.Request, status int, sentence string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = fmt.Fprintln(w, sentence)
	}
}

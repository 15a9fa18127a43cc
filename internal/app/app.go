// Package app puts the server together: it makes every part from the
// configuration, hands each the small interfaces it needs of the others, runs
// them in a declared order and stops them in its reverse.
//
// Server is the type to read first.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/catalog"
	"github.com/klive-media/klive/internal/config"
	"github.com/klive-media/klive/internal/control"
	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/egress/hls"
	"github.com/klive-media/klive/internal/egress/record"
	"github.com/klive-media/klive/internal/egress/web"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/kaltura"
	"github.com/klive-media/klive/internal/observe"
	"github.com/klive-media/klive/internal/pipeline"
	"github.com/klive-media/klive/internal/segment"
	"github.com/klive-media/klive/internal/store"
	"github.com/klive-media/klive/internal/stream"
)

// Options are what a Server is made from.
type Options struct {
	Config  config.Loaded
	Version string
	Logger  *slog.Logger
	// Output gets the addresses of the first start, which hold a token and so
	// never go through the logger.
	Output io.Writer
	// Outputs are run for every broadcast, beside those that the configuration
	// asks for.
	Outputs []egress.Output
	// Hurry, when closed, ends a drain at once.
	Hurry <-chan struct{}
}

// Server is a whole kLive server.
type Server struct {
	opts   Options
	cfg    config.Config
	log    *slog.Logger
	start  time.Time
	health *observe.Health

	store     *store.Store
	events    *stream.EventLog
	catalog   *catalog.Catalog // nil behind a Kaltura backend
	bridge    *kaltura.Bridge  // nil without one
	shelves   *segment.DiskStore
	recorder  *record.Recorder
	outputs   []egress.Output
	registry  *stream.Registry
	playlists *hls.Handler
	media     *web.Server
	control   *control.Server
	doors     []door
	metrics   *observe.Registry
	listeners []control.Listener
	grammar   ingest.Grammar

	closers []func() // what New opened, for a start that fails
}

// door is one way in: its name and the server behind it.
type door struct {
	name   string
	server ingest.Server
}

// events kept by the journal.
var eventBounds = store.Bounds{Count: 100_000, Bytes: 128 << 20, Age: 90 * 24 * time.Hour}

// application is the RTMP application of broadcast addresses.
const application = "kLive"

// garbagePercent is lower than Go's own 100: nearly all of the heap is media
// bytes, which hold no pointers and cost nothing to mark, so collecting more
// often is cheap and the memory of a stream is close to what it holds. See
// docs/adr/0009-garbage-collection.md for the measurement.
const garbagePercent = 40

// New makes the server: it opens the store, binds every listener and recovers
// what is on disk. Run it, or Close it.
func New(ctx context.Context, o Options) (*Server, error) {
	s := &Server{
		opts: o, cfg: o.Config.Config, log: o.Logger, start: time.Now(),
		health: observe.NewHealth(), metrics: observe.NewRegistry(observe.Build{Version: o.Version}),
	}
	// A GOGC of the operator's own stays.
	if was := debug.SetGCPercent(garbagePercent); was != 100 {
		debug.SetGCPercent(was)
	}
	for _, part := range []func(context.Context) error{
		s.openStore, s.openAuthority, s.openShelves, s.openRecorder, s.openRegistry, s.openDoors, s.openMedia, s.openControl,
	} {
		if err := part(ctx); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// Close releases what New opened; not needed after Run.
func (s *Server) Close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
	s.closers = nil
}

func (s *Server) openStore(ctx context.Context) error {
	if err := os.MkdirAll(s.cfg.DataDir, 0o750); err != nil {
		return fmt.Errorf("make data_dir: %w", err)
	}
	var err error
	if s.store, err = store.Open(ctx, store.Options{Dir: filepath.Join(s.cfg.DataDir, "store"), Logger: s.log}); err != nil {
		return err
	}
	s.closers = append(s.closers, s.store.Close)
	s.health.AddReady("store", s.store.Check)

	entries, err := s.store.Journal(ctx, "events", eventBounds)
	if err != nil {
		return err
	}
	s.events, err = stream.NewEventLog(ctx, entries, s.log)
	return err
}

// openAuthority makes who decides about publishers: the backend or the
// catalog, never both.
func (s *Server) openAuthority(ctx context.Context) error {
	if s.bridged() {
		return s.openBridge(ctx)
	}
	s.grammar = ingest.CatalogGrammar(application)
	declared := make([]catalog.Declared, 0, len(s.cfg.Streams))
	for _, d := range s.cfg.Streams {
		declared = append(declared, catalog.Declared{
			ID: d.ID, Token: d.Token.Reveal(), Partner: d.Partner, Passphrase: d.SRTPassphrase.Reveal(),
		})
	}
	var err error
	s.catalog, err = catalog.Open(ctx, catalog.Options{Store: s.store, Declared: declared, Logger: s.log})
	return err
}

// authority decides about publishers.
func (s *Server) authority() stream.Authority {
	if s.bridged() {
		return s.bridge.Authority()
	}
	return s.catalog
}

// entries are the streams of the authority.
func (s *Server) entries() stream.Entries {
	if s.bridged() {
		return s.bridge.Entries()
	}
	return s.catalog
}

// reconnectWindow is how long a broadcast waits for its publisher.
func (s *Server) reconnectWindow() time.Duration {
	if s.bridged() {
		return s.cfg.Kaltura.ReconnectWindow
	}
	return s.cfg.Limits.ReconnectWindow
}

func (s *Server) openShelves(context.Context) error {
	o := segment.Options{
		Dir:             filepath.Join(s.cfg.DataDir, "live"),
		SegmentDuration: s.cfg.HLS.SegmentDuration,
		PartDuration:    s.cfg.HLS.PartDuration,
		Window:          s.cfg.HLS.Window,
		ReconnectWindow: s.reconnectWindow(),
	}
	if s.bridged() {
		o.Mark = markSegment
	}
	var err error
	s.shelves, err = segment.NewStore(o)
	if err != nil {
		return fmt.Errorf("open the segment store: %w", err)
	}
	for _, err := range s.shelves.Damage() {
		s.log.Warn("segments on disk could not be read and are left out", "error", err)
	}
	return nil
}

func (s *Server) openRegistry(ctx context.Context) error {
	s.outputs = append(s.outputs, s.opts.Outputs...)
	s.registry = stream.NewRegistry(stream.Options{
		Authority: s.authority(), Store: s.shelves, Journal: s.events, Outputs: s.outputs, Logger: s.log,
		Limits: stream.Limits{
			ReconnectWindow: s.reconnectWindow(),
			TakeoverAfter:   s.cfg.Limits.TakeoverAfter,
			IdleTimeout:     s.cfg.Limits.IdleTimeout,
			MaxStreams:      s.cfg.Limits.MaxStreams,
			Log:             pipeline.Bounds{Bytes: int(s.cfg.Limits.LogBytes), Time: s.cfg.Limits.LogDuration},
		},
	})
	if s.bridged() {
		return s.attachBridge(ctx)
	}
	return nil
}

// listen binds a TCP listener, and notes it for the API and the banner.
func (s *Server) listen(ctx context.Context, name, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", name, err)
	}
	s.closers = append(s.closers, func() { _ = l.Close() })
	s.listened(name, l.Addr())
	return l, nil
}

func (s *Server) listened(name string, addr net.Addr) {
	s.listeners = append(s.listeners, control.Listener{Name: name, Network: addr.Network(), Address: addr.String()})
	s.log.Info("listening", "listener", name, "address", addr.String())
}

func (s *Server) openControl(context.Context) error {
	authenticator, err := s.authenticator()
	if err != nil {
		return err
	}
	tlsConfig, err := controlTLS(s.cfg.Control.TLS)
	if err != nil {
		return err
	}
	s.collectStreams()
	mounts := []control.Mount{
		{Path: "/livez", Title: "Liveness", Handler: s.health.Livez()},
		{Path: "/readyz", Title: "Readiness", Handler: s.health.Readyz()},
		{Path: "/startupz", Title: "Startup", Handler: s.health.Startupz()},
	}
	if s.cfg.Telemetry.Metrics {
		mounts = append(mounts, control.Mount{Path: "/metrics", Title: "Metrics", Role: auth.Viewer, Handler: s.metrics.Handler()})
	}
	o := control.Options{
		GRPCListen: s.cfg.Control.GRPCListen, HTTPListen: s.cfg.Control.HTTPListen, TLS: tlsConfig,
		Authenticator: authenticator,
		Entries:       s.entries(), Live: s.registry, Journal: s.events, Node: (*node)(s), Addresses: (*addresses)(s),
		Recordings: s.recorder, Mounts: append(mounts, s.diagnostics()...), Logger: s.log, Metrics: s.metrics,
	}
	if s.bridged() {
		o.Bridge, o.Deliveries = s.bridge, s.bridge.Deliveries()
	}
	s.control, err = control.New(o)
	if err != nil {
		return fmt.Errorf("start the control API: %w", err)
	}
	s.closers = append(s.closers, s.control.Close)
	s.listened("grpc", s.control.GRPCAddr())
	s.listened("control-http", s.control.HTTPAddr())
	return nil
}

func (s *Server) authenticator() (auth.Authenticator, error) {
	var a auth.Authenticator
	tokens := make([]auth.Token, 0, len(s.cfg.Auth.Tokens))
	for _, t := range s.cfg.Auth.Tokens {
		role, err := auth.ParseRole(string(t.Role))
		if err != nil {
			return a, fmt.Errorf("auth.tokens %q: %w", t.Name, err)
		}
		tokens = append(tokens, auth.Token{Name: t.Name, Secret: t.Token.Reveal(), Role: role})
	}
	var verifiers auth.Chain
	if len(tokens) > 0 {
		known, err := auth.NewTokens(tokens)
		if err != nil {
			return a, fmt.Errorf("auth.tokens: %w", err)
		}
		verifiers = append(verifiers, known)
	}
	if s.cfg.Control.TLS.ClientCA != "" {
		a.Certificates = &auth.Certificates{}
	}
	// Control that only this machine reaches stays open where nothing else is
	// configured, as it is without a backend.
	if s.bridged() && (len(tokens) > 0 || a.Certificates != nil || s.cfg.ControlExposed()) {
		verifiers = append(verifiers, s.bridge.Verifier())
	}
	if len(verifiers) > 0 {
		a.Tokens = verifiers
	}
	return a, nil
}

// errDrain is why nobody is let in while the server drains.
var errDrain = fault.New(fault.ServerDraining, "the server takes no new streams because it is about to stop; use another server or try again in a moment")

// ErrStopped is the cause of a stop that was asked for.
var ErrStopped = errors.New("stop was asked for")

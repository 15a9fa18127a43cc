package control

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/test/bufconn"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/run"
)

// The bounds of a gRPC connection.
const (
	maxConcurrentCalls = 250 // of one connection
	keepaliveEvery     = 30 * time.Second
	keepaliveTimeout   = 20 * time.Second
	keepaliveLeast     = 10 * time.Second // a client may ping this often
	inProcessBuffer    = 256 << 10        // bytes between gateway and server
)

// Server serves the control API. It is made by New and lives in Run.
type Server struct {
	options Options
	board   *board
	watches *watches
	health  *health.Server

	grpcListener, httpListener net.Listener

	outside  *grpc.Server // the gRPC listener
	inside   *grpc.Server // what the gateway calls
	pipe     *bufconn.Listener
	conn     *grpc.ClientConn
	frontend *http.Server

	serving    context.Context //nolint:containedctx // the time in which streams may run; not a caller's
	endServing context.CancelCauseFunc
}

// New checks the options and binds both listeners, so that the addresses are
// known and a taken port fails the start. The caller must Run or Close it.
func New(o Options) (*Server, error) {
	o.setDefaults()
	switch {
	case o.Entries == nil || o.Live == nil || o.Journal == nil || o.Node == nil || o.Addresses == nil:
		return nil, errors.New("make the control server: Entries, Live, Journal, Node and Addresses must be set")
	case !o.Authenticator.Configured() && !isLoopbackAddress(o.GRPCListen):
		return nil, errOpenListener("control.grpc_listen", o.GRPCListen)
	case !o.Authenticator.Configured() && !isLoopbackAddress(o.HTTPListen):
		return nil, errOpenListener("control.http_listen", o.HTTPListen)
	}
	s := &Server{
		options: o,
		board:   newBoard(o.Entries, o.Live, rand.Text()[:8]),
		watches: &watches{heartbeat: o.Heartbeat, most: int64(o.MaxWatches)},
		health:  health.NewServer(),
		pipe:    bufconn.Listen(inProcessBuffer),
	}
	s.serving, s.endServing = context.WithCancelCause(context.Background())
	if err := s.build(); err != nil {
		s.Close()
		return nil, err
	}
	if err := s.bind(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func errOpenListener(key, address string) error {
	return fmt.Errorf("%s is %s, which other machines can reach, and no authentication is configured: set auth.tokens, or control.tls with client_ca, or listen on 127.0.0.1", key, address)
}

// build makes both gRPC servers, the gateway between them and the HTTP server.
func (s *Server) build() error {
	o := &s.options
	metrics := newCallMetrics(o.Metrics, s.watches)
	creds := insecure.NewCredentials()
	if o.TLS != nil {
		creds = credentials.NewTLS(o.TLS.Clone())
	}
	s.outside = s.newGRPC(&door{identifyPeer(o.Authenticator), s.serving, metrics, o.Logger}, grpc.Creds(creds))
	s.inside = s.newGRPC(&door{identifyGateway, s.serving, metrics, o.Logger})
	healthv1.RegisterHealthServer(s.outside, s.health)
	reflection.Register(s.outside)

	var err error
	s.conn, err = grpc.NewClient("passthrough:///control",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.pipe.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return fmt.Errorf("connect the gateway: %w", err)
	}
	gateway, err := newGateway(context.Background(), s.conn)
	if err != nil {
		return fmt.Errorf("register the gateway: %w", err)
	}
	s.frontend = &http.Server{
		Handler:           routes(o, o.Node.Info().Version, gateway),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       keepAliveIdle,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
		// No WriteTimeout: it would end every watch.
	}
	if o.TLS != nil {
		s.frontend.TLSConfig = o.TLS.Clone()
	}
	return nil
}

func (s *Server) newGRPC(d *door, more ...grpc.ServerOption) *grpc.Server {
	server := grpc.NewServer(append([]grpc.ServerOption{
		grpc.UnaryInterceptor(d.unary),
		grpc.StreamInterceptor(d.stream),
		grpc.UnknownServiceHandler(unknownMethod),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxConcurrentCalls),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(headerTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveEvery, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveLeast, PermitWithoutStream: true}),
	}, more...)...)
	o := &s.options
	klivev1.RegisterStreamServiceServer(server, &streamService{
		entries: o.Entries, live: o.Live, journal: o.Journal, addresses: o.Addresses, board: s.board, watches: s.watches,
	})
	klivev1.RegisterSessionServiceServer(server, &sessionService{entries: o.Entries, live: o.Live})
	klivev1.RegisterRecordingServiceServer(server, &recordingService{
		entries: o.Entries, live: o.Live, recordings: o.Recordings, deliveries: o.Deliveries,
	})
	klivev1.RegisterKalturaBridgeServiceServer(server, &kalturaBridgeService{bridge: o.Bridge, deliveries: o.Deliveries})
	klivev1.RegisterNodeServiceServer(server, &nodeService{node: o.Node, entries: o.Entries, live: o.Live})
	klivev1.RegisterEventServiceServer(server, &eventService{journal: o.Journal, watches: s.watches})
	return server
}

func (s *Server) bind() (err error) {
	if s.grpcListener, err = net.Listen("tcp", s.options.GRPCListen); err != nil {
		return fmt.Errorf("listen for gRPC on control.grpc_listen: %w", err)
	}
	if s.httpListener, err = net.Listen("tcp", s.options.HTTPListen); err != nil {
		return fmt.Errorf("listen for HTTP on control.http_listen: %w", err)
	}
	return nil
}

// GRPCAddr is the bound address of the gRPC listener.
func (s *Server) GRPCAddr() net.Addr { return s.grpcListener.Addr() }

// HTTPAddr is the bound address of the HTTP listener.
func (s *Server) HTTPAddr() net.Addr { return s.httpListener.Addr() }

// Close releases what New took. Run closes by itself.
func (s *Server) Close() {
	s.endServing(nil)
	for _, listener := range []net.Listener{s.grpcListener, s.httpListener, s.pipe} {
		if listener != nil {
			_ = listener.Close() // closing twice is fine
		}
	}
	if s.conn != nil {
		_ = s.conn.Close() // it was never used, or Run has said all
	}
}

// Run serves until ctx ends, then lets running calls finish within
// StopTimeout, tells watches that the server stops, and returns. It returns an
// error only when a listener failed.
func (s *Server) Run(ctx context.Context) error {
	s.setHealth(healthv1.HealthCheckResponse_SERVING)
	s.options.Logger.Debug("control is listening",
		slog.String("grpc", s.GRPCAddr().String()), slog.String("http", s.HTTPAddr().String()),
		slog.Bool("tls", s.options.TLS != nil), slog.Bool("authentication", s.options.Authenticator.Configured()))
	err := s.runInner(ctx)
	s.Close()
	s.options.Logger.Info("control is closed", slog.Any("cause", context.Cause(ctx)))
	return err
}

func (s *Server) runInner(ctx context.Context) error {
	// The servers must outlive ctx: they end in the order of stop.
	group := run.New(context.WithoutCancel(ctx))
	for name, serve := range map[string]func(context.Context) error{
		"control grpc":    func(context.Context) error { return serveGRPC(s.outside, s.grpcListener) },
		"control gateway": func(context.Context) error { return serveGRPC(s.inside, s.pipe) },
		"control http":    func(context.Context) error { return s.serveHTTP() },
		"control board":   s.board.run,
		"control health":  s.followDrain,
	} {
		if err := group.Go(name, serve); err != nil {
			break // one of those before has failed; Stop below tells
		}
	}
	select {
	case <-ctx.Done():
	case <-group.Context().Done():
	}
	s.stop()
	return group.Stop(nil)
}

// serveGRPC leaves out the error of a server that was stopped before it began.
func serveGRPC(server *grpc.Server, listener net.Listener) error {
	if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

func (s *Server) serveHTTP() error {
	var err error
	if s.options.TLS != nil {
		err = s.frontend.ServeTLS(s.httpListener, "", "")
	} else {
		err = s.frontend.Serve(s.httpListener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// followDrain turns health to NOT_SERVING when the node begins to drain.
func (s *Server) followDrain(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-s.options.Node.Draining():
		s.setHealth(healthv1.HealthCheckResponse_NOT_SERVING)
	}
	return nil
}

func (s *Server) setHealth(status healthv1.HealthCheckResponse_ServingStatus) {
	s.health.SetServingStatus("", status)
	for name := range s.outside.GetServiceInfo() {
		s.health.SetServingStatus(name, status)
	}
}

// stop ends the servers: watches first, for they would not end by themselves,
// then running calls, then whoever is still there after the deadline.
func (s *Server) stop() {
	s.health.Shutdown()
	s.endServing(fault.New(fault.ServerDraining, "the server is stopping; try again when it is back"))
	ctx, cancel := context.WithTimeout(context.Background(), s.options.StopTimeout)
	defer cancel()
	hurry := context.AfterFunc(ctx, func() {
		s.outside.Stop()
		s.inside.Stop()
	})
	defer hurry()
	if err := s.frontend.Shutdown(ctx); err != nil {
		_ = s.frontend.Close() // the deadline is over; whoever is left is cut off
	}
	s.outside.GracefulStop()
	s.inside.GracefulStop()
}

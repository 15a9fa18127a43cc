package control

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/observe"
)

// The bounds of a call.
const (
	maxMessage  = 1 << 20          // bytes of a request
	callTimeout = 30 * time.Second // of a call that is no watch, whatever its caller allows
)

// callMetrics counts calls; nil counts nothing.
type callMetrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	lost    *prometheus.CounterVec
}

func newCallMetrics(r *observe.Registry, w *watches) *callMetrics {
	if r == nil {
		return nil
	}
	r.GaugeFunc("control_watches", "Watches of the control API that are open.", func() float64 { return float64(w.open.Load()) })
	return &callMetrics{
		calls:   r.Counter("control_calls_total", "Calls of the control API that ended, by method and code.", observe.LabelMethod, observe.LabelCode),
		seconds: r.Histogram("control_call_seconds", "How long calls of the control API took, watches left out.", []float64{.001, .005, .025, .1, .5, 2, 10}, observe.LabelMethod),
		lost:    r.Counter("control_watches_lost_total", "Watches that were told to list again, by method.", observe.LabelMethod),
	}
}

// door is what stands before every call of one gRPC server: it finds out who
// calls, checks the role, bounds the time, catches panics, turns errors into
// statuses, counts and logs.
type door struct {
	who     identify
	serving context.Context //nolint:containedctx // ends when the server stops, and every stream with it
	metrics *callMetrics
	logger  *slog.Logger
}

func (d *door) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (response any, err error) {
	c := call{door: d, method: info.FullMethod, resource: resourceOf(request), begin: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = protect(func() error {
		var err error
		if ctx, err = admit(ctx, info.FullMethod, d.who); err != nil {
			return err
		}
		response, err = handle(ctx, request)
		return err
	})
	return response, c.end(ctx, err)
}

func (d *door) stream(service any, s grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	c := call{door: d, method: info.FullMethod, begin: time.Now(), stream: true}
	// Streams do not end by themselves, so the server's end is theirs.
	ctx, cancel := context.WithCancelCause(s.Context())
	defer cancel(nil)
	defer context.AfterFunc(d.serving, func() { cancel(context.Cause(d.serving)) })()
	err := protect(func() error {
		var err error
		if ctx, err = admit(ctx, info.FullMethod, d.who); err != nil {
			return err
		}
		return handle(service, &streamWithContext{s, ctx})
	})
	return c.end(ctx, err)
}

// streamWithContext carries the principal into the handler of a stream.
type streamWithContext struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // gRPC hands a stream's context over this way
}

func (s *streamWithContext) Context() context.Context { return s.ctx }

// call is one call on its way out.
type call struct {
	door     *door
	method   string
	resource string
	begin    time.Time
	stream   bool
}

// end turns the error into a status, counts the call and writes its line.
func (c *call) end(ctx context.Context, err error) error {
	s := statusOf(err)
	code := s.Code() // OK for nil
	elapsed := time.Since(c.begin)
	if m := c.door.metrics; m != nil {
		method := c.method
		if _, known := access[method]; !known {
			method = "unknown" // a caller may make up any
		}
		m.calls.WithLabelValues(method, code.String()).Inc()
		if !c.stream {
			m.seconds.WithLabelValues(method).Observe(elapsed.Seconds())
		}
		if reasonIn(s) == string(fault.WatchLost) {
			m.lost.WithLabelValues(method).Inc()
		}
	}
	c.log(ctx, s, err, elapsed)
	return s.Err()
}

// log writes one line a call: changes at info, reads at debug, our own
// failures at error with the cause that the caller is not told.
func (c *call) log(ctx context.Context, s *status.Status, err error, elapsed time.Duration) {
	level := slog.LevelDebug
	if needs(c.method) == auth.Admin {
		level = slog.LevelInfo
	}
	attributes := []slog.Attr{
		slog.String("method", c.method),
		slog.String("code", s.Code().String()),
		slog.Duration("elapsed", elapsed),
	}
	if p := auth.FromContext(ctx); p.Name != "" {
		attributes = append(attributes, slog.String("principal", p.Name))
	}
	if c.resource != "" {
		attributes = append(attributes, slog.String("resource", c.resource))
	}
	if s.Code() != codes.OK {
		attributes = append(attributes, slog.String("reason", reasonIn(s)), slog.String("message", s.Message()))
	}
	switch s.Code() {
	case codes.Internal, codes.Unknown, codes.DataLoss:
		level = slog.LevelError
		attributes = append(attributes, slog.Any("error", err))
		if p, ok := err.(*panicked); ok { //nolint:errorlint // protect returns it bare
			attributes = append(attributes, slog.String("stack", string(p.stack)))
		}
	}
	c.door.logger.LogAttrs(ctx, level, "control call ended", attributes...)
}

// panicked is the error of a handler that panicked: the call fails, the server
// goes on.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("the handler panicked: %v", p.value) }

func protect(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicked{v, debug.Stack()}
		}
	}()
	return fn()
}

// resourceOf is the name a request is about, for the log.
func resourceOf(request any) string {
	switch r := request.(type) {
	case interface{ GetName() string }:
		return shorten(r.GetName())
	case interface{ GetParent() string }:
		return shorten(r.GetParent())
	case interface{ GetStreamId() string }:
		return shorten(streamName(r.GetStreamId()))
	}
	return ""
}

// unknownMethod answers calls of methods that do not exist.
func unknownMethod(_ any, s grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(s)
	return status.Errorf(codes.Unimplemented, "the API has no method %s", shorten(strings.ToValidUTF8(method, "?")))
}

package control

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/types/known/emptypb"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/observe"
)

func contextWithCancel() (context.Context, context.CancelFunc) {
	return context.WithCancel(context.Background())
}

func TestEveryMethodHasARole(t *testing.T) {
	s := start(t, newHouse().options())
	served := map[string]bool{}
	for service, info := range s.outside.GetServiceInfo() {
		for _, m := range info.Methods {
			method := "/" + service + "/" + m.Name
			require.Contains(t, access, method)
			served[method] = true
		}
	}
	for method := range access {
		require.True(t, served[method], "%s is in the table and not served", method)
	}
	require.Equal(t, auth.Admin, needs("/made.up/Method"))
}

func TestRolesOverGRPC(t *testing.T) {
	h := newHouse()
	o := h.options()
	o.Authenticator = twoTokens(t)
	s := start(t, o)
	conn := dial(t, s)
	client := klivev1.NewStreamServiceClient(conn)
	as := func(token string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	}
	_, err := client.ListStreams(t.Context(), &klivev1.ListStreamsRequest{})
	requireFault(t, err, codes.Unauthenticated, fault.NotAuthenticated)
	_, err = client.ListStreams(as("nope"), &klivev1.ListStreamsRequest{})
	requireFault(t, err, codes.Unauthenticated, fault.NotAuthenticated)
	_, err = client.ListStreams(as("look"), &klivev1.ListStreamsRequest{})
	require.NoError(t, err)
	_, err = client.CreateStream(as("look"), &klivev1.CreateStreamRequest{StreamId: "a"})
	require.Equal(t, "viewer", requireFault(t, err, codes.PermissionDenied, fault.NotAllowed)["role"])
	_, err = client.CreateStream(as("s3cret"), &klivev1.CreateStreamRequest{StreamId: "a"})
	require.NoError(t, err)
	require.Equal(t, "ops", h.events[0].Facts["principal"])

	// The metadata of our own gateway is nothing when it comes from outside.
	forged := metadata.AppendToOutgoingContext(t.Context(), principalRole, "admin", principalName, "me")
	_, err = client.ListStreams(forged, &klivev1.ListStreamsRequest{})
	requireFault(t, err, codes.Unauthenticated, fault.NotAuthenticated)

	watch, err := client.WatchStreams(t.Context(), &klivev1.WatchStreamsRequest{})
	require.NoError(t, err)
	_, err = watch.Recv()
	requireFault(t, err, codes.Unauthenticated, fault.NotAuthenticated)

	// Health is for probes, which have no token.
	_, err = healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
}

func TestHealthReflectionAndUnknownMethods(t *testing.T) {
	h := newHouse()
	s := start(t, h.options())
	conn := dial(t, s)
	health := healthv1.NewHealthClient(conn)
	watch, err := health.Watch(t.Context(), &healthv1.HealthCheckRequest{Service: "klive.v1.StreamService"})
	require.NoError(t, err)
	for want := healthv1.HealthCheckResponse_SERVICE_UNKNOWN; want != healthv1.HealthCheckResponse_SERVING; {
		got, err := watch.Recv()
		require.NoError(t, err)
		want = got.GetStatus()
	}
	drained, err := klivev1.NewNodeServiceClient(conn).DrainNode(t.Context(), &klivev1.DrainNodeRequest{Name: "node"})
	require.NoError(t, err)
	require.Equal(t, klivev1.NodeState_NODE_STATE_DRAINING, drained.GetState())
	got, err := watch.Recv()
	require.NoError(t, err)
	require.Equal(t, healthv1.HealthCheckResponse_NOT_SERVING, got.GetStatus())

	reflection, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	require.NoError(t, reflection.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}))
	answer, err := reflection.Recv()
	require.NoError(t, err)
	require.Contains(t, answer.String(), "klive.v1.EventService")

	err = conn.Invoke(t.Context(), "/klive.v1.StreamService/PaintStream", &emptypb.Empty{}, &emptypb.Empty{})
	requireFault(t, err, codes.Unimplemented, fault.UnknownMethod)
	_, err = klivev1.NewStreamServiceClient(conn).CreateStream(t.Context(), &klivev1.CreateStreamRequest{StreamId: strings.Repeat("x", maxMessage)})
	require.Equal(t, codes.ResourceExhausted, codeOf(err))
}

func codeOf(err error) codes.Code { return statusOf(err).Code() }

func TestStoreTrouble(t *testing.T) {
	h := newHouse()
	h.broken = fault.New(fault.StoreUnavailable, "the store did not answer; try again")
	client := streamsClient(t, start(t, h.options()))
	_, err := client.ListStreams(t.Context(), &klivev1.ListStreamsRequest{})
	requireFault(t, err, codes.Unavailable, fault.StoreUnavailable)
	watch, err := client.WatchStreams(t.Context(), &klivev1.WatchStreamsRequest{})
	require.NoError(t, err)
	_, err = watch.Recv()
	requireFault(t, err, codes.Unavailable, fault.StoreUnavailable)
	h.mu.Lock()
	h.broken = errors.New("open /data/secret: permission denied")
	h.mu.Unlock()
	_, err = client.ListStreams(t.Context(), &klivev1.ListStreamsRequest{})
	requireFault(t, err, codes.Internal, fault.InternalError)
	require.NotContains(t, err.Error(), "secret")
}

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Options)
		says   string
	}{
		"open gRPC":      {func(o *Options) { o.GRPCListen = ":0" }, "set auth.tokens"},
		"open HTTP":      {func(o *Options) { o.HTTPListen = "0.0.0.0:0" }, "control.http_listen is 0.0.0.0:0"},
		"named host":     {func(o *Options) { o.HTTPListen = "klive.example:0" }, "set auth.tokens"},
		"nothing behind": {func(o *Options) { o.Live = nil }, "must be set"},
		"taken port":     {func(o *Options) { o.HTTPListen = "127.0.0.1:99999" }, "control.http_listen"},
	} {
		o := newHouse().options()
		c.change(&o)
		_, err := New(o)
		require.ErrorContains(t, err, c.says, name)
	}
	o := newHouse().options()
	o.GRPCListen = ":0"
	o.Authenticator = twoTokens(t)
	s, err := New(o)
	require.NoError(t, err)
	s.Close()
}

func TestTooManyWatches(t *testing.T) {
	o := newHouse().options()
	o.MaxWatches = 1
	client := streamsClient(t, start(t, o))
	first, err := client.WatchStreams(t.Context(), &klivev1.WatchStreamsRequest{})
	require.NoError(t, err)
	_, err = first.Recv()
	require.NoError(t, err)
	second, err := client.WatchStreams(t.Context(), &klivev1.WatchStreamsRequest{})
	require.NoError(t, err)
	_, err = second.Recv()
	require.Equal(t, "watches", requireFault(t, err, codes.ResourceExhausted, fault.LimitExceeded)["limit"])
}

func TestCallsAreCounted(t *testing.T) {
	o := newHouse().options()
	o.Metrics = observe.NewRegistry(observe.Build{Version: "1"})
	o.Mounts = append(o.Mounts, Mount{Path: "/metrics", Handler: o.Metrics.Handler()})
	s := start(t, o)
	conn := dial(t, s)
	_, err := klivev1.NewNodeServiceClient(conn).GetNode(t.Context(), &klivev1.GetNodeRequest{})
	require.NoError(t, err)
	require.Error(t, conn.Invoke(t.Context(), "/made.up/Method", &emptypb.Empty{}, &emptypb.Empty{}))
	require.Equal(t, http.StatusNotFound, ask(t, s, "GET", "/v1/streams/nobody", "").status)
	text := ask(t, s, "GET", "/metrics", "").body
	require.Contains(t, text, `klive_control_calls_total{code="OK",method="/klive.v1.NodeService/GetNode"} 1`)
	require.Contains(t, text, `klive_control_calls_total{code="NotFound",method="/klive.v1.StreamService/GetStream"} 1`)
	require.Contains(t, text, `method="unknown"`)
	require.NotContains(t, text, "made.up")
	require.Contains(t, text, "klive_control_watches 0")
}

func TestSecondServerOnTheSamePortFails(t *testing.T) {
	s := start(t, newHouse().options())
	o := newHouse().options()
	o.GRPCListen = s.GRPCAddr().String()
	_, err := New(o)
	require.ErrorContains(t, err, "control.grpc_listen")
}

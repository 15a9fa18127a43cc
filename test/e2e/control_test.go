//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/test/e2e/harness"
)

// gRPC tools find their way by themselves: reflection names the services, health says SERVING.
func TestReflectionAndHealth(t *testing.T) {
	s := harness.Start(t, catalog)
	conn := s.Dial(t)
	health, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthv1.HealthCheckResponse_SERVING, health.GetStatus())
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}))
	answer, err := stream.Recv()
	require.NoError(t, err)
	names := make(map[string]bool)
	for _, service := range answer.GetListServicesResponse().GetService() {
		names[service.GetName()] = true
	}
	for _, want := range []string{"klive.v1.StreamService", "klive.v1.SessionService", "klive.v1.EventService", "klive.v1.NodeService", "grpc.health.v1.Health"} {
		require.True(t, names[want], "%s is not among %v", want, names)
	}
}

// curl runs curl, as an operator would.
func curl(t *testing.T, args ...string) string {
	t.Helper()
	out, diag, err := harness.Run(20*time.Second, "curl", append([]string{"-sS", "--max-time", "10"}, args...)...)
	require.NoError(t, err, diag)
	return out
}

// REST with curl: read, make, watch, stop.
func TestRESTWithCurl(t *testing.T) {
	s := harness.Start(t, catalog)
	var list struct {
		Streams []struct{ Name, State, Token string }
	}
	require.NoError(t, json.Unmarshal([]byte(curl(t, s.API("/v1/streams"))), &list))
	require.NotEmpty(t, list.Streams)

	var made struct{ Name, Token, Etag string }
	body := curl(t, "-X", "POST", "-H", "Content-Type: application/json", "-d", `{"displayName":"Room A"}`, s.API("/v1/streams?streamId=room-a"))
	require.NoError(t, json.Unmarshal([]byte(body), &made), body)
	require.Equal(t, "streams/room-a", made.Name)
	require.NotEmpty(t, made.Token)
	require.NotContains(t, curl(t, s.API("/v1/streams/room-a")), made.Token)

	// What is missing is said with a reason.
	missing := curl(t, s.API("/v1/streams/nobody"))
	require.Contains(t, missing, "STREAM_NOT_FOUND")
	// A page of somebody else may not steer the server, and a foreign name is not answered.
	for _, args := range [][]string{
		{"-H", "Origin: https://evil.example", s.API("/v1/streams")},
		{"-H", "Host: evil.example", s.API("/v1/streams")},
		{"-H", "Sec-Fetch-Site: cross-site", s.API("/v1/streams")},
	} {
		require.NotContains(t, curl(t, args...), "lobby", "%q was answered", args)
	}
	refused := curl(t, "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "-H", "Content-Type: text/plain", "-d", "{}", s.API("/v1/streams/lobby:stop"))
	require.Equal(t, "4", refused[:1], "a form of a web page was taken: %s", refused)
	for _, path := range []string{"/livez", "/readyz", "/startupz", "/metrics", "/openapi.json", "/"} {
		require.Equal(t, "200", curl(t, "-o", "/dev/null", "-w", "%{http_code}", s.API(path)), path)
	}

	harness.StartEncoder(t, s, "rtmp://"+s.RTMP+"/kLive?t="+made.Token+"/room-a_1", harness.Picture{})
	s.AwaitPlayable(t, "room-a")
	stopped := curl(t, "-X", "POST", "-H", "Content-Type: application/json", "-d", "{}", s.API("/v1/streams/room-a:stop"))
	require.Contains(t, stopped, "room-a")
	s.AwaitState(t, "room-a", klivev1.BroadcastState_BROADCAST_STATE_STOPPED, 10*time.Second)
}

// Watches are newline-delimited JSON, or Server-Sent Events for who accepts them.
func TestWatches(t *testing.T) {
	s := harness.Start(t, catalog)
	for accept, prefix := range map[string]string{"text/event-stream": "data:", "application/json": "{"} {
		t.Run(accept, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.API("/v1/streams:watch"), nil)
			require.NoError(t, err)
			req.Header.Set("Accept", accept)
			res, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			defer res.Body.Close()
			require.Equal(t, http.StatusOK, res.StatusCode)
			lines := bufio.NewScanner(res.Body)
			synced, playable := false, false
			id := "event-" + strings.NewReplacer("/", "-").Replace(accept)
			for !playable && lines.Scan() {
				line := lines.Text()
				if !strings.HasPrefix(line, prefix) {
					continue
				}
				if contains(line, `"synced"`) {
					synced = true
					harness.StartEncoder(t, s, s.PublishURL(id, token), harness.Picture{})
				}
				playable = synced && contains(line, id) && contains(line, "BROADCAST_STATE_PLAYABLE")
			}
			require.True(t, synced, "the snapshot was not completed")
			require.True(t, playable, "the change was not told: %v", lines.Err())
		})
	}
}

// The command line over gRPC.
func TestCommandLine(t *testing.T) {
	s := harness.Start(t, catalog)
	binary, err := harness.Binary()
	require.NoError(t, err)
	ctl := func(args ...string) string {
		out, diag, err := harness.Run(20*time.Second, binary, append([]string{"ctl", "--address", s.GRPC}, args...)...)
		require.NoError(t, err, "klive ctl %q: %s", args, diag)
		return out
	}
	harness.StartEncoder(t, s, s.PublishURL("lobby", token), harness.Picture{})
	s.AwaitPlayable(t, "lobby")
	require.Contains(t, ctl("streams", "list"), "lobby")
	require.Contains(t, ctl("sessions", "list", "lobby"), "rtmp")
	addresses := ctl("streams", "addresses", "lobby")
	require.Contains(t, addresses, "rtmp://")
	require.Contains(t, addresses, token)
	out, diag, err := harness.Run(10*time.Second, binary, "version")
	require.NoError(t, err, diag)
	require.Contains(t, out, "klive")
	// Wrong usage and wrong configuration are exit code 2.
	_, diag, err = harness.Run(10*time.Second, binary, "dance")
	require.ErrorContains(t, err, "exit status 2", diag)
}

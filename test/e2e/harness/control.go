package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
)

// Dial connects to the gRPC listener until the test's end.
func (s *Server) Dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if s.token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(s.token)))
	}
	conn, err := grpc.NewClient(s.GRPC, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// bearer sends a token with every call.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }

// Ask calls the control API over HTTP, with the token the server was configured with or with another one, and returns
// status and body. A body makes it a POST.
func (s *Server) Ask(ctx context.Context, path, body string, token ...string) (int, string, error) {
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, s.API(path), strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, t := range append(token, s.token)[:1] {
		if t != "" {
			req.Header.Set("Authorization", "Bearer "+t)
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

// Stream asks the control API for a stream.
func (s *Server) Stream(t *testing.T, id string) *klivev1.Stream {
	t.Helper()
	v, err := klivev1.NewStreamServiceClient(s.Dial(t)).GetStream(t.Context(), &klivev1.GetStreamRequest{Name: "streams/" + id})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Sessions asks the control API for the sessions of a stream, newest first.
func (s *Server) Sessions(t *testing.T, id string) []*klivev1.Session {
	t.Helper()
	v, err := klivev1.NewSessionServiceClient(s.Dial(t)).ListSessions(t.Context(), &klivev1.ListSessionsRequest{Parent: "streams/" + id})
	if err != nil {
		t.Fatal(err)
	}
	return v.GetSessions()
}

// AwaitState waits until the stream is in the state.
func (s *Server) AwaitState(t *testing.T, id string, want klivev1.BroadcastState, d time.Duration) {
	t.Helper()
	client := klivev1.NewStreamServiceClient(s.Dial(t))
	var last klivev1.BroadcastState
	Wait(t, d, fmt.Sprintf("stream %s is %v", id, want), func() (bool, error) {
		v, err := client.GetStream(t.Context(), &klivev1.GetStreamRequest{Name: "streams/" + id})
		if err == nil {
			last = v.GetState()
		}
		return err == nil && last == want, nil
	})
}

// AwaitPlayable waits until the stream is PLAYABLE.
func (s *Server) AwaitPlayable(t *testing.T, id string) {
	t.Helper()
	s.AwaitState(t, id, klivev1.BroadcastState_BROADCAST_STATE_PLAYABLE, 15*time.Second)
}

// Get fetches an address and returns status and body.
func Get(ctx context.Context, address string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

// Metric sums the samples of a metric, over all its labels or over those with the labels given: state="PLAYABLE".
func (s *Server) Metric(ctx context.Context, name string, labels ...string) (float64, error) {
	status, body, err := s.Ask(ctx, "/metrics", "")
	if err != nil {
		return 0, err
	}
	if status != http.StatusOK {
		return 0, fmt.Errorf("/metrics said %d", status)
	}
	sum, found := 0.0, false
	for _, line := range strings.Split(body, "\n") {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		if slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(rest, l) }) {
			continue
		}
		fields := strings.Fields(rest[strings.LastIndexByte(rest, '}')+1:])
		if len(fields) == 0 {
			continue
		}
		v, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return 0, fmt.Errorf("read the metric %s: %w", name, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("there is no metric %s", name)
	}
	return sum, nil
}

package control

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/stream"
)

// reply is an answer over HTTP, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
	object map[string]any // when the body is a JSON object
}

// ask makes a request with "Name: value" headers. A body sends JSON.
func ask(t *testing.T, s *Server, method, path, body string, headers ...string) reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, baseURL(s)+path, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			request.Host = value
		} else {
			request.Header.Set(name, value)
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	out := reply{status: response.StatusCode, header: response.Header, body: string(text)}
	_ = json.Unmarshal(text, &out.object) // pages are not JSON
	return out
}

// reason is the reason of an error in the gateway's shape.
func (r reply) reason() string {
	details, _ := r.object["details"].([]any)
	for _, d := range details {
		if info, _ := d.(map[string]any); info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo" && info["domain"] == Domain {
			return info["reason"].(string)
		}
	}
	return ""
}

func TestREST(t *testing.T) {
	h := newHouse()
	s := start(t, h.options())

	made := ask(t, s, "POST", "/v1/streams?streamId=lobby", `{"displayName": "Lobby", "labels": {"room": "1"}}`)
	require.Equal(t, http.StatusOK, made.status, made.body)
	require.Equal(t, "streams/lobby", made.object["name"])
	require.Equal(t, "secret-1", made.object["token"])
	require.Equal(t, "application/json", made.header.Get("Content-Type"))
	require.Equal(t, "no-store", made.header.Get("Cache-Control"))
	require.Empty(t, made.header.Get("Access-Control-Allow-Origin"))

	h.publish("lobby", stream.Playable)
	got := ask(t, s, "GET", "/v1/streams/lobby", "")
	require.Equal(t, "BROADCAST_STATE_PLAYABLE", got.object["state"])
	require.EqualValues(t, 1, got.object["kalturaStatus"])
	require.NotContains(t, got.object, "token")

	list := ask(t, s, "GET", "/v1/streams?pageSize=10&filter=state+%3D+PLAYABLE", "")
	require.Len(t, list.object["streams"], 1)
	require.Empty(t, ask(t, s, "GET", "/v1/streams?filter=state+%3D+STOPPED", "").object["streams"])

	// What was read can be changed and sent back whole; the gateway makes the mask.
	got.object["displayName"] = "Hall"
	whole, err := json.Marshal(got.object)
	require.NoError(t, err)
	patched := ask(t, s, "PATCH", "/v1/streams/lobby", string(whole))
	require.Equal(t, http.StatusOK, patched.status, patched.body)
	require.Equal(t, "Hall", patched.object["displayName"])
	stale := ask(t, s, "PATCH", "/v1/streams/lobby", string(whole))
	require.Equal(t, http.StatusConflict, stale.status)
	require.Equal(t, string(fault.EtagMismatch), stale.reason())

	require.Equal(t, "secret-1-again", ask(t, s, "POST", "/v1/streams/lobby:rotateToken", "{}").object["token"])
	require.Equal(t, "secret-1-again", ask(t, s, "GET", "/v1/streams/lobby:publishAddresses", "").object["token"])
	sessions := ask(t, s, "GET", "/v1/streams/-/sessions", "")
	require.Len(t, sessions.object["sessions"], 1)
	require.Equal(t, "streams/lobby/sessions/s1-lobby", sessions.object["sessions"].([]any)[0].(map[string]any)["name"])
	require.Equal(t, "192.0.2.7:40000", ask(t, s, "GET", "/v1/streams/lobby/sessions/s1-lobby", "").object["remoteAddress"])
	require.Equal(t, "STOPPED_BY_OPERATOR", ask(t, s, "POST", "/v1/streams/lobby/sessions/s1-lobby:disconnect", "{}").object["reason"])
	require.Equal(t, "BROADCAST_STATE_STOPPED", ask(t, s, "POST", "/v1/streams/lobby:stop", "{}").object["state"])
	require.Equal(t, "here", ask(t, s, "GET", "/v1/node", "").object["id"])
	require.NotEmpty(t, ask(t, s, "GET", "/v1/events", "").object["events"])
	require.Equal(t, http.StatusOK, ask(t, s, "DELETE", "/v1/streams/lobby", "").status)
	require.Equal(t, "NODE_STATE_DRAINING", ask(t, s, "POST", "/v1/node:drain", "{}").object["state"])
}

func TestRESTErrors(t *testing.T) {
	s := start(t, newHouse().options())
	for _, c := range []struct {
		method, path, body string
		headers            []string
		status             int
		reason             fault.Reason
	}{
		{method: "GET", path: "/v1/streams/nobody", status: 404, reason: fault.StreamNotFound},
		{method: "GET", path: "/v1/streams/nobody/sessions", status: 404, reason: fault.StreamNotFound},
		{method: "GET", path: "/v1/streams/nobody/sessions/x", status: 404, reason: fault.SessionNotFound},
		{method: "GET", path: "/v1/nothing", status: 404, reason: fault.UnknownMethod},
		{method: "GET", path: "/nothing", status: 404, reason: fault.UnknownMethod},
		{method: "PUT", path: "/v1/streams/x", body: "{}", status: 405, reason: fault.UnknownMethod},
		{method: "POST", path: "/v1/streams?streamId=x", body: `{"colour": "red"}`, status: 400, reason: fault.InvalidField},
		{method: "POST", path: "/v1/streams?streamId=x", body: `{`, status: 400, reason: fault.InvalidField},
		{method: "POST", path: "/v1/streams?streamId=x", body: `{"displayName": "` + strings.Repeat("x", maxRequestBody) + `"}`, status: 400, reason: fault.InvalidField},
		{method: "POST", path: "/v1/streams", body: "{}", status: 400, reason: fault.InvalidField},
		{method: "GET", path: "/v1/streams?pageSize=many", status: 400, reason: fault.InvalidField},
		{method: "GET", path: "/v1/streams?pageSize=-1", status: 400, reason: fault.InvalidField},
		{method: "GET", path: "/v1/streams:watch?resumeToken=old.1", status: 409, reason: ""},
		{method: "POST", path: "/v1/streams?streamId=x", status: 400, reason: fault.InvalidField},
		{method: "POST", path: "/v1/streams?streamId=x", body: "a=b", headers: []string{"Content-Type: application/x-www-form-urlencoded"}, status: 400, reason: fault.InvalidField},
		{method: "POST", path: "/v1/streams?streamId=x", body: "{}", headers: []string{"Content-Type: text/plain"}, status: 400, reason: fault.InvalidField},
		{method: "DELETE", path: "/v1/streams/x", body: "{}", headers: []string{"Content-Type: text/plain"}, status: 400, reason: fault.InvalidField},
		// The principal cannot be sent from outside.
		{method: "GET", path: "/v1/streams/nobody", headers: []string{"Grpc-Metadata-Klive-Principal-Role: none"}, status: 404, reason: fault.StreamNotFound},
	} {
		got := ask(t, s, c.method, c.path, c.body, c.headers...)
		require.Equal(t, c.status, got.status, "%s %s: %s", c.method, c.path, got.body)
		require.Equal(t, string(c.reason), got.reason(), "%s %s: %s", c.method, c.path, got.body)
		if c.reason != "" {
			require.NotEmpty(t, got.object["message"])
			require.NotZero(t, got.object["code"])
		}
	}
}

func TestPanicEndsTheCallOnly(t *testing.T) {
	h := newHouse()
	s := start(t, h.options())
	h.mu.Lock()
	h.panics = true
	h.mu.Unlock()
	got := ask(t, s, "GET", "/v1/streams/x", "")
	require.Equal(t, http.StatusInternalServerError, got.status)
	require.Equal(t, string(fault.InternalError), got.reason())
	require.NotContains(t, got.body, "hole")
	require.Equal(t, http.StatusOK, ask(t, s, "GET", "/v1/streams", "").status)
}

func TestHostRules(t *testing.T) {
	h := newHouse()
	s := start(t, h.options())
	own := "Origin: " + baseURL(s)
	port := s.HTTPAddr().String()[strings.LastIndexByte(s.HTTPAddr().String(), ':'):]
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
	}{
		{name: "address", method: "GET", path: "/v1/streams", status: 200},
		{name: "localhost", method: "GET", path: "/v1/streams", headers: []string{"Host: localhost" + port}, status: 200},
		{name: "localhost without a port", method: "GET", path: "/v1/streams", headers: []string{"Host: LocalHost."}, status: 200},
		{name: "below localhost", method: "GET", path: "/v1/streams", headers: []string{"Host: klive.localhost" + port}, status: 200},
		{name: "IPv6", method: "GET", path: "/v1/streams", headers: []string{"Host: [::1]" + port}, status: 200},
		{name: "IPv6 without a port", method: "GET", path: "/v1/streams", headers: []string{"Host: [::1]"}, status: 200},
		{name: "rebound name", method: "GET", path: "/v1/streams", headers: []string{"Host: evil.example" + port}, status: 403},
		{name: "looks like localhost", method: "GET", path: "/v1/streams", headers: []string{"Host: localhost.evil.example"}, status: 403},
		{name: "looks like an address", method: "GET", path: "/v1/streams", headers: []string{"Host: 127.0.0.1.evil.example"}, status: 403},
		{name: "other address", method: "GET", path: "/v1/streams", headers: []string{"Host: 192.168.0.7" + port}, status: 403},
		{name: "page of links", method: "GET", path: "/", headers: []string{"Host: evil.example"}, status: 403},
		{name: "mounted handler", method: "GET", path: "/livez", headers: []string{"Host: evil.example"}, status: 403},
		{name: "own origin", method: "POST", path: "/v1/streams/x:stop", body: "{}", headers: []string{own}, status: 404},
		{name: "foreign origin", method: "POST", path: "/v1/streams/x:stop", body: "{}", headers: []string{"Origin: http://evil.example"}, status: 403},
		{name: "other port", method: "POST", path: "/v1/streams/x:stop", body: "{}", headers: []string{"Origin: http://127.0.0.1:1"}, status: 403},
		{name: "other scheme", method: "POST", path: "/v1/streams/x:stop", body: "{}", headers: []string{"Origin: https://" + s.HTTPAddr().String()}, status: 403},
		{name: "null origin", method: "POST", path: "/v1/streams/x:stop", body: "{}", headers: []string{"Origin: null"}, status: 403},
		{name: "foreign origin reads", method: "GET", path: "/v1/streams", headers: []string{"Origin: http://evil.example"}, status: 403},
		{name: "preflight", method: "OPTIONS", path: "/v1/streams", headers: []string{"Origin: http://evil.example", "Access-Control-Request-Method: POST"}, status: 403},
		{name: "cross-site", method: "GET", path: "/v1/streams", headers: []string{"Sec-Fetch-Site: cross-site"}, status: 403},
		{name: "same-origin", method: "GET", path: "/v1/streams", headers: []string{"Sec-Fetch-Site: same-origin"}, status: 200},
		{name: "typed by a person", method: "GET", path: "/v1/streams", headers: []string{"Sec-Fetch-Site: none"}, status: 200},
		{name: "a link to the page", method: "GET", path: "/", headers: []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, status: 200},
		{name: "the page in a frame", method: "GET", path: "/", headers: []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"}, status: 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ask(t, s, c.method, c.path, c.body, c.headers...)
			require.Equal(t, c.status, got.status, got.body)
			if c.status == http.StatusForbidden {
				require.Equal(t, string(fault.ForeignOrigin), got.reason())
			}
			for name := range got.header {
				require.False(t, strings.HasPrefix(name, "Access-Control-"), name)
			}
		})
	}
}

func TestTokensOverHTTP(t *testing.T) {
	h := newHouse()
	o := h.options()
	o.Authenticator = twoTokens(t)
	o.Mounts = append(o.Mounts, Mount{Path: "/metrics", Title: "Metrics", Role: auth.Viewer, Handler: http.NotFoundHandler()})
	s := start(t, o)
	_, _, err := catalog{h}.Create(t.Context(), stream.Entry{ID: "lobby"}, stream.Secrets{})
	require.NoError(t, err)
	for _, c := range []struct {
		token, method, path, body string
		headers                   []string
		status                    int
		reason                    fault.Reason
	}{
		{method: "GET", path: "/v1/streams", status: 401, reason: fault.NotAuthenticated},
		{token: "wrong", method: "GET", path: "/v1/streams", status: 401, reason: fault.NotAuthenticated},
		{token: "look", method: "GET", path: "/v1/streams", status: 200},
		{token: "look", method: "GET", path: "/v1/streams/lobby:publishAddresses", status: 403, reason: fault.NotAllowed},
		{token: "look", method: "POST", path: "/v1/streams?streamId=x", body: "{}", status: 403, reason: fault.NotAllowed},
		{token: "s3cret", method: "POST", path: "/v1/streams?streamId=x", body: "{}", status: 200},
		{token: "s3cret", method: "GET", path: "/v1/streams/lobby:publishAddresses", status: 200},
		// The principal of a caller is what the server found out, not what it says.
		{token: "look", method: "POST", path: "/v1/streams?streamId=y", body: "{}", headers: []string{"Grpc-Metadata-Klive-Principal-Role: admin"}, status: 403, reason: fault.NotAllowed},
		// With authentication any Host is right, and a bearer token is no cookie.
		{token: "look", method: "GET", path: "/v1/streams", headers: []string{"Host: klive.example"}, status: 200},
		{token: "look", method: "GET", path: "/v1/streams", headers: []string{"Origin: https://wall.example"}, status: 200},
		{method: "GET", path: "/v1/streams", headers: []string{"Origin: https://wall.example"}, status: 403, reason: fault.ForeignOrigin},
		// Probes and the pages are open; metrics are not.
		{method: "GET", path: "/livez", status: 200},
		{method: "GET", path: "/", status: 200},
		{method: "GET", path: "/openapi.json", status: 200},
		{method: "GET", path: "/metrics", status: 401, reason: fault.NotAuthenticated},
		{token: "look", method: "GET", path: "/metrics", status: 404},
	} {
		headers := c.headers
		if c.token != "" {
			headers = append(headers, "Authorization: Bearer "+c.token)
		}
		got := ask(t, s, c.method, c.path, c.body, headers...)
		require.Equal(t, c.status, got.status, "%+v: %s", c, got.body)
		require.Equal(t, string(c.reason), got.reason(), "%+v", c)
		if c.status == http.StatusUnauthorized {
			require.Contains(t, got.header.Get("WWW-Authenticate"), "Bearer")
		}
	}
}

func twoTokens(t *testing.T) auth.Authenticator {
	t.Helper()
	tokens, err := auth.NewTokens([]auth.Token{{Name: "ops", Secret: "s3cret", Role: auth.Admin}, {Name: "wall", Secret: "look", Role: auth.Viewer}})
	require.NoError(t, err)
	return auth.Authenticator{Tokens: tokens}
}

func TestPages(t *testing.T) {
	s := start(t, newHouse().options())
	links := ask(t, s, "GET", "/", "")
	require.Contains(t, links.header.Get("Content-Type"), "text/html")
	require.Contains(t, links.body, "kLive 1.2.3")
	for _, path := range []string{"/livez", "/openapi.json", "/v1/streams"} {
		require.Contains(t, links.body, `href="`+path+`"`)
	}
	require.NotContains(t, links.body, "<script")
	require.Equal(t, "yes", ask(t, s, "GET", "/livez", "").body)

	document := ask(t, s, "GET", "/openapi.json", "")
	require.Equal(t, "2.0", document.object["swagger"])
	paths := document.object["paths"].(map[string]any)
	for _, path := range []string{"/v1/streams", "/v1/streams/{stream}:publishAddresses", "/v1/streams/{stream}/sessions/{session}:disconnect", "/v1/node:drain", "/v1/events:watch"} {
		require.Contains(t, paths, path)
	}
}

// openWatch opens a watch over HTTP and gives its lines as they come.
func openWatch(t *testing.T, s *Server, path string, headers ...string) (*http.Response, func() string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, baseURL(s)+path, nil)
	require.NoError(t, err)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		request.Header.Set(name, value)
	}
	transport := &http.Transport{}
	response, err := (&http.Client{Transport: transport}).Do(request)
	require.NoError(t, err)
	t.Cleanup(func() {
		response.Body.Close()
		transport.CloseIdleConnections()
	})
	lines := bufio.NewReader(response.Body)
	return response, func() string {
		t.Helper()
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		return strings.TrimSuffix(line, "\n")
	}
}

func TestWatchAsNDJSON(t *testing.T) {
	h := newHouse()
	h.declare("a")
	s := start(t, h.options())
	response, line := openWatch(t, s, "/v1/streams:watch", "Accept: application/json, */*")
	require.Equal(t, "application/x-ndjson", response.Header.Get("Content-Type"))
	require.Equal(t, "streams/a", result(t, line())["stream"].(map[string]any)["name"])
	require.Contains(t, result(t, line()), "synced")
	h.publish("a", stream.Playable)
	change := result(t, line())
	require.Equal(t, "BROADCAST_STATE_PLAYABLE", change["stream"].(map[string]any)["state"])
	require.NotEmpty(t, change["resumeToken"])
}

func result(t *testing.T, line string) map[string]any {
	t.Helper()
	var wrapped struct{ Result map[string]any }
	require.NoError(t, json.Unmarshal([]byte(line), &wrapped), line)
	require.NotNil(t, wrapped.Result, line)
	return wrapped.Result
}

func TestWatchAsServerSentEvents(t *testing.T) {
	h := newHouse()
	journal{h}.Record(stream.Event{Type: stream.StreamCreated, Stream: "a"})
	s := start(t, h.options())
	response, line := openWatch(t, s, "/v1/events:watch", "Accept: text/event-stream")
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	require.Equal(t, "event: event", line())
	require.Equal(t, "id: 1", line())
	data := line()
	require.Contains(t, data, `data: {`)
	require.Contains(t, data, `EVENT_TYPE_STREAM_CREATED`)
	require.Empty(t, line())
	require.Equal(t, "event: synced", line())
	require.Equal(t, "id: 1", line())
	require.Contains(t, line(), "data: {")
	require.Empty(t, line())
	journal{h}.Record(stream.Event{Type: stream.StreamDeleted, Stream: "a"})
	require.Equal(t, "event: event", line())
	require.Equal(t, "id: 2", line())

	// A browser comes back with the last id it has seen.
	_, line = openWatch(t, s, "/v1/events:watch?resumeToken=0", "Accept: text/event-stream, */*;q=0.1", "Last-Event-ID: 1")
	require.Equal(t, "event: event", line())
	require.Equal(t, "id: 2", line())

	// A lost watcher is told so in the same format.
	_, line = openWatch(t, s, "/v1/events:watch", "Accept: text/event-stream", "Last-Event-ID: 99")
	require.Equal(t, "event: error", line())
	require.Contains(t, line(), "WATCH_LOST")
}

func TestWatchEndsWhenTheServerStops(t *testing.T) {
	h := newHouse()
	s, err := New(h.options())
	require.NoError(t, err)
	ctx, cancel := contextWithCancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	_, line := openWatch(t, s, "/v1/streams:watch")
	require.Contains(t, line(), "synced")
	cancel()
	require.Contains(t, line(), "SERVER_DRAINING")
	require.NoError(t, <-done)
}

func TestGuardBoundsBodies(t *testing.T) {
	var read error
	g := guard{next: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, read = io.ReadAll(r.Body) })}
	request := httptest.NewRequest(http.MethodPost, "http://localhost/", strings.NewReader(strings.Repeat("x", maxRequestBody+1)))
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	g.ServeHTTP(httptest.NewRecorder(), request)
	require.ErrorContains(t, read, "too large")
}

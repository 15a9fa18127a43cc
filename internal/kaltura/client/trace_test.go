package client_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/kaltura/client"
)

// An exchange can be followed into the backend's own log, and its line holds
// no secret.
func TestTrace(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Kaltura-Session", "s-12345")
		w.Header().Set("X-Me", "api3")
		_, _ = w.Write([]byte(`{"objectType":"KalturaLiveStreamEntry","id":"0_rkij47dr"}`))
	}))
	defer server.Close()
	var out bytes.Buffer
	c, err := client.New(client.Options{
		URL: server.URL, Partner: -5, Secret: "topsecret",
		Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Authenticate(t.Context(), 102, client.Place{Entry: "0_rkij47dr", Host: "ms1"}, "s3cret", "kLive")
	require.NoError(t, err)
	line := out.String()
	for _, want := range []string{"action=authenticate", "entryId=0_rkij47dr", "partnerId=102", "X-Kaltura-Session=s-12345", "X-Me=api3", "took="} {
		require.Contains(t, line, want)
	}
	require.NotContains(t, line, "s3cret")
	require.NotContains(t, line, "topsecret")
	require.NotContains(t, line, "djJ8")
}

package observe

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
)

// ask sends a request to a probe and returns its status and the names and errors of failing checks.
func ask(t *testing.T, h http.Handler) (int, map[string]string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	var report Report
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &report))
	failing := map[string]string{}
	for _, c := range report.Checks {
		if c.Status != "ok" {
			require.Equal(t, "failing", c.Status)
			failing[c.Name] = c.Error
		}
	}
	if w.Code == http.StatusOK {
		require.Equal(t, "ok", report.Status)
	} else {
		require.Equal(t, "failing", report.Status)
	}
	return w.Code, failing
}

func TestHealthThroughLife(t *testing.T) {
	h := NewHealth()
	var storeErr, hungErr error
	h.AddReady("store", func(context.Context) error { return storeErr })
	h.AddLive("loop", func(context.Context) error { return hungErr })
	expect := func(live, ready, startup int) {
		t.Helper()
		for _, c := range []struct {
			handler http.Handler
			want    int
		}{{h.Livez(), live}, {h.Readyz(), ready}, {h.Startupz(), startup}} {
			got, _ := ask(t, c.handler)
			require.Equal(t, c.want, got)
		}
	}
	expect(200, 503, 503)
	_, failing := ask(t, h.Readyz())
	require.Equal(t, map[string]string{"started": "the server is starting"}, failing)

	h.Started()
	expect(200, 200, 200)

	storeErr = fault.New(fault.StoreUnavailable, "the records are out of reach").Because(errors.New("inner detail"))
	expect(200, 503, 200)
	_, failing = ask(t, h.Readyz())
	require.Equal(t, map[string]string{"store": "the records are out of reach"}, failing)
	storeErr = nil

	hungErr = errors.New("rtmp://h/kLive?t=abc hangs")
	expect(503, 200, 200)
	_, failing = ask(t, h.Livez())
	require.Equal(t, map[string]string{"loop": "rtmp://h/kLive?t=******** hangs"}, failing)
	hungErr = nil

	select {
	case <-h.Draining():
		t.Fatal("draining before Drain")
	default:
	}
	h.Drain()
	h.Drain()
	<-h.Draining()
	expect(200, 503, 200)
	_, failing = ask(t, h.Readyz())
	require.Contains(t, failing["serving"], "draining")
}

func TestProbeTakesOnlyGet(t *testing.T) {
	w := httptest.NewRecorder()
	NewHealth().Livez().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/livez", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
}

func TestHangingCheckIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHealth()
		h.AddLive("hang", func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		require.False(t, h.Live(t.Context()).OK)
	})
}

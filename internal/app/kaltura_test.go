package app

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/config"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/kaltura/ks"
)

const (
	kalturaSecret = "0123456789abcdef0123456789abcdef"
	kalturaEntry  = "0_rkij47dr"
)

// backend is a Kaltura backend with one entry.
func backend(t *testing.T) (*kalturatest.Backend, string) {
	t.Helper()
	b, err := kalturatest.New(kalturatest.Options{
		Partners: []kalturatest.Partner{{ID: -5, Secret: kalturaSecret}, {ID: 102, Secret: kalturaSecret, Features: []string{kalturatest.FeatureLive}}},
		Entries:  []kalturatest.Entry{{ID: kalturaEntry, Partner: 102, Token: "tok12345", Profile: kalturatest.ProfilePassthrough}},
	})
	require.NoError(t, err)
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	return b, server.URL
}

func kalturaConfig(t *testing.T, url string) config.Config {
	c := testConfig(t)
	c.Kaltura.Mode, c.Kaltura.URL, c.Kaltura.AdminSecret, c.Kaltura.Hostname = config.KalturaSaaS, url, kalturaSecret, "ms1.example.com"
	return c
}

// publish asks for a place as a door does.
func (st *started) publish(t *testing.T, token string) (ingest.Publication, error) {
	t.Helper()
	return st.registry.Open(t.Context(), ingest.Request{
		Protocol: "rtmp", Stream: kalturaEntry, Index: 1, Partner: 102, Token: token,
		Remote: netip.MustParseAddrPort("127.0.0.1:4000"),
	})
}

func TestTheServerStartsWithoutItsBackend(t *testing.T) {
	nobody := httptest.NewServer(http.NotFoundHandler())
	nobody.Close() // a port that nobody listens on
	st := start(t, kalturaConfig(t, nobody.URL))
	require.Empty(t, st.output.String(), "the backend hands out addresses")

	code, body := st.get(t, "/v1/kalturaBridge")
	require.Equal(t, http.StatusOK, code, body)
	require.Contains(t, body, `"hostName":"ms1.example.com"`)
	require.NotContains(t, body, kalturaSecret)

	_, err := st.publish(t, "tok12345")
	require.Equal(t, fault.BackendUnavailable, fault.ReasonOf(err), err)

	code, body = st.get(t, "/v1/streams/"+kalturaEntry+":publishAddresses")
	require.Equal(t, http.StatusNotFound, code, body)
	resp, err := http.Post("http://"+st.control.HTTPAddr().String()+"/v1/streams?streamId=lobby", "application/json", strings.NewReader("{}"))
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusBadRequest, resp.StatusCode, "managed by Kaltura")

	for _, path := range []string{"/diagnostics/info", "/diagnostics/entries", "/diagnostics/errors"} {
		code, body = st.get(t, path)
		require.Equal(t, http.StatusOK, code, "%s: %s", path, body)
	}
	_, body = st.get(t, "/metrics")
	for _, name := range []string{
		`klive_kaltura_calls_total{code="network",method="liveStream.authenticate"}`, `klive_kaltura_node_registered 0`,
		`klive_kaltura_deliveries{state="QUEUED"} 0`, `klive_kaltura_deliveries_total{state="IN_DOUBT"} 0`, `klive_kaltura_registrations{state="PLAYABLE"} 0`, `klive_kaltura_beacons_total`,
	} {
		require.Contains(t, body, "\n"+name)
	}
	require.NoError(t, st.stop())
}

func TestABackendDecidesAndIsTold(t *testing.T) {
	b, url := backend(t)
	st := start(t, kalturaConfig(t, url))
	require.Eventually(t, func() bool { return st.bridge.Status().Node.Registered }, 10*time.Second, 5*time.Millisecond)

	_, err := st.publish(t, "wrong")
	require.Equal(t, fault.BadToken, fault.ReasonOf(err), err)
	p, err := st.publish(t, "tok12345")
	require.NoError(t, err)
	r, ok := b.State().Registration(kalturaEntry, kalturatest.IndexPrimary)
	require.True(t, ok)
	require.Equal(t, kalturatest.StatusAuthenticated, r.Status)
	p.Close(nil)

	again, err := st.publish(t, "tok12345")
	require.NoError(t, err)
	again.Close(nil)
	require.Equal(t, 2, b.State().Count("liveStream.authenticate"), "the wrong token and the first right one")

	_, body := st.get(t, "/metrics")
	for _, line := range []string{ // a part of a round trip, and the whole
		`klive_kaltura_calls_total{code="PERMISSION_NOT_FOUND",method="permission.get"} 1`,
		`klive_kaltura_calls_total{code="ok",method="multirequest"} 1`, `klive_kaltura_call_seconds_count{method="multirequest"} 1`,
	} {
		require.Contains(t, body, "\n"+line)
	}
	require.NotContains(t, body, `klive_kaltura_call_seconds_count{method="permission.get"}`)
	require.Empty(t, st.bridge.Status().LastError, "the partner lacks a permission, and nothing is wrong")
	require.NoError(t, st.stop())
}

func TestAnAdminSessionIsACredentialOfControl(t *testing.T) {
	_, url := backend(t)
	c := kalturaConfig(t, url)
	c.Auth.Tokens = []config.Token{{Name: "ops", Token: "ops-token", Role: config.RoleViewer}}
	st := start(t, c)
	session := func(kind ks.Type) string {
		return ks.Sign(kalturaSecret, ks.Session{Partner: -5, Type: kind, User: "producer", Expires: time.Now().Add(time.Hour)}).Reveal()
	}
	for token, want := range map[string]int{
		"":                http.StatusUnauthorized,
		"ops-token":       http.StatusForbidden, // a viewer
		session(ks.User):  http.StatusUnauthorized,
		session(ks.Admin): http.StatusOK,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+st.control.HTTPAddr().String()+"/v1/kalturaBridge:resync", strings.NewReader("{}"))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, want, resp.StatusCode)
	}
}

func TestTheHostNameIsWhole(t *testing.T) {
	full, err := fullHostname(t.Context(), func() (string, error) { return "live1", nil })
	require.NoError(t, err)
	require.True(t, full == "live1" || strings.HasPrefix(full, "live1."), full)
	full, err = fullHostname(t.Context(), func() (string, error) { return "live1.example.com", nil })
	require.NoError(t, err)
	require.Equal(t, "live1.example.com", full)
}

// Two servers of one made-up name would take each other's entries.
func TestAHostWithoutANameNeedsOne(t *testing.T) {
	for name, failure := range map[string]error{"": nil, "localhost": nil, "live1": errors.New("uname failed")} {
		_, err := fullHostname(t.Context(), func() (string, error) { return name, failure })
		require.ErrorContains(t, err, "set kaltura.hostname")
		if failure != nil {
			require.ErrorIs(t, err, failure)
		}
	}
}

func TestAGroupIsFound(t *testing.T) {
	for name, want := range map[string]struct {
		id  int
		set bool
	}{"": {}, "613": {613, true}, "root": {0, true}} {
		id, set, err := groupID(name)
		require.NoError(t, err)
		require.Equal(t, want.id, id)
		require.Equal(t, want.set, set)
	}
	_, _, err := groupID("no-such-group-here")
	require.ErrorContains(t, err, "recording.group")
}

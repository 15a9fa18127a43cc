//go:build e2e

package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/kaltura/ks"
	"github.com/klive-media/klive/test/e2e/harness"
)

// refusal publishes with ffmpeg to an address where it is refused, and returns what ffmpeg prints of the server's words.
func refusal(t *testing.T, address string) string {
	t.Helper()
	_, diag, err := harness.Run(40*time.Second, "ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error",
		"-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10:duration=3", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-f", "flv", address)
	var failed *exec.ExitError
	require.ErrorAs(t, err, &failed, "ffmpeg was not refused")
	require.Contains(t, diag, "Server error:")
	_, said, _ := strings.Cut(diag, "Server error:")
	said, _, _ = strings.Cut(said, "\n") // behind it ffmpeg repeats the address
	t.Logf("ffmpeg prints: %s", strings.TrimSpace(said))
	return said
}

// kalturaRefusals is each refusal as the encoder sees it.
func kalturaRefusals(t *testing.T) {
	b := harness.StartBackend(t, "--quota", "1", "--entry", entry, "--entry", "0_second01", "--entry", "0_second02", "--entry", "0_second03")
	s := b.Serve(t, "live1.example.com", "timeout: 5s", "")
	awaitNode(t, s)
	good := b.PublishURL(t, entry, 0, 1)
	other := func(from, to string) string { return strings.Replace(good, from, to, 1) }
	token := good[strings.Index(good, "&t=")+3:]
	token, _, _ = strings.Cut(token, "/")

	require.Contains(t, refusal(t, other("&t="+token, "&t=wrong")), "token")
	harness.StartEncoder(t, s, good, small) // the wrong token did not lock it out
	awaitPlayable(t, s, entry)
	// Of one address and within ten seconds the first four kinds are events of their own; the rest is counted.
	require.Contains(t, refusal(t, strings.ReplaceAll(good, entry, "0_nobody01")), "0_nobody01")
	require.Regexp(t, `as many live streams`, refusal(t, b.PublishURL(t, "0_second01", 0, 1)))
	// Another entry each: who was refused a moment ago is answered from memory.
	end := b.Inject(t, `{"kind":"html"}`)
	require.Contains(t, refusal(t, b.PublishURL(t, "0_second02", 0, 1)), "backend")
	end()
	end = b.Inject(t, `{"kind":"down"}`)
	require.Contains(t, refusal(t, b.PublishURL(t, "0_second03", 0, 1)), "backend")
	end()
	require.Contains(t, refusal(t, other("p=102&", "p=103&")), "partner")
	require.Contains(t, refusal(t, other("e="+entry+"&", "")), "e=")
	require.Contains(t, refusal(t, other("/"+entry+"_1", "/0_second01_1")), "does not fit")
	require.Contains(t, refusal(t, other("/"+entry+"_1", "/"+entry+"_9")), "no ingest 9")

	refused := eventsOf(t, s, klivev1.EventType_EVENT_TYPE_PUBLISH_REFUSED)
	reasons := make(map[string]bool)
	for _, e := range refused {
		reasons[e.GetReason()] = true
		require.NotContains(t, e.String(), token)
	}
	for _, reason := range []string{"BAD_TOKEN", "STREAM_NOT_FOUND", "QUOTA_EXCEEDED", "BACKEND_UNAVAILABLE"} {
		require.True(t, reasons[reason], "no event with the reason %s among %v", reason, reasons)
	}
	harness.Wait(t, 90*time.Second, "the backend gets a beacon of the wrong token", func() (bool, error) {
		for _, beacon := range b.State(t).Beacons {
			require.True(t, beacon.Valid, "a beacon that is no JSON: %s", beacon.PrivateData)
			require.NotContains(t, beacon.PrivateData, token)
			if beacon.Object == entry && strings.Contains(beacon.PrivateData, "LIVE_STREAM_INVALID_TOKEN") {
				return true, nil
			}
		}
		return false, nil
	})
	require.NotContains(t, s.Log(), token, "the log holds a token")
	status, body, err := s.Ask(t.Context(), "/diagnostics/errors", "")
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.NotContains(t, body, token)
	require.NotContains(t, body, "t=wrong")
	require.Contains(t, body, "ConnectionUrl")
}

// kalturaBlockedOnAir blocks the account during a broadcast: the publisher is dismissed at the next keep-alive, and told
// why when it comes back.
func kalturaBlockedOnAir(t *testing.T) {
	b := harness.StartBackend(t)
	s := b.Serve(t, "live1.example.com", "", "")
	awaitNode(t, s)
	e := harness.StartEncoder(t, s, b.PublishURL(t, entry, 0, 1), small)
	awaitRow(t, b, entry, kalturatest.StatusPlayable, patience)
	b.Block(t, 102, true)
	resync(t, s)
	require.True(t, e.Wait(20*time.Second), "the publisher of a blocked account goes on")
	s.AwaitState(t, entry, klivev1.BroadcastState_BROADCAST_STATE_STOPPED, patience)
	ended := eventsOf(t, s, klivev1.EventType_EVENT_TYPE_SESSION_ENDED)
	require.Equal(t, "PARTNER_BLOCKED", ended[len(ended)-1].GetReason())
	require.Contains(t, refusal(t, b.PublishURL(t, entry, 0, 1)), "blocked")
}

// kalturaBitrates publishes two bitrates of an entry, which is one call of the backend, and looks at the server as an
// operator with a session of the backend does.
func kalturaBitrates(t *testing.T) {
	b := harness.StartBackend(t)
	s := b.Serve(t, "live1.example.com", "", "")
	awaitNode(t, s)
	harness.StartEncoder(t, s, b.PublishURL(t, entry, 0, 1), small)
	lower := small
	lower.Size, lower.Bitrate = "128x72", "80k"
	harness.StartEncoder(t, s, b.PublishURL(t, entry, 0, 2), lower)
	awaitPlayable(t, s, entry)
	harness.Wait(t, patience, "the backend knows both renditions", func() (bool, error) {
		streams := b.Row(t, entry, "0").Streams
		if len(streams) != 2 {
			return false, nil
		}
		sizes := map[string]string{}
		for _, v := range streams {
			sizes[v["flavorId"]] = v["width"]
		}
		return sizes["32"] == "160" && sizes["36"] == "128", nil
	})
	require.Equal(t, 1, b.State(t).Count("liveStream.authenticate"), "the second bitrate asked the backend again")
	harness.Wait(t, patience, "the backend's playlist has both", func() (bool, error) {
		return len(multivariant(t, b.Master(entry)).Variants) == 2, nil
	})
	for _, v := range multivariant(t, b.Master(entry)).Variants {
		harness.Wait(t, patience, v.URI, func() (bool, error) {
			status, body, err := harness.Get(t.Context(), v.URI)
			return status == 200 && strings.Contains(body, "#EXTINF"), err
		})
	}
	byBackendSession(t, b, s)
	diagnostics(t, s)
}

// byBackendSession tries the sessions of the backend as bearers of the control API.
func byBackendSession(t *testing.T, b *harness.Backend, s *harness.Server) {
	t.Helper()
	for _, c := range []struct {
		name, token string
		want        int
	}{
		{"an admin session of the partner", b.Session, 200},
		{"a token of the configuration", harness.ControlToken, 200},
		{"nonsense", "nonsense", 401},
		{"a damaged session", b.Session[:len(b.Session)-8] + "AAAAAAA=", 401},
		{"a session signed by somebody else", ks.Sign("somebody else", ks.Session{Partner: -5, Type: ks.Admin, Expires: time.Now().Add(time.Hour)}).Reveal(), 401},
	} {
		status, body, err := s.Ask(t.Context(), "/v1/kalturaBridge", "", c.token)
		require.NoError(t, err)
		require.Equal(t, c.want, status, "%s: %s", c.name, body)
		if status == 200 {
			require.Contains(t, body, "KALTURA_MODE_SAAS", c.name)
		}
	}
	status, body, err := s.Ask(t.Context(), "/v1/kalturaBridge:resync", "{}", b.Session)
	require.NoError(t, err)
	require.Equal(t, 200, status, body)
	status, body, err = s.Ask(t.Context(), "/v1/streams?stream_id=mine", `{"display_name":"mine"}`, b.Session)
	require.NoError(t, err)
	require.Equal(t, 400, status, body)
	require.Contains(t, body, "MANAGED_BY_KALTURA")
}

// diagnostics asks the addresses of the old engine.
func diagnostics(t *testing.T, s *harness.Server) {
	t.Helper()
	ask := func(command string, into any, token ...string) int {
		status, body, err := s.Ask(t.Context(), "/diagnostics/"+command, "", token...)
		require.NoError(t, err)
		require.NotContains(t, body, "&t=", "%s shows a token", command)
		if status == 200 {
			require.NoError(t, json.Unmarshal([]byte(body), into), body)
		}
		return status
	}
	var info map[string]any
	require.Equal(t, 200, ask("info", &info))
	require.Equal(t, "live1.example.com", info["hostName"])
	require.EqualValues(t, 2, info["inputStreamsCount"])
	require.EqualValues(t, 1, info["entriesCount"])
	var entries map[string]struct {
		Inputs map[string]struct {
			Properties struct {
				ID any `json:"Id"`
			} `json:"Properties"`
		} `json:"inputs"`
	}
	require.Equal(t, 200, ask("entries", &entries))
	require.Len(t, entries[entry].Inputs, 2)
	var answer map[string]any
	require.Equal(t, 401, ask("info", &answer, "nonsense"))
	id, err := json.Marshal(entries[entry].Inputs["2"].Properties.ID)
	require.NoError(t, err)
	kill := "killConnection?clientId=" + strings.Trim(string(id), `"`)
	require.NotEqual(t, 200, ask(kill, &answer, harness.ControlToken+"-viewer"), "a viewer may not dismiss publishers")
	require.Equal(t, 200, ask(kill, &answer))
	require.Equal(t, true, answer["Succeed"], "%v", answer)
	harness.Wait(t, patience, "the session has ended", func() (bool, error) {
		return len(eventsOf(t, s, klivev1.EventType_EVENT_TYPE_SESSION_ENDED)) == 1, nil
	})
}

// kalturaPreview is an entry that the public does not see yet.
func kalturaPreview(t *testing.T) {
	b := harness.StartBackend(t, "--preview")
	s := b.Serve(t, "live1.example.com", "", "")
	awaitNode(t, s)
	harness.StartEncoder(t, s, b.PublishURL(t, entry, 0, 1), small)
	awaitRow(t, b, entry, kalturatest.StatusPlayable, patience)
	require.True(t, registered(t, s, entry, 0).GetPreview())
	for _, path := range []string{"/live/" + entry + "/index.m3u8", "/kLive/smil:" + entry + "_all.smil/playlist.m3u8"} {
		for token, want := range map[string]int{"": 403, "nonsense": 403, b.Session: 200, harness.ControlToken: 200, harness.ControlToken + "-viewer": 200} {
			status, body, err := fetchAs(t, s.Play(path), token)
			require.NoError(t, err)
			if want != 200 {
				require.Contains(t, []int{401, 403}, status, "%s as %.8q: %s", path, token, body)
				continue
			}
			require.Equal(t, want, status, "%s as %.8q: %s", path, token, body)
		}
	}
}

// fetchAs fetches an address with a bearer token, or without one.
func fetchAs(t *testing.T, address, token string) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	require.NoError(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

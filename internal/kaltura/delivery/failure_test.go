package delivery

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
)

// failsAfter has the next append carried out and calls it a failure.
type failsAfter struct {
	http.RoundTripper
	done bool
}

func (f *failsAfter) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := f.RoundTripper.RoundTrip(r)
	if err == nil && !f.done && strings.HasSuffix(r.URL.Path, "/appendRecording") {
		f.done = true
		_ = resp.Body.Close()
		resp.Body = io.NopCloser(strings.NewReader(`{"objectType":"KalturaAPIException","code":"INTERNAL_SERVERL_ERROR","message":"Internal server error occurred"}`))
	}
	return resp, err
}

// TestAFailureInTheMiddle is of a rendition whose length nobody tells.
func TestAFailureInTheMiddle(t *testing.T) {
	for name, after := range map[string]bool{"done": true, "not done": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				if after {
					var err error
					h.client, err = client.New(client.Options{URL: "http://backend.invalid", Partner: -5, Secret: secret, Transport: &failsAfter{RoundTripper: h.line}})
					require.NoError(t, err)
				} else {
					h.inject(kalturatest.Fault{Kind: kalturatest.Code, Code: "INTERNAL_SERVERL_ERROR", Action: "appendRecording", Times: 1})
				}
				q, stop := h.start(nil)
				defer stop()
				r := h.recs.begin("rec1", entry, 0)
				h.recs.piece(r, "33", 1, false)
				h.recs.piece(r, "33", 2, true)
				h.recs.end(r)
				time.Sleep(15 * time.Minute)
				require.Equal(t, want("rec1", "33", 1, 2), h.got()[lane1(entry, "33", 0)], "each once")
				first := map[bool]string{true: "33/1 IN_DOUBT", false: "33/1 DELIVERED"}[after]
				require.Equal(t, []string{first, "33/2 DELIVERED"}, states(q, "rec1"))
			})
		})
	}
}

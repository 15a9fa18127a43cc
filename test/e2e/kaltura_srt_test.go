//go:build e2e

package e2e

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/test/e2e/harness"
)

// kalturaSRT is encoders that come by SRT to entries with a passphrase: the stream id in Kaltura's form, with a token or
// with the sealed passphrase, and a backend that answers in time or not.
func kalturaSRT(t *testing.T) {
	const pass = "correct-horse-battery"
	entries := []string{entry, "0_second01", "0_second02"}
	b := harness.StartBackend(t, "--srt-passphrase", pass, "--entry", strings.Join(entries, ","))
	s := b.Serve(t, "live1.example.com", "timeout: 10s", "")
	awaitNode(t, s)
	_, token, _ := strings.Cut(b.PublishURL(t, entry, 0, 1), "&t=")
	token, _, _ = strings.Cut(token, "/")
	address := func(id, passphrase, credential string) string {
		return "srt://" + s.SRT + "?mode=caller&passphrase=" + passphrase + "&streamid=" + url.QueryEscape("#:::e="+id+",st=0,"+credential)
	}
	refused := func(reason string, address string) {
		t.Helper()
		e := harness.StartEncoder(t, s, address, small)
		require.True(t, e.Wait(20*time.Second), "ffmpeg ends when it is refused")
		require.Contains(t, e.Output(), "Input/output error")
		harness.Wait(t, patience, "an event that says why", func() (bool, error) {
			for _, x := range eventsOf(t, s, klivev1.EventType_EVENT_TYPE_PUBLISH_REFUSED) {
				require.NotContains(t, x.String(), token)
				if x.GetReason() == reason {
					return true, nil
				}
			}
			return false, nil
		})
	}

	// The first caller of an entry that nobody has asked for waits in the handshake until the backend has answered.
	refused("BAD_PASSPHRASE", "srt://"+s.SRT+"?mode=caller&streamid="+url.QueryEscape("#:::e="+entry+",st=0,p="+token))
	refused("BAD_TOKEN", address(entry, pass, "p=wrong"))
	harness.StartEncoder(t, s, address(entry, pass, "p="+token), small)
	awaitPlayable(t, s, entry)
	require.True(t, s.Sessions(t, entry)[0].GetLink().GetEncrypted())

	// The passphrase in the address needs no backend to be opened.
	harness.StartEncoder(t, s, address("0_second01", pass, "ep="+kalturatest.SealPassphrase(pass)), small)
	awaitPlayable(t, s, "0_second01")

	// A backend that needs longer than an encoder waits: it is told to try again, and then let in.
	end := b.Inject(t, `{"kind":"slow","service":"livestream","action":"get","delay":"4s","times":1}`)
	refused("BACKEND_UNAVAILABLE", address("0_second02", pass, "p="+token))
	harness.Wait(t, patience, "the answer", func() (bool, error) {
		e := harness.StartEncoder(t, s, address("0_second02", pass, "p="+token), small)
		return !e.Wait(3 * time.Second), nil
	})
	end()
	awaitPlayable(t, s, "0_second02")
}

package cli

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/config"
	"github.com/klive-media/klive/internal/kaltura/ks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func parse(t *testing.T, out io.Writer, args ...string) (*kong.Context, error) {
	t.Helper()
	var cli struct {
		Kaltura Command `cmd:""`
	}
	parser, err := kong.New(&cli, kong.Writers(out, io.Discard))
	require.NoError(t, err)
	return parser.Parse(append([]string{"kaltura", "simulate", "--listen", "127.0.0.1:0"}, args...))
}

// start runs the command like the program does and returns what it printed
// and its end.
func start(t *testing.T, args ...string) (printed string, stop func() error) {
	t.Helper()
	out, in := io.Pipe()
	parsed, err := parse(t, in, args...)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	parsed.BindTo(ctx, (*context.Context)(nil))
	ended := make(chan error, 1)
	go func() {
		err := parsed.Run()
		_ = in.CloseWithError(io.EOF)
		ended <- err
	}()
	buf := make([]byte, 1<<16)
	n, err := out.Read(buf)
	if err != nil { // it ended before it printed
		return "", func() error { defer cancel(); return <-ended }
	}
	return string(buf[:n]), func() error { cancel(); return <-ended }
}

func TestWhatIsPrintedWorks(t *testing.T) {
	printed, stop := start(t, "--entries", "5", "--profile", "hd", "--record", "per-session", "--dvr", "60", "--hostname", "ms1",
		"--directory", t.TempDir(), "--shared-directory", t.TempDir(), "--ecdn", "--legacy", "--srt-passphrase", "mySrtPassphrase1")
	base := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(printed)
	secret := regexp.MustCompile(`admin secret +(\w+)`).FindStringSubmatch(printed)[1]
	token := regexp.MustCompile(`e=0_simulate&i=0&t=(\w+)`).FindStringSubmatch(printed)[1]
	require.Contains(t, printed, "… and 2 more entries")

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	call := func(service, action string, form url.Values) string {
		form.Set("format", "1")
		resp, err := client.PostForm(base+"/api_v3/service/"+service+"/action/"+action, form)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(body)
	}
	session := strings.Trim(call("session", "start", url.Values{"secret": {secret}, "partnerId": {"102"}, "type": {"2"}}), `"`)
	require.True(t, strings.HasPrefix(session, "djJ8"), session)
	answer := call("liveStream", "authenticate", url.Values{"ks": {session}, "entryId": {"0_simulate"}, "token": {token}, "hostname": {"ms1"}, "mediaServerIndex": {"0"}})
	require.Contains(t, answer, `"dvrWindow":60`)
	require.Contains(t, answer, `"recordStatus":2`)
	require.Contains(t, answer, `"srtPass":"mySrtPassphrase1"`)
	require.NoError(t, stop())
}

func TestWrongFlagsSaySo(t *testing.T) {
	for want, args := range map[string][]string{
		"is no entry id":          {"--entry", "lobby"},
		"--partner is a positive": {"--partner", "0"},
		"--quota is at least":     {"--quota", "0"},
		"--entries is between":    {"--entries", "100000"},
		"--srt-passphrase has 10": {"--srt-passphrase", "ninechars"},
	} {
		_, err := parse(t, io.Discard, args...)
		require.ErrorContains(t, err, want)
	}
	_, stop := start(t, "--listen", "nowhere")
	require.ErrorContains(t, stop(), "listen on nowhere")
}

// The printed section is a configuration that loads and names the simulator.
func TestPrintedConfigurationLoads(t *testing.T) {
	shared := t.TempDir()
	for _, c := range []struct {
		args   []string
		want   config.Kaltura
		shared bool
	}{
		{nil, config.Kaltura{Mode: "saas", PartnerID: -5, Delivery: "upload"}, false},
		{[]string{"--shared-directory", shared, "--hostname", "ms1.example.com"},
			config.Kaltura{Mode: "saas", PartnerID: -5, Delivery: "auto", Hostname: "ms1.example.com", SharedDirectory: shared}, true},
		{[]string{"--ecdn", "--partner", "205", "--preview"}, config.Kaltura{Mode: "ecdn", PartnerID: 205, Delivery: "auto"}, false},
	} {
		printed, stop := start(t, append(c.args, "--secret", "abc\"d")...)
		base := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(printed)
		_, section, _ := strings.Cut(printed, "kaltura:\n")
		section, _, _ = strings.Cut(section, "\n\n")
		file := filepath.Join(t.TempDir(), "klive.yaml")
		require.NoError(t, os.WriteFile(file, []byte("kaltura:\n"+section), 0o600))
		loaded, err := config.Load(config.Options{File: file, Env: []string{}})
		require.NoError(t, err)
		require.NoError(t, stop())
		got := loaded.Kaltura
		require.Equal(t, "abc\"d", got.AdminSecret.Reveal())
		require.Equal(t, base, got.URL)
		require.Equal(t, c.shared, got.SharedDisk())
		require.Equal(t, c.want, config.Kaltura{Mode: got.Mode, PartnerID: got.PartnerID, Delivery: got.Delivery, Hostname: got.Hostname, SharedDirectory: got.SharedDirectory})
		token := regexp.MustCompile(`KLIVE_CTL_TOKEN=(\S+)`).FindStringSubmatch(printed)[1]
		session, err := ks.Verify(token, time.Now(), func(int) []ks.Secret { return []ks.Secret{"abc\"d"} })
		require.NoError(t, err)
		require.True(t, session.IsAdmin())
		require.Equal(t, c.want.PartnerID, session.Partner)
	}
}

package cli

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
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
		"--directory", t.TempDir(), "--shared-directory", t.TempDir(), "--ecdn", "--legacy")
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
	require.NoError(t, stop())
}

func TestWrongFlagsSaySo(t *testing.T) {
	for want, args := range map[string][]string{
		"is no entry id":          {"--entry", "lobby"},
		"--partner is a positive": {"--partner", "0"},
		"--entries is between":    {"--entries", "100000"},
	} {
		_, err := parse(t, io.Discard, args...)
		require.ErrorContains(t, err, want)
	}
	_, stop := start(t, "--listen", "nowhere")
	require.ErrorContains(t, stop(), "listen on nowhere")
}

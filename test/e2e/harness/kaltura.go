package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/klive-media/klive/internal/kaltura/kalturatest"
)

// ControlToken is the token of the control API of servers that Backend.Serve starts.
const ControlToken = "e2e-ops"

// Backend is a simulated Kaltura backend: `klive kaltura simulate` on a free port, with switches to look at and to break.
type Backend struct {
	URL     string // http://host:port
	Session string // an admin session of the partner the media servers act as
	Dir     string // holds shared/, the disk shared with the media servers, and vod/, what the backend keeps

	printed     string
	section     string // the section kaltura of a configuration that fits
	rtmp, media string // where the first server will listen
	served      bool
	process     *Process
	client      *http.Client
}

// StartBackend starts a simulated backend until the test's end. Its only entry is 0_simulate, of partner 102, unless
// flags say otherwise.
func StartBackend(t *testing.T, flags ...string) *Backend {
	t.Helper()
	b := &Backend{Dir: t.TempDir(), client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}}
	ports, err := freePorts(2)
	if err == nil {
		b.rtmp, b.media = ports[0], ports[1]
		err = b.start(t.Context(), flags)
	}
	if err != nil {
		t.Fatalf("start the simulated backend: %v", err)
	}
	t.Cleanup(func() {
		b.process.KillGroup()
		if t.Failed() {
			t.Logf("the backend's output ends with:\n%s", b.process.Tail(2000))
		}
	})
	return b
}

var (
	printedURL     = regexp.MustCompile(`answers at (http://\S+)`)
	printedSection = regexp.MustCompile(`(?s)\nkaltura:\n.*?\n\n`)
	printedSession = regexp.MustCompile(`KLIVE_CTL_TOKEN=(\S+)`)
	printedServer  = regexp.MustCompile(`(rtmp://\S+[?&]e=([0-9A-Za-z_]+)\S*)\n\s+(\S+)`)
)

func (b *Backend) start(ctx context.Context, flags []string) error {
	binary, err := Binary()
	if err != nil {
		return err
	}
	arguments := []string{"kaltura", "simulate", "--listen", "127.0.0.1:0", "--rtmp", b.rtmp, "--media-url", "http://" + b.media,
		"--directory", filepath.Join(b.Dir, "vod"), "--shared-directory", filepath.Join(b.Dir, "shared")}
	cmd := exec.Command(binary, append(arguments, flags...)...)
	cmd.Env = environment()
	b.process, err = StartProcess(cmd, filepath.Join(b.Dir, "simulate.log"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = Until(ctx, 10*time.Millisecond, func() (bool, error) {
		if b.process.Ended() {
			return false, fmt.Errorf("it ended: %w: %s", b.process.Err(), b.process.Tail(2000))
		}
		b.printed = b.process.Output()
		return strings.Contains(b.printed, "To look and to break"), nil
	})
	if err != nil {
		b.process.KillGroup()
		return err
	}
	url, session := printedURL.FindStringSubmatch(b.printed), printedSession.FindStringSubmatch(b.printed)
	if b.section = strings.TrimSpace(printedSection.FindString(b.printed)); url == nil || session == nil || b.section == "" {
		return errors.New("what it printed cannot be read: " + b.printed)
	}
	b.URL, b.Session = url[1], session[1]
	return nil
}

// Serve starts a media server of the backend under the host name. The first one listens where the backend's addresses
// point to. The section of the configuration that the backend printed is completed by the lines given.
func (b *Backend) Serve(t *testing.T, host, lines, config string) *Server {
	t.Helper()
	text := b.section + "\n  hostname: " + host + "\n"
	for line := range strings.Lines(lines) {
		text += "  " + strings.TrimSpace(line) + "\n"
	}
	text += "auth: { tokens: [ { name: ops, token: " + ControlToken + ", role: admin }, { name: wall, token: " + ControlToken + "-viewer, role: viewer } ] }\n" + config
	o := Options{Dir: t.TempDir(), Config: text, Token: ControlToken}
	if !b.served {
		o.RTMP, o.Media, b.served = b.rtmp, b.media, true
	}
	return StartWith(t, o)
}

// PublishURL is the address the backend hands out for an entry, as ffmpeg takes it: of a server index, and of the n-th
// stream of that encoder.
func (b *Backend) PublishURL(t *testing.T, entry string, index, n int) string {
	t.Helper()
	for _, found := range printedServer.FindAllStringSubmatch(b.printed, -1) {
		if found[2] == entry {
			key := strings.TrimSuffix(found[3], "_1")
			return strings.Replace(found[1], "&i=0", fmt.Sprintf("&i=%d", index), 1) + fmt.Sprintf("/%s_%d", key, n)
		}
	}
	t.Fatalf("the backend printed no address for %s", entry)
	return ""
}

// PublishURLAt is PublishURL at a server that the backend does not point to.
func (b *Backend) PublishURLAt(t *testing.T, s *Server, entry string, index, n int) string {
	t.Helper()
	return strings.Replace(b.PublishURL(t, entry, index, n), "//"+b.rtmp+"/", "//"+s.RTMP+"/", 1)
}

// Master is where players get an entry's master playlist: the one the backend writes.
func (b *Backend) Master(entry string) string {
	return b.URL + "/p/102/sp/10200/playManifest/entryId/" + entry + "/format/applehttp/protocol/http/a.m3u8"
}

// State is everything the backend knows.
func (b *Backend) State(t *testing.T) kalturatest.State {
	t.Helper()
	var s kalturatest.State
	b.switches(t, http.MethodGet, "state", "", &s)
	return s
}

// Row is the registration of an entry at a server index; the zero value when there is none.
func (b *Backend) Row(t *testing.T, entry, index string) kalturatest.Registration {
	t.Helper()
	r, _ := b.State(t).Registration(entry, index)
	return r
}

// Inject makes the backend misbehave, and returns how that ends. A fault is written as for its own switch:
// {"kind":"down"}.
func (b *Backend) Inject(t *testing.T, fault string) (end func()) {
	t.Helper()
	var made struct {
		ID int `json:"id"`
	}
	b.switches(t, http.MethodPost, "faults", fault, &made)
	return func() { b.switches(t, http.MethodDelete, fmt.Sprintf("faults/%d", made.ID), "", nil) }
}

// Block blocks or unblocks a partner.
func (b *Backend) Block(t *testing.T, partner int, block bool) {
	t.Helper()
	verb := "unblock"
	if block {
		verb = "block"
	}
	b.switches(t, http.MethodPost, fmt.Sprintf("partners/%d:%s", partner, verb), "", nil)
}

// switches calls one of the simulator's own switches.
func (b *Backend) switches(t *testing.T, method, path, body string, into any) {
	t.Helper()
	// Not the test's context: faults are ended by cleanups too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, b.URL+"/simulator/"+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	res, err := b.client.Do(req)
	if err != nil {
		t.Fatalf("%s %s of the backend: %v", method, path, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", res.StatusCode, text)
	}
	if err == nil && into != nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s %s of the backend: %v", method, path, err)
	}
}

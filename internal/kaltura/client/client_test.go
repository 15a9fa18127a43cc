package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/kaltura/ks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret  = ks.Secret("very-secret-indeed")
	partner = 102
	entry   = "0_rkij47dr"
	host    = "ms1.example.com"
)

func backend(t *testing.T, change func(*kalturatest.Options)) *kalturatest.Backend {
	t.Helper()
	features := []string{kalturatest.FeatureLive, kalturatest.FeatureTranscode, kalturatest.FeatureMediaServer, kalturatest.FeatureServerNode}
	o := kalturatest.Options{
		Partners: []kalturatest.Partner{{ID: -5, Secret: secret}, {ID: partner, Secret: secret, Features: features}},
		Entries:  []kalturatest.Entry{{ID: entry, Partner: partner, Token: "dj94kfit", Profile: kalturatest.ProfileTranscode, Record: kalturatest.RecordAppended, DVR: true, DVRWindow: 120}},
		MediaURL: "http://127.0.0.1:8080",
	}
	if change != nil {
		change(&o)
	}
	b, err := kalturatest.New(o)
	require.NoError(t, err)
	return b
}

// direct carries requests to a handler without a network, for virtual time.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.WroteHeaders != nil {
		trace.WroteHeaders()
	}
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				panic(p)
			}
			resp, err = nil, io.ErrUnexpectedEOF
		}
	}()
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// watcher writes down what the client does.
type watcher struct {
	mu       sync.Mutex // guards the fields below
	outcomes []string
	breaker  []bool
	renewed  int
}

func (w *watcher) Called(service, action, outcome string, _ time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outcomes = append(w.outcomes, service+"."+action+" "+outcome)
}
func (w *watcher) BreakerChanged(open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.breaker = append(w.breaker, open)
}
func (w *watcher) SessionRenewed() { w.mu.Lock(); defer w.mu.Unlock(); w.renewed++ }

func newClient(t *testing.T, handler http.Handler, change func(*Options)) (*Client, *watcher) {
	t.Helper()
	w := &watcher{}
	o := Options{URL: "http://backend.invalid/api_v3/", Partner: -5, Secret: secret, ClientTag: "MediaServer-" + host, Transport: direct{handler}, Observer: w}
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	require.NoError(t, err)
	return c, w
}

func inject(t *testing.T, b *kalturatest.Backend, f kalturatest.Fault) {
	t.Helper()
	_, err := b.Inject(f)
	require.NoError(t, err)
}

func TestTheLifeOfABroadcastOverHTTP(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"json, signed here":           func(*Options) {},
		"form, version 1":             func(o *Options) { o.Encoding, o.SessionVersion = Form, 1 },
		"json, started, eCDN partner": func(o *Options) { o.StartSession, o.Partner = true, partner },
	} {
		t.Run(name, func(t *testing.T) {
			shared := t.TempDir()
			b := backend(t, func(o *kalturatest.Options) { o.SharedDirectory = shared })
			server := httptest.NewServer(b)
			defer server.Close()
			ctx := t.Context()
			c, seen := newClient(t, b, func(o *Options) { o.URL, o.Transport = server.URL, nil; change(o) })
			defer c.Close()

			node := NewNode{Type: "KalturaWowzaMediaServerNode", Name: "one", Host: host, Application: "kLive"}
			known, err := c.ReportNode(ctx, node)
			require.NoError(t, err)
			found, ok, err := c.FindNode(ctx, host)
			require.NoError(t, err)
			require.True(t, ok)
			require.EqualValues(t, NodeActive, found.Status)
			require.Equal(t, known.ID, found.ID)

			discovered, err := c.GetEntry(ctx, 0, entry)
			require.NoError(t, err)
			require.EqualValues(t, partner, discovered.Partner)
			at := Place{Entry: entry, Host: host}
			e, err := c.Authenticate(ctx, partner, at, "dj94kfit", "kLive")
			require.NoError(t, err)
			require.True(t, bool(e.DVR))
			require.EqualValues(t, 120, e.DVRWindow)
			require.EqualValues(t, StatusAuthenticated, e.LiveStatus)
			require.NoError(t, c.SetBroadcastStart(ctx, partner, entry, 1_700_000_000))
			_, err = c.Register(ctx, partner, at, "kLive", StatusBroadcasting, true)
			require.NoError(t, err)
			e, err = c.Register(ctx, partner, at, "kLive", StatusPlayable, true)
			require.NoError(t, err)
			require.EqualValues(t, StatusPlayable, e.LiveStatus)
			require.EqualValues(t, 1_700_000_000, e.CurrentStart)
			require.NotEmpty(t, e.RecordedEntry)
			require.Equal(t, []Int{6000, 1, 2, 1}, []Int{e.SegmentDuration, e.ViewMode, e.RecordingStatus, e.Record})
			require.EqualValues(t, "32,33,34,35", e.FlavorParams)

			rows, err := c.Registrations(ctx, partner, entry)
			require.NoError(t, err)
			require.Equal(t, found.ID, rows[0].Node)
			require.NoError(t, c.UpdateStreams(ctx, partner, rows[0].ID, []Stream{{Flavor: "32", Bitrate: 2_700_000, Width: 1280, Height: 720, Codec: "h264", FrameRate: 29.97, Language: "eng"}}))
			row, _ := b.State().Registration(entry, kalturatest.IndexPrimary)
			require.Equal(t, "30", row.Streams[0]["frameRate"])

			var assets List[Asset]
			require.NoError(t, c.Do(ctx, Call{Service: "flavorAsset", Action: "list", Partner: partner, Idempotent: true, Params: Params{
				"filter": Params{"objectType": "KalturaLiveAssetFilter", "entryIdEqual": entry}, "pager": wholePage()}}, &assets))
			require.Len(t, assets.Objects, 4)
			require.True(t, assets.Objects[0].IsAnchor())
			require.False(t, assets.Objects[1].IsAnchor())
			template, err := c.Template(ctx, entry+"_1", `{"height":"720"}`)
			require.NoError(t, err)
			require.Contains(t, string(template), entry+"_33")
			_, err = c.Template(ctx, entry+"_9", "")
			require.True(t, HasCode(err, "INGEST_NOT_FOUND_IN_CONVERSION_PROFILE"), "%v", err)
			require.ErrorContains(t, err, `"0_rkij47dr_9" is not in conversion profile`)

			appendPieces(t, c, b, shared, string(assets.Objects[0].ID))

			require.NoError(t, c.Unregister(ctx, partner, at))
			require.NoError(t, c.Unregister(ctx, partner, at), "once more is fine")
			_, err = c.Authenticate(ctx, partner, at, "wrong", "kLive")
			require.EqualError(t, err, "liveStream.authenticate: LIVE_STREAM_INVALID_TOKEN: Invalid token supplied for live entry [0_rkij47dr]")
			refused, _ := errors.AsType[*Error](err)
			require.Equal(t, entry, refused.Args["ENTRY_ID"])
			require.Equal(t, 1, seen.renewed)
			require.Equal(t, "MediaServer-"+host, b.State().Calls[3].ClientTag)
		})
	}
}

// appendPieces appends one piece by path, where that is allowed, and one by
// upload.
func appendPieces(t *testing.T, c *Client, b *kalturatest.Backend, shared, asset string) {
	ctx := t.Context()
	path := filepath.Join(shared, "a.mp4")
	require.NoError(t, os.WriteFile(path, []byte("0123456789"), 0o600))
	_, err := c.Append(ctx, partner, Segment{Entry: entry, Asset: asset, Duration: 900 * time.Second, Path: path})
	if c.options.Partner == -5 {
		require.NoError(t, err)
	} else {
		require.True(t, HasCode(err, "LOCAL_FILE_NOT_FOUND"), "the path was silently nulled: %v", err)
	}
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	u, err := c.NewUpload(ctx, partner, "a.mp4", 10)
	require.NoError(t, err)
	id := string(u.ID)
	_, err = c.UploadChunk(ctx, partner, id, file, 0, 4, false)
	require.NoError(t, err)
	inject(t, b, kalturatest.Fault{Kind: kalturatest.Lost, Action: "upload", Times: 1})
	u, err = c.UploadChunk(ctx, partner, id, file, 4, 6, true)
	require.NoError(t, err, "the lost answer of the last chunk is asked for")
	require.EqualValues(t, UploadFull, u.Status)
	require.EqualValues(t, 10, u.Uploaded)
	_, err = c.GetUpload(ctx, partner, "0_nothing")
	require.True(t, HasCode(err, "UPLOAD_TOKEN_NOT_FOUND"), "by list, too: %v", err)
	e, err := c.Append(ctx, partner, Segment{Entry: entry, Asset: asset, Duration: 90 * time.Second, Last: true, Upload: id})
	require.NoError(t, err)
	require.NotZero(t, e.LastElapsed)
	require.Equal(t, e.LastElapsed, e.RecordedLength)
	last := b.State().Segments[len(b.State().Segments)-1]
	require.Equal(t, "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882", last.SHA256)
}

func TestWhatIsRepeatedAndWhatNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backend(t, nil)
		c, seen := newClient(t, b, nil)
		get := func() error { _, err := c.GetEntry(t.Context(), partner, entry); return err }
		for _, f := range []kalturatest.Fault{
			{Kind: kalturatest.Down}, {Kind: kalturatest.Lost}, {Kind: kalturatest.Status, Status: 503}, {Kind: kalturatest.HTML}, {Kind: kalturatest.Empty},
			{Kind: kalturatest.Code, Code: "LOCK_TIMED_OUT"}, {Kind: kalturatest.Code, Code: "INTERNAL_SERVERL_ERROR"},
		} {
			f.Times = 2
			inject(t, b, f)
			require.NoError(t, get(), f.Kind)
			f.Times = 3
			inject(t, b, f)
			require.Error(t, get(), f.Kind)
			require.NoError(t, get()) // so that the breaker stays out of it
		}
		before := len(seen.outcomes)
		inject(t, b, kalturatest.Fault{Kind: kalturatest.Status, Status: 404, Times: 1})
		require.ErrorContains(t, get(), "status 404")
		inject(t, b, kalturatest.Fault{Kind: kalturatest.Code, Code: "SERVICE_FORBIDDEN", Times: 1})
		require.True(t, HasCode(get(), "SERVICE_FORBIDDEN"))
		require.Len(t, seen.outcomes, before+2, "neither passes by waiting")

		inject(t, b, kalturatest.Fault{Kind: kalturatest.Lost, Action: "appendRecording", Times: 1})
		_, err := c.Append(t.Context(), partner, Segment{Entry: entry, Asset: "x", Duration: time.Second, Path: "/x"})
		lost, ok := errors.AsType[*Unavailable](err)
		require.True(t, ok, "%v", err)
		require.True(t, lost.Doubt)
		require.Equal(t, CauseNetwork, lost.Cause)
		require.Equal(t, 1, b.State().Count("liveStream.appendRecording"))
	})
}

func TestNoConnectionLeavesNoDoubt(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	c, _ := newClient(t, nil, func(o *Options) { o.URL, o.Transport = server.URL, nil })
	defer c.Close()
	_, err := c.Append(t.Context(), partner, Segment{Entry: entry})
	gone, ok := errors.AsType[*Unavailable](err)
	require.True(t, ok)
	require.False(t, gone.Doubt)
	require.NotNil(t, gone.Unwrap())
	require.NotContains(t, err.Error(), "api_v3")
}

func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backend(t, nil)
		c, _ := newClient(t, b, nil)
		inject(t, b, kalturatest.Fault{Kind: kalturatest.Slow, Delay: time.Minute, Times: 1})
		began := time.Now()
		_, err := c.GetEntry(t.Context(), partner, entry)
		require.NoError(t, err, "the second attempt is answered")
		require.GreaterOrEqual(t, time.Since(began), DefaultTimeout)
		require.Less(t, time.Since(began), DefaultTimeout+time.Second)

		inject(t, b, kalturatest.Fault{Kind: kalturatest.Slow, Delay: time.Minute, Times: 1})
		err = c.Do(t.Context(), Call{Service: "liveStream", Action: "get", Timeout: time.Second, Params: Params{"entryId": entry}}, nil)
		slow, ok := errors.AsType[*Unavailable](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, CauseTimeout, slow.Cause)

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		inject(t, b, kalturatest.Fault{Kind: kalturatest.Slow, Delay: time.Minute, Times: 1})
		began = time.Now()
		_, err = c.GetEntry(ctx, partner, entry)
		require.Error(t, err)
		require.Less(t, time.Since(began), 2*time.Minute)
	})
}

func TestBatch(t *testing.T) {
	b := backend(t, nil)
	c, seen := newClient(t, b, nil)
	get := func(id string) Call {
		return Call{Service: "liveStream", Action: "get", Partner: partner, Idempotent: true, Params: Params{"entryId": id}}
	}
	_, err := c.GetEntry(t.Context(), partner, entry)
	require.NoError(t, err)
	b.RevokeSessions()
	results, err := c.Batch(t.Context(), get(entry), get("0_nobodyis"), get(Placeholder(1, "id")), get(Placeholder(2, "id")))
	require.NoError(t, err)
	require.Equal(t, 2, seen.renewed, "the revoked session was replaced at once")
	var first, third Entry
	require.NoError(t, results[0].Decode(&first))
	require.NoError(t, results[2].Decode(&third))
	require.Equal(t, first.ID, third.ID)
	require.True(t, HasCode(results[1].Decode(nil), "ENTRY_ID_NOT_FOUND"))
	require.Error(t, results[3].Err)
	require.Equal(t, []string{"multirequest. INVALID_KS", "liveStream.get ok", "liveStream.get ENTRY_ID_NOT_FOUND", "liveStream.get ok", "liveStream.get " + outcomeOf(results[3].Err), "multirequest. ok"},
		seen.outcomes[1:], "each call is seen, once it was carried out")
	none, err := c.Batch(t.Context())
	require.NoError(t, err)
	require.Empty(t, none)
	_, err = c.Batch(t.Context(), Call{File: &File{}})
	require.Error(t, err)
	inject(t, b, kalturatest.Fault{Kind: kalturatest.Code, Code: "INTERNAL_SERVERL_ERROR", Action: "get", Times: 1})
	results, err = c.Batch(t.Context(), get(entry))
	require.NoError(t, err)
	require.True(t, HasCode(results[0].Err, codeInternal))
}

func TestSecretsStayOutOfErrors(t *testing.T) {
	var token string
	c, _ := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var p map[string]any
		_ = json.NewDecoder(r.Body).Decode(&p)
		token, _ = p["ks"].(string)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"objectType":"KalturaAPIException","code":"INVALID_KS","message":"Invalid KS \"%s\"","args":{"KSID":"%s"}}`, token, token)
	}), nil)
	_, err := c.GetEntry(t.Context(), partner, entry)
	require.NotEmpty(t, token)
	refused, _ := errors.AsType[*Error](err)
	require.NotContains(t, fmt.Sprintf("%v %+v %v", err, refused, refused.Args), token)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", c.options, c.options, c.options), secret.Reveal())
	require.ErrorContains(t, c.Do(t.Context(), Call{Params: Params{"token": secret}}, nil), "cannot be sent", "a hidden text is never sent by mistake")
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{}, {URL: "backend"}, {URL: "ftp://x", Secret: "x"}, {URL: "http://x"}, {URL: "http://x", Secret: "x", SessionVersion: 3}} {
		_, err := New(o)
		require.Error(t, err)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"too long":     func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte(" "), maxAnswer+1)) },
		"redirect":     func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"half":         func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"id":`) },
		"wrong shape":  func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `[1]`) },
		"wrong scalar": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"partnerId":{}}`) },
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newClient(t, handler, nil)
			var e Entry
			err := c.Do(t.Context(), Call{Service: "liveStream", Action: "get"}, &e)
			_, ok := errors.AsType[*Unavailable](err)
			require.True(t, ok, "%v", err)
		})
	}
	c, _ := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `[{},{}]`) }), nil)
	_, err := c.Batch(t.Context(), Call{Service: "a", Action: "b"})
	require.ErrorContains(t, err, "2 answers to 1 calls")
}

// Where a redirect leads is said, without path, query and password.
func TestRedirects(t *testing.T) {
	for to, want := range map[string]string{
		"https://www.example.com/api_v3/service/liveStream?ks=1": "status 301: the backend answers at https://www.example.com; set kaltura.url to that",
		"https://user:secret@backend.invalid:8443/":              "status 301: the backend answers at https://backend.invalid:8443; set kaltura.url to that",
		"/elsewhere":               "status 301",
		"http://backend.invalid/x": "status 301",
		"":                         "status 301",
	} {
		t.Run(to, func(t *testing.T) {
			c, _ := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", to)
				w.WriteHeader(http.StatusMovedPermanently)
			}), nil)
			err := c.Do(t.Context(), Call{Service: "liveStream", Action: "get"}, nil)
			require.EqualError(t, err, "liveStream.get: no answer from the backend (status): "+want)
		})
	}
}

func TestFilesThatAreNone(t *testing.T) {
	serve := func(contentType, body string) error {
		c, _ := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, _ = io.WriteString(w, body)
		}), nil)
		_, err := c.Fetch(t.Context(), Call{Service: "wowza_liveConversionProfile", Action: "serve"})
		return err
	}
	require.NoError(t, serve("text/xml", "<?xml version=\"1.0\"?><Root/>"))
	require.ErrorContains(t, serve("text/xml", ""), "empty")
	require.ErrorContains(t, serve("text/html", "<h1>sorry"), "HTML")
	require.True(t, HasCode(serve("application/json", `{"objectType":"KalturaAPIException","code":"X","message":"y","args":[]}`), "X"))
	require.True(t, HasCode(serve("text/xml", `<?xml version="1.0"?><xml><result><error><code>X</code><message>y</message></error></result></xml>`), "X"))
	require.ErrorContains(t, serve("text/xml", `<xml><result>1</result></xml>`), "instead of a file")
	require.True(t, strings.Contains(serve("text/xml", "").Error(), "serve"))
}

// Plugins of the backend name their kinds of rows, where servers have numbers.
func TestRegistrationsOfPlugins(t *testing.T) {
	var l List[Registration]
	require.NoError(t, json.Unmarshal([]byte(`{"objects":[{"id":1,"serverType":"sip.SIP_SERVER"},{"id":2,"serverType":0},{"id":3,"serverType":"1"}]}`), &l))
	require.Equal(t, []Text{"sip.SIP_SERVER", "0", "1"}, []Text{l.Objects[0].Index, l.Objects[1].Index, l.Objects[2].Index})
}

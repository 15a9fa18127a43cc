package web

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server for the length of the test.
func serve(t *testing.T, o Options) *Server {
	t.Helper()
	o.Listen = "127.0.0.1:0"
	s, err := Listen(t.Context(), o)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	return s
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	r, err := c.Get(url)
	require.NoError(t, err)
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return r, string(body)
}

func says(word string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, word+" "+r.Proto) })
}

func client(t *testing.T, set func(*http.Transport)) *http.Client {
	tr := &http.Transport{}
	if set != nil {
		set(tr)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestMountsAreAskedInOrder(t *testing.T) {
	s := serve(t, Options{Mounts: []Mount{
		{Prefix: "/live/", Action: "whip", Handler: says("whip")},
		{Prefix: "/live/", Handler: says("hls")},
	}})
	c := client(t, nil)
	for path, want := range map[string]string{
		"/live/lobby/index.m3u8":    "hls HTTP/1.1",
		"/live/lobby_1/whip":        "whip HTTP/1.1",
		"/live/lobby_1/whip/abc":    "whip HTTP/1.1",
		"/live/whip":                "hls HTTP/1.1",
		"/live/lobby/whipped":       "hls HTTP/1.1",
		"/live/lobby/1/whip/x.m3u8": "hls HTTP/1.1",
	} {
		_, body := get(t, c, "http://"+s.Addr().String()+path)
		require.Equal(t, want, body, path)
	}
	r, body := get(t, c, "http://"+s.Addr().String()+"/")
	require.Equal(t, 200, r.StatusCode)
	require.Contains(t, body, "/live/{id}/")
	r, _ = get(t, c, "http://"+s.Addr().String()+"/nothing")
	require.Equal(t, 404, r.StatusCode)
}

func TestClearTextHTTP2(t *testing.T) {
	s := serve(t, Options{Mounts: []Mount{{Prefix: "/live/", Handler: says("hls"), Viewers: true}}})
	c := client(t, func(tr *http.Transport) {
		tr.Protocols = new(http.Protocols)
		tr.Protocols.SetUnencryptedHTTP2(true)
	})
	_, body := get(t, c, "http://"+s.Addr().String()+"/live/x/")
	require.Equal(t, "hls HTTP/2.0", body)
	require.Equal(t, 1, s.Stats().Viewers())
}

func TestTLSSpeaksHTTP2AndHTTP1(t *testing.T) {
	cert, key := certificate(t)
	s := serve(t, Options{CertFile: cert, KeyFile: key, Mounts: []Mount{{Prefix: "/live/", Handler: says("hls"), Viewers: true}}})
	for _, http2 := range []bool{true, false} {
		c := client(t, func(tr *http.Transport) {
			tr.ForceAttemptHTTP2 = http2
			tr.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		})
		_, body := get(t, c, "https://"+s.Addr().String()+"/live/x/")
		require.Equal(t, map[bool]string{true: "hls HTTP/2.0", false: "hls HTTP/1.1"}[http2], body)
	}
	require.Equal(t, 2, s.Stats().Viewers())
}

func TestMissingCertificateIsNamed(t *testing.T) {
	_, err := Listen(t.Context(), Options{Listen: "127.0.0.1:0", CertFile: "/nowhere.pem", KeyFile: "/nowhere.key"})
	require.ErrorContains(t, err, "media_http.tls")
}

func TestViewersAreBounded(t *testing.T) {
	s := serve(t, Options{MaxViewers: 1, Mounts: []Mount{
		{Prefix: "/live/", Action: "whip", Handler: says("whip")},
		{Prefix: "/live/", Handler: says("hls"), Viewers: true},
	}})
	first, second := client(t, nil), client(t, nil)
	url := "http://" + s.Addr().String() + "/live/x/"
	for range 3 {
		r, _ := get(t, first, url)
		require.Equal(t, 200, r.StatusCode)
	}
	r, body := get(t, second, url)
	require.Equal(t, 503, r.StatusCode)
	require.Equal(t, "5", r.Header.Get("Retry-After"))
	require.Contains(t, body, "as many viewers as it is allowed to")
	r, _ = get(t, second, url+"whip")
	require.Equal(t, 200, r.StatusCode, "publishers are not viewers")
	require.Equal(t, 1, s.Stats().Viewers())
	require.EqualValues(t, 1, s.Stats().Refused())

	first.CloseIdleConnections()
	require.Eventually(t, func() bool { return s.Stats().Viewers() == 0 }, 5*time.Second, time.Millisecond)
	r, _ = get(t, second, url)
	require.Equal(t, 200, r.StatusCode)
}

func TestCORS(t *testing.T) {
	const page = "https://tv.example"
	for name, c := range map[string]struct {
		origins  []string
		origin   string
		wantFrom string
		wantVary string
	}{
		"any":          {[]string{"*"}, page, "*", ""},
		"any, no page": {[]string{"*"}, "", "*", ""},
		"listed":       {[]string{"https://a.example", page}, page, page, "Origin"},
		"not listed":   {[]string{"https://a.example"}, page, "", "Origin"},
		"off":          {nil, page, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Server{mounts: []mount{}}
			m := Mount{Prefix: "/live/", Handler: says("hls"), Expose: "Location", Methods: "POST"}
			s.mounts = []mount{{Mount: m, cors: newCORS(c.origins, m)}}
			s.log = slog.New(slog.DiscardHandler)

			r := httptest.NewRequest(http.MethodGet, "/live/x", nil)
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			require.Equal(t, 200, w.Code)
			require.Equal(t, c.wantFrom, w.Header().Get("Access-Control-Allow-Origin"))
			require.Equal(t, c.wantVary, w.Header().Get("Vary"))
			require.Equal(t, c.wantFrom != "", w.Header().Get("Access-Control-Expose-Headers") == "Location")

			r.Method = http.MethodOptions
			r.Header.Set("Access-Control-Request-Method", "POST")
			w = httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if c.origins == nil {
				require.Equal(t, 200, w.Code, "without cors the mount answers OPTIONS")
				return
			}
			require.Equal(t, 204, w.Code)
			require.Equal(t, c.wantFrom != "", w.Header().Get("Access-Control-Allow-Methods") == "POST")
		})
	}
}

// What a request announces and never sends must not hold the connection.
func TestAnnouncedBodiesAreBounded(t *testing.T) {
	read := make(chan error, 1)
	s := serve(t, Options{Mounts: []Mount{
		{Prefix: "/live/", Action: "whip", MaxBody: 4, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			read <- err
		})},
		{Prefix: "/live/", Handler: says("hls")},
	}})
	for _, request := range []string{
		"GET /live/x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		"GET /live/x/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
	} {
		c, err := net.Dial("tcp", s.Addr().String())
		require.NoError(t, err)
		_, err = io.WriteString(c, request)
		require.NoError(t, err)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
		answer, err := io.ReadAll(c)
		require.NoError(t, err, "the server closes the connection")
		require.Contains(t, string(answer), "Connection: close")
		require.NoError(t, c.Close())
	}
	c := client(t, nil)
	for body, fails := range map[string]bool{"1234": false, "12345": true} {
		r, err := c.Post("http://"+s.Addr().String()+"/live/x/whip", "text/plain", strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, r.Body.Close())
		require.Equal(t, fails, <-read != nil, body)
	}
}

func TestPanicEndsTheConnectionOnly(t *testing.T) {
	log := make(lines, 8)
	s := serve(t, Options{Log: slog.New(slog.NewTextHandler(log, nil)), Mounts: []Mount{
		{Prefix: "/boom", Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("ouch") })},
		{Prefix: "/live/", Handler: says("hls")},
	}})
	c := client(t, nil)
	_, err := c.Get("http://" + s.Addr().String() + "/boom")
	require.Error(t, err)
	require.EqualValues(t, 1, s.Stats().Panics())
	require.Contains(t, <-log, "ouch")
	_, body := get(t, c, "http://"+s.Addr().String()+"/live/")
	require.Equal(t, "hls HTTP/1.1", body)
}

// lines is a log that can be read while it is written.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func TestStopTellsWaitingRequests(t *testing.T) {
	waits := make(chan struct{})
	s, err := Listen(t.Context(), Options{Listen: "127.0.0.1:0", Mounts: []Mount{
		{Prefix: "/", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(waits)
			<-r.Context().Done()
			w.WriteHeader(http.StatusServiceUnavailable)
		})},
	}})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	status := make(chan int, 1)
	c := client(t, nil)
	go func() {
		r, err := c.Get("http://" + s.Addr().String() + "/x")
		if err != nil {
			status <- 0
			return
		}
		_ = r.Body.Close()
		status <- r.StatusCode
	}()
	<-waits
	stop()
	require.Equal(t, 503, <-status)
	require.NoError(t, <-done)
	require.Zero(t, s.Stats().Connections())
}

// A peer that takes nothing is given up; one that takes a little now and then
// is not.
func TestWriteDeadlineFollowsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{}
		ours, theirs := net.Pipe()
		c := &conn{Conn: ours, server: s}
		failed := make(chan error, 1)
		go func() {
			_, err := c.Write(make([]byte, 3))
			failed <- err
		}()
		buf := make([]byte, 1)
		for range 3 {
			<-time.After(stallAfter - time.Second)
			_, err := theirs.Read(buf)
			require.NoError(t, err)
		}
		require.NoError(t, <-failed)

		go func() {
			_, err := c.Write(make([]byte, 3))
			failed <- err
		}()
		start := time.Now()
		require.ErrorIs(t, <-failed, os.ErrDeadlineExceeded)
		require.LessOrEqual(t, time.Since(start), stallAfter)
		require.EqualValues(t, 3, s.Stats().Bytes())
	})
}

// What a handler copies from a file must reach the connection's ReadFrom, which
// is where the kernel takes over.
func TestFilesGoOutByReadFrom(t *testing.T) {
	name := filepath.Join(t.TempDir(), "segment")
	content := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	require.NoError(t, os.WriteFile(name, content, 0o600))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := w.(io.ReaderFrom); !ok {
			t.Error("the response writer hides ReadFrom")
		}
		f, err := os.Open(name)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		w.Header().Set("Content-Length", "3200000")
		if _, err := io.CopyN(w, f, 3_200_000); err != nil {
			t.Error(err)
		}
	})
	s := serve(t, Options{Mounts: []Mount{{Prefix: "/", Handler: handler, Viewers: true}}})
	_, body := get(t, client(t, nil), "http://"+s.Addr().String()+"/x")
	require.True(t, string(content) == body)
	require.Greater(t, s.Stats().Bytes(), uint64(len(content)))
}

func TestAdmitAfterCloseCountsNothing(t *testing.T) {
	s := &Server{}
	ours, theirs := net.Pipe()
	defer theirs.Close()
	c := &conn{Conn: ours, server: s}
	require.NoError(t, c.Close())
	require.True(t, c.admit())
	require.Zero(t, s.Stats().Viewers())
	err := c.Close()
	require.True(t, err == nil || errors.Is(err, net.ErrClosed))
}

func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	return certFile, keyFile
}

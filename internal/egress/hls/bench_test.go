package hls

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/egress/web"
	"github.com/klive-media/klive/internal/segment"
)

// nullWriter is a response nobody reads.
type nullWriter struct {
	header http.Header
	n      int
}

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) WriteHeader(int)             {}
func (w *nullWriter) Write(p []byte) (int, error) { w.n += len(p); return len(p), nil }

// steady is a stream with a full window: 30 s of 4 s segments.
func steady(tb testing.TB) (*Handler, *fakeShelf) {
	tb.Helper()
	return windowed(tb, 8)
}

// windowed is a stream with a window of n segments of 4 s.
func windowed(tb testing.TB, n int) (*Handler, *fakeShelf) {
	tb.Helper()
	h, f := onAir(tb)
	f.closeSegment(video1)
	f.closeSegment(audio1)
	f.window = n
	for range n {
		f.segment(video1, 16, 250*time.Millisecond)
		f.segment(audio1, 16, 250*time.Millisecond)
	}
	for i := range 8 {
		f.part(video1, 250*time.Millisecond, i == 0)
		f.part(audio1, 250*time.Millisecond, true)
	}
	return h, f
}

// BenchmarkHandler is our own part of a playlist request.
func BenchmarkHandler(b *testing.B) {
	for _, n := range windows {
		h, _ := windowed(b, n)
		for _, accept := range []string{"", "gzip"} {
			b.Run(fmt.Sprintf("segments=%d/gzip=%s", n, accept), func(b *testing.B) {
				r := httptest.NewRequest(http.MethodGet, videoList+"?_HLS_msn=10&_HLS_part=0", nil)
				r.Header.Set("Accept-Encoding", accept)
				w := &nullWriter{header: http.Header{}}
				b.ReportAllocs()
				for b.Loop() {
					clear(w.header)
					h.ServeHTTP(w, r)
				}
			})
		}
	}
}

// windows are usual ones, in segments: 30 s, and 80 minutes of DVR.
var windows = []int{8, 1200}

// A playlist that is rendered already costs no allocation.
func TestSharedPlaylistAllocatesNothing(t *testing.T) {
	h, _ := steady(t)
	r := httptest.NewRequest(http.MethodGet, videoList+"?_HLS_msn=10&_HLS_part=0&_HLS_skip=YES", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	w := &nullWriter{header: make(http.Header, 8)}
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
		clear(w.header)
		h.ServeHTTP(w, r)
	}), 1.0)
	require.NotZero(t, w.n)
}

// BenchmarkRender is what a new part costs when somebody asks.
func BenchmarkRender(b *testing.B) {
	for _, n := range windows {
		b.Run(fmt.Sprintf("segments=%d", n), func(b *testing.B) { benchmarkRender(b, n) })
	}
}

func benchmarkRender(b *testing.B, n int) {
	h, f := windowed(b, n)
	s := h.shelves.find(segment.ShelfID{Stream: "lobby"})
	v := s.row(h, "1", video1.Kind)
	x := f.Index(video1)
	v.journal.sync(x)
	b.Run("tail", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			v.media(x, 0)
		}
	})
	b.Run("delta", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			v.media(x, delta)
		}
		b.ReportMetric(float64(len(v.media(x, delta))), "bytes")
	})
	b.Run("chunklist", func(b *testing.B) {
		list, _ := f.Renditions()
		t := s.tracks("1", list)
		b.ReportAllocs()
		for b.Loop() {
			s.renderChunklist(&t)
		}
	})
	b.Run("kaltura", func(b *testing.B) {
		list, _ := f.Renditions()
		b.ReportAllocs()
		for b.Loop() {
			s.renderKaltura(list, func(string) bool { return true }, "")
		}
	})
	b.Run("gzip", func(b *testing.B) {
		body := v.media(x, 0)
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			zipped, _ := newText(body).compressed(&h.stats)
			n = len(zipped)
		}
		b.ReportMetric(float64(len(body)), "bytes")
		b.ReportMetric(float64(n), "bytes-gzip")
	})
	b.Run("multivariant", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			list, _ := f.Renditions()
			renderMultivariant(s.ladder(list, true), "")
		}
	})
}

// listen serves h over a socket.
func listen(b *testing.B, h http.Handler) string {
	b.Helper()
	s, err := web.Listen(b.Context(), web.Options{
		Listen: "127.0.0.1:0", CORSOrigins: []string{"*"}, Log: slog.New(slog.DiscardHandler),
		Mounts: []web.Mount{{Prefix: "/live/", Handler: h, Viewers: true}},
	})
	require.NoError(b, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		require.NoError(b, <-done)
	})
	return s.Addr().String()
}

// BenchmarkPlaylistRequest is a playlist request over a socket with keep-alive.
// The figure cpu-ns holds server and client, as both are in this process; the
// client is a bare socket that reads Content-Length and counts bytes.
func BenchmarkPlaylistRequest(b *testing.B) {
	h, _ := steady(b)
	empty := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Length"] = []string{"2"}
		_, _ = io.WriteString(w, "ok")
	})
	for name, handler := range map[string]http.Handler{"hls": h, "net-http-alone": empty} {
		b.Run(name, func(b *testing.B) {
			c, err := net.Dial("tcp", listen(b, handler))
			require.NoError(b, err)
			defer c.Close()
			in := bufio.NewReaderSize(c, 64<<10)
			request := []byte("GET " + videoList + "?_HLS_msn=10&_HLS_part=0 HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")
			b.ReportAllocs()
			before := cpuTime()
			for b.Loop() {
				_, err := c.Write(request)
				require.NoError(b, err)
				require.NoError(b, skipResponse(in))
			}
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkBlockedReload is one part for 200 viewers who wait for it, each on
// a connection of its own.
func BenchmarkBlockedReload(b *testing.B) {
	const viewers = 200
	h, f := steady(b)
	address := listen(b, h)
	type viewer struct {
		net.Conn
		in *bufio.Reader
	}
	var all []viewer
	for range viewers {
		c, err := net.Dial("tcp", address)
		require.NoError(b, err)
		defer c.Close()
		all = append(all, viewer{c, bufio.NewReaderSize(c, 16<<10)})
	}
	n := 0
	b.ReportAllocs()
	before := cpuTime()
	for b.Loop() {
		next := f.Index(video1).Next
		request := fmt.Appendf(nil, "GET %s?_HLS_msn=%d&_HLS_part=%d HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n", videoList, next.Segment, next.Part)
		for _, v := range all {
			_, err := v.Write(request)
			require.NoError(b, err)
		}
		for h.Stats().Waiting() < viewers {
			time.Sleep(50 * time.Microsecond) // a benchmark over real sockets
		}
		f.part(video1, 250*time.Millisecond, false)
		if n++; n%16 == 0 {
			f.closeSegment(video1)
			f.part(video1, 250*time.Millisecond, true)
		}
		for _, v := range all {
			require.NoError(b, skipResponse(v.in))
		}
	}
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/viewers, "cpu-ns/request")
}

// BenchmarkSegment sends a segment of 2 MB from a file and from memory.
func BenchmarkSegment(b *testing.B) {
	const size = 2 << 20
	name := filepath.Join(b.TempDir(), "segment")
	require.NoError(b, os.WriteFile(name, make([]byte, size), 0o600))
	var buffers [][]byte
	for range 16 {
		buffers = append(buffers, make([]byte, 200), make([]byte, size/16-200))
	}
	for kind, open := range map[string]func() *segment.Content{
		"file": func() *segment.Content {
			f, err := os.Open(name)
			require.NoError(b, err)
			return &segment.Content{Size: size, File: f}
		},
		"memory": func() *segment.Content { return &segment.Content{Size: size, Buffers: buffers} },
	} {
		b.Run(kind, func(b *testing.B) {
			h, _ := onAir(b)
			serveIt := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h.deliver(w, r, video1.Kind, []*segment.Content{open()})
			})
			c, err := net.Dial("tcp", listen(b, serveIt))
			require.NoError(b, err)
			defer c.Close()
			in := bufio.NewReaderSize(c, 256<<10)
			b.SetBytes(size)
			b.ReportAllocs()
			before := cpuTime()
			for b.Loop() {
				_, err := io.WriteString(c, "GET /live/x/1/video/0/r1/1.m4s HTTP/1.1\r\nHost: x\r\n\r\n")
				require.NoError(b, err)
				require.NoError(b, skipResponse(in))
			}
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// skipResponse reads a response and throws it away.
func skipResponse(in *bufio.Reader) error {
	length := 0
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == 2 {
			break
		}
		if v, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
			if _, err := fmt.Sscan(v, &length); err != nil {
				return err
			}
		}
	}
	_, err := in.Discard(length)
	return err
}

// cpuTime is what this process has used, in nanoseconds.
func cpuTime() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

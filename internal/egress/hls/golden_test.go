package hls

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment"
)

var update = flag.Bool("update", false, "rewrite the expected answers in testdata/*.golden")

// TestGolden runs the scripts in testdata. A script is a list of commands; the
// answer to "get" stands below it, indented by a tab:
//
//	stream ID [backup]                 the commands below are about this shelf
//	targets SEGMENT PART               of rows made below
//	row RENDITION KIND CODECS [lang]   a new row
//	segment RENDITION KIND NxPART      a whole segment of N parts
//	part RENDITION KIND DURATION [key] a part
//	close | gap | break | init RENDITION KIND …
//	window N                           closed segments that stay listed
//	number RENDITION KIND N            the next segment's number
//	begin                              another broadcast, of no row yet
//	restart | end | unlist RENDITION | plain
//	get PATH
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.golden")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".golden"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			got := runScript(t, string(want))
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
			}
			require.Equal(t, string(want), got)
		})
	}
}

func runScript(t *testing.T, script string) string {
	t.Helper()
	s := &scriptRunner{t: t, store: newFakeStore()}
	s.handler = New(Options{Store: s.store, LowLatency: true})
	var out strings.Builder
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "\t") {
			continue
		}
		out.WriteString(line)
		if words := strings.Fields(line); len(words) > 0 && words[0] != "#" {
			out.WriteString(s.run(words))
		}
	}
	return out.String()
}

type scriptRunner struct {
	t       *testing.T
	store   *fakeStore
	handler *Handler
	shelf   *fakeShelf
}

func (s *scriptRunner) run(w []string) string {
	var id segment.RowID
	if len(w) > 2 {
		id = segment.RowID{Rendition: w[1], Kind: media.Video}
		if w[2] == "audio" {
			id.Kind = media.Audio
		}
	}
	switch w[0] {
	case "stream":
		s.shelf = s.store.add(w[1], len(w)-2)
	case "targets":
		s.shelf.targets = segment.Targets{Segment: s.duration(w[1]), Part: s.duration(w[2])}
	case "row":
		track := videoTrack()
		if id.Kind == media.Audio {
			track = audioTrack()
		}
		track.CodecString = w[3]
		if len(w) > 4 {
			track.Language = w[4]
		}
		s.shelf.row(id, track)
	case "segment":
		n, d, _ := strings.Cut(w[3], "x")
		count, err := strconv.Atoi(n)
		require.NoError(s.t, err)
		s.shelf.segment(id, count, s.duration(d))
	case "part":
		s.shelf.part(id, s.duration(w[3]), len(w) > 4)
	case "close":
		s.shelf.closeSegment(id)
	case "gap":
		s.shelf.gap(id, s.duration(w[3]))
	case "break":
		s.shelf.change(id, func(r *fakeRow, _ *segment.Index) { r.disc++ })
	case "init":
		s.shelf.change(id, func(r *fakeRow, _ *segment.Index) { r.init++ })
	case "window":
		n, err := strconv.Atoi(w[1])
		require.NoError(s.t, err)
		s.shelf.window = n
	case "restart":
		s.shelf.run += "b"
	case "number":
		n, err := strconv.ParseUint(w[3], 10, 64)
		require.NoError(s.t, err)
		s.shelf.change(id, func(_ *fakeRow, x *segment.Index) { x.Next.Segment = n })
	case "begin":
		s.shelf.begin()
	case "end":
		s.shelf.end()
	case "unlist":
		s.shelf.unlisted[w[1]] = true
	case "plain":
		s.handler = New(Options{Store: s.store})
	case "get":
		return s.get(w[1])
	default:
		s.t.Fatalf("unknown command %q", w[0])
	}
	return ""
}

func (s *scriptRunner) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	require.NoError(s.t, err)
	return d
}

func (s *scriptRunner) get(path string) string {
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	var out strings.Builder
	fmt.Fprintf(&out, "\t%d %s\n", w.Code, w.Header().Get("Cache-Control"))
	for line := range strings.Lines(w.Body.String()) {
		out.WriteString("\t" + line)
	}
	if !strings.HasSuffix(out.String(), "\n") {
		out.WriteByte('\n')
	}
	return out.String()
}

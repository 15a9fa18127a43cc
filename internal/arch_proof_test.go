package internal_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The rules are worth nothing if they cannot fail: each is shown a small house that breaks it, and one that does not.

func TestFloorsRefuse(t *testing.T) {
	cases := []struct {
		from, to string
		want     string // "" when the import is allowed
	}{
		{"internal/app", "internal/egress/hls", ""},
		{"cmd/server", "internal/app", ""},
		{"cmd/server", "internal/kaltura/kalturatest", ""},
		{"internal/stream", "internal/ingest", ""},
		{"internal/egress/hls", "internal/segment", ""},
		{"internal/egress/hls/playlist", "internal/egress/hls", ""},
		{"internal/rtmp/session", "internal/rtmp/chunk", ""},
		{"internal/media/codec", "internal/fault", ""},
		{"internal/control/ctl", "gen/klive/v1", ""},
		{"internal/kaltura", "internal/kaltura/kalturatest", ""},
		{"internal/media", "github.com/bluenviron/mediacommon/v2/pkg/codecs/h264", ""},

		{"internal/egress/hls", "internal/ingest/rtmp", "egress/hls may not import ingest/rtmp: outputs see a Source, never a protocol"},
		{"internal/ingest/rtmp", "internal/egress/hls", "never sees a viewer"},
		{"internal/ingest/srt", "internal/ingest/rtmp", "turns its wire into packets alone"},
		{"internal/egress/record", "internal/egress/hls", "reads the same Log or Store alone"},
		{"internal/control", "internal/kaltura", "only kaltura knows the backend's words"},
		{"internal/control", "internal/catalog", "app adapts one"},
		{"internal/segment", "internal/ingest", "rooms of one floor do not know each other"},
		{"internal/store", "internal/config", "rooms of one floor do not know each other"},
		{"internal/pipeline", "internal/stream", "imports go downward only"},
		{"internal/stream", "internal/catalog", "stands on floor 3 and catalog on floor 4"},
		{"internal/app", "cmd/server", "rooms of one floor"},
		{"internal/run", "internal/media", "rooms of one floor"},
		{"internal/fault", "internal/run", "rooms of one floor"},
		{"internal/stream", "gen/klive/v1", "only control translates"},
		{"cmd/server", "gen/klive/v1", "only control translates"},
		{"internal/app", "internal/testkit", "for tests only"},
		{"internal/media", "google.golang.org/grpc", "the lowest floor uses the standard library"},
		{"internal/media", "log/slog", "no I/O and no logging"},
		{"internal/pipeline", "net", "no I/O and no logging"},
		{"internal/stream", "golang.org/x/sync/errgroup", "run.Group starts goroutines"},
		{"internal/attic", "fmt", "attic is in no room"},
	}
	for _, c := range cases {
		t.Run(c.from+" imports "+c.to, func(t *testing.T) {
			complaints := checkImports([]goPackage{{ImportPath: inModule(c.from), Imports: []string{inModule(c.to)}}})
			if c.want == "" {
				require.Empty(t, complaints)
				return
			}
			require.Len(t, complaints, 1)
			require.Contains(t, complaints[0], c.want)
		})
	}
}

func inModule(path string) string {
	for _, top := range []string{"internal/", "cmd/", "gen/"} {
		if strings.HasPrefix(path, top) {
			return module + "/" + path
		}
	}
	return path
}

func TestSourceRulesRefuse(t *testing.T) {
	cases := map[string]struct {
		path string // internal/stream/registry.go when empty
		text string
		want string // "" when the source is fine
	}{
		"goroutine":             {text: "func f() { go f() }", want: "start it with run.Group"},
		"goroutine in run":      {path: "internal/run/group.go", text: "func f() { go f() }"},
		"goroutine in a binary": {path: "cmd/server/main.go", text: "func f() { go f() }", want: "start it with run.Group"},
		"init":                  {text: "func init() { println() }", want: "init() works behind the reader's back"},
		"method named init":     {text: "type t struct{}\nfunc (t) init() {}"},
		"environment":           {text: `import "os"` + "\n" + `func f() string { return os.Getenv("HOME") }`, want: "os.Getenv outside internal/config"},
		"environment in config": {path: "internal/config/env.go", text: `import "os"` + "\n" + `func f() string { return os.Getenv("HOME") }`},

		"counter":        {text: "var n int", want: "package variable n is state"},
		"initial number": {text: "var n = 5", want: "package variable n is state"},
		"registry":       {text: "var all = make(map[string]int)", want: "package variable all is state"},
		"mutex":          {text: `import "sync"` + "\nvar mu sync.Mutex", want: "package variable mu is state"},
		"mutex literal":  {text: `import "sync"` + "\nvar mu = sync.Mutex{}", want: "package variable mu is state"},
		"atomic":         {text: `import "sync/atomic"` + "\nvar n atomic.Int64", want: "package variable n is state"},
		"clock seam":     {text: `import "time"` + "\nvar now = time.Now", want: "package variable now is state"},
		"singleton":      {text: "type t struct{}\nfunc newT() *t { return nil }\nvar one = newT()", want: "package variable one is state"},

		"error":      {text: `import "errors"` + "\n" + `var errGone = errors.New("gone")`},
		"table":      {text: `var names = [...]string{"a", "b"}`},
		"map table":  {text: `var names = map[string]int{"a": 1}`},
		"pattern":    {text: `import "regexp"` + "\nvar word = regexp.MustCompile(`\\w+`)"},
		"assertion":  {text: "type i interface{}\ntype t struct{}\nvar _ i = t{}"},
		"pool":       {text: `import "sync"` + "\nvar pool = sync.Pool{New: func() any { return new([]byte) }}"},
		"typed pool": {text: `import "sync"` + "\nvar pool sync.Pool"},
		"embedded":   {text: "import _ \"embed\"\n//go:embed page.html\nvar page []byte"},
		"bytes":      {text: `var key = []byte("Genuine")`},

		"write to a table":       {text: "var m = map[int]int{}\nfunc f() { m[1] = 2 }", want: "package variable m is written here"},
		"delete from a table":    {text: "var m = map[int]int{}\nfunc f() { delete(m, 1) }", want: "package variable m is written here"},
		"replace a table":        {text: "var m = []int{}\nfunc f() { m = append(m, 1) }", want: "package variable m is written here"},
		"local of the same name": {text: "var m = []int{}\nfunc f() { m := 1; m++; _ = m }"},

		"folder without meaning": {path: "internal/common/x.go", text: "", want: `"common" says nothing`},
		"file without meaning":   {path: "internal/stream/util.go", text: "", want: `"util" says nothing`},
		"long file":              {text: strings.Repeat("// line\n", maxLines+1), want: "past 500 it holds two ideas"},
		"broken file":            {text: "func {", want: "expected"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path := c.path
			if path == "" {
				path = "internal/stream/registry.go"
			}
			complaints := checkSources([]sourceFile{{path: path, text: []byte("package p\n" + c.text)}})
			if c.want == "" {
				require.Empty(t, complaints)
				return
			}
			require.NotEmpty(t, complaints)
			require.Contains(t, strings.Join(complaints, "\n"), c.want)
		})
	}
}

func TestWriteInAnotherFileOfThePackage(t *testing.T) {
	complaints := checkSources([]sourceFile{
		{path: "internal/stream/a.go", text: []byte("package p\nvar m = map[int]int{}")},
		{path: "internal/stream/b.go", text: []byte("package p\nfunc f() { m[1]++ }")},
		{path: "internal/egress/c.go", text: []byte("package q\nfunc f() { var m [2]int; m[1]++ }")},
	})
	require.Len(t, complaints, 1)
	require.Contains(t, complaints[0], "internal/stream/b.go")
}

// Package internal_test holds the shape of the house: who may import whom, where goroutines start, what may be a
// package variable, how things are named and how long a file may be.
//
// The table of floors is the one of docs/architecture.md. A rule that fails says in one sentence what is wrong and
// why; the checks themselves are proven able to fail in arch_proof_test.go.
package internal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/klive-media/klive"

// room is one noun of the house. A pattern that ends in "/*" makes one room of each folder below it.
type room struct {
	pattern string
	floor   int
	also    []string // rooms of the same floor that it may import
}

// rooms is the table of floors: imports go downward only, and rooms of one floor do not import each other.
var rooms = []room{
	{pattern: "cmd/*", floor: 5, also: []string{"app"}},
	{pattern: "app", floor: 5},

	{pattern: "control", floor: 4},
	{pattern: "catalog", floor: 4},
	{pattern: "kaltura", floor: 4},
	{pattern: "dashboard", floor: 4},
	{pattern: "ingest/*", floor: 4},
	{pattern: "egress/*", floor: 4},
	{pattern: "transcode/engine", floor: 4},

	{pattern: "stream", floor: 3},

	{pattern: "ingest", floor: 2},
	{pattern: "transcode", floor: 2},
	{pattern: "segment", floor: 2},
	{pattern: "egress", floor: 2},
	{pattern: "auth", floor: 2},

	{pattern: "pipeline", floor: 1},
	{pattern: "rtmp", floor: 1},
	{pattern: "srt", floor: 1},
	{pattern: "config", floor: 1},
	{pattern: "store", floor: 1},
	{pattern: "observe", floor: 1},

	{pattern: "media", floor: 0, also: []string{"fault"}},
	{pattern: "run", floor: 0, also: []string{"fault"}},
	{pattern: "fault", floor: 0},
}

// testOnly are the rooms that only tests import.
var testOnly = []string{"testkit"}

// groundModules are the codec libraries that the lowest floor may use beside the standard library.
var groundModules = []string{"github.com/bluenviron/mediacommon/", "github.com/Eyevinn/mp4ff/"}

// silent are the rooms on the packet path: no I/O, no logging. The list names what they may not import.
var (
	silent  = []string{"media", "pipeline"}
	outside = []string{"log", "log/slog", "os", "net", "net/http", "database/sql", "syscall"}
)

// goPackage is the part of `go list -json` that the rules read.
type goPackage struct {
	ImportPath string
	Dir        string
	Imports    []string // without those of _test.go files
}

func TestImportsGoDownward(t *testing.T) {
	complaints := checkImports(listPackages(t))
	require.Empty(t, complaints, strings.Join(complaints, "\n"))
}

// listPackages returns the packages of this module that the binaries and internal/ consist of.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-json=ImportPath,Dir,Imports",
		module+"/internal/...", module+"/cmd/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())

	var own []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if strings.HasPrefix(p.ImportPath, module+"/") {
			own = append(own, p)
		}
	}
	require.NotEmpty(t, own, "go list names no package of this module")
	return own
}

// checkImports returns one sentence for each import that the floors do not allow.
func checkImports(packages []goPackage) []string {
	var complaints []string
	for _, p := range packages {
		from := place(p.ImportPath)
		if skipped(from) {
			continue
		}
		home, ok := roomOf(from)
		if !ok {
			complaints = append(complaints, fmt.Sprintf(
				"%s is in no room: give it a floor in internal/arch_test.go and a line in docs/architecture.md", from))
			continue
		}
		for _, path := range p.Imports {
			if why := refuse(from, home, path); why != "" {
				complaints = append(complaints, why)
			}
		}
	}
	slices.Sort(complaints)
	return complaints
}

// refuse says why a package in home may not import path, or nothing when it may.
func refuse(from string, home room, path string) string {
	if !strings.HasPrefix(path, module+"/") {
		return refuseForeign(from, home, path)
	}
	to := place(path)
	switch {
	case strings.HasPrefix(to, "gen/"):
		if inside(from, "control") {
			return ""
		}
		return fmt.Sprintf("%s may not import %s: only control translates between the API's messages and the domain", from, to)
	case slices.ContainsFunc(testOnly, func(r string) bool { return inside(to, r) }):
		return fmt.Sprintf("%s may not import %s: it is for tests only", from, to)
	}
	target, ok := roomOf(to)
	switch {
	case !ok || sameRoom(from, to, home, target):
		return "" // a target without a room is complained about by itself
	case target.floor < home.floor:
		return ""
	case target.floor > home.floor:
		return fmt.Sprintf("%s may not import %s: it stands on floor %d and %s on floor %d, and imports go downward only; "+
			"declare a small interface in %s and let app hand the implementation over", from, to, home.floor, to, target.floor, from)
	case slices.ContainsFunc(home.also, func(r string) bool { return inside(to, r) }):
		return ""
	default:
		return fmt.Sprintf("%s may not import %s: %s", from, to, siblings(from, to))
	}
}

// siblings says why two rooms of one floor stay apart.
func siblings(from, to string) string {
	switch {
	case strings.HasPrefix(from, "egress/") && strings.HasPrefix(to, "ingest/"):
		return "outputs see a Source, never a protocol"
	case strings.HasPrefix(from, "ingest/") && strings.HasPrefix(to, "egress/"):
		return "a door in hands its packets to the Gate and never sees a viewer"
	case strings.HasPrefix(from, "ingest/") && strings.HasPrefix(to, "ingest/"):
		return "each protocol turns its wire into packets alone; what they share is in ingest"
	case strings.HasPrefix(from, "egress/") && strings.HasPrefix(to, "egress/"):
		return "each output reads the same Log or Store alone; what they share is in egress or segment"
	case inside(to, "kaltura"):
		return "only kaltura knows the backend's words; app hands it over as an interface"
	default:
		return "rooms of one floor do not know each other; app adapts one to the small interface of the other"
	}
}

// refuseForeign holds the two rules about packages that are not ours.
func refuseForeign(from string, home room, path string) string {
	standard := !strings.Contains(strings.SplitN(path, "/", 2)[0], ".")
	allowed := standard || slices.ContainsFunc(groundModules, func(m string) bool { return strings.HasPrefix(path, m) })
	switch {
	case home.floor == 0 && !allowed:
		return fmt.Sprintf("%s may not import %s: the lowest floor uses the standard library and codec libraries only", from, path)
	case slices.Contains(silent, home.pattern) && slices.Contains(outside, path):
		return fmt.Sprintf("%s may not import %s: the packet path does no I/O and no logging", from, path)
	case path == "golang.org/x/sync/errgroup" && !inside(from, "run"):
		return fmt.Sprintf("%s may not import %s: run.Group starts goroutines, gives them a name and waits for them", from, path)
	default:
		return ""
	}
}

// place is the short name of a package: its path below internal/, or below the module for everything else.
func place(path string) string {
	short := strings.TrimPrefix(path, module+"/")
	return strings.TrimPrefix(short, "internal/")
}

// skipped reports what no floor is given to: generated code, benchmarks, and what only tests use.
func skipped(at string) bool {
	return inside(at, "gen") || inside(at, "bench") || inside(at, "test") || at == "internal" ||
		slices.ContainsFunc(testOnly, func(r string) bool { return inside(at, r) })
}

// roomOf finds the room a package is in: the longest pattern that fits.
func roomOf(at string) (room, bool) {
	var found room
	for _, r := range rooms {
		parent, many := strings.CutSuffix(r.pattern, "/*")
		fits := !many && inside(at, r.pattern) || many && inside(at, parent) && at != parent
		if fits && len(r.pattern) > len(found.pattern) {
			found = r
		}
	}
	return found, found.pattern != ""
}

// sameRoom reports whether two packages are in one room: under "ingest/*", ingest/rtmp and ingest/srt are not.
func sameRoom(from, to string, home, target room) bool {
	if home.pattern != target.pattern {
		return false
	}
	parent, many := strings.CutSuffix(home.pattern, "/*")
	return !many || below(from, parent) == below(to, parent)
}

// below returns the first folder of at below parent.
func below(at, parent string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(at, parent+"/"), "/")
	return first
}

// inside reports whether a package is the named one or below it.
func inside(at, name string) bool { return at == name || strings.HasPrefix(at, name+"/") }

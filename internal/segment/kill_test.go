package segment

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/pipeline"
)

// victim is the environment variable that makes the test binary a server that
// waits to be killed; it names the folder.
const victim = "SEGMENT_TEST_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victim); dir != "" {
		serveUntilKilled(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// serveUntilKilled cuts without end, as fast as it can, and writes every number
// it announces to standard output before it goes on.
func serveUntilKilled(dir string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	st, err := NewStore(Options{Dir: dir, Window: time.Hour})
	fail(err)
	st.published = func(_ ShelfID, x *Index) {
		// One write: what is announced is what the parent reads.
		line := fmt.Sprintf("next %s %d", x.Row.Kind, x.Next.Segment)
		for i := max(0, len(x.Closed)-3); i < len(x.Closed); i++ {
			s := &x.Closed[i]
			if !s.Gap {
				line += fmt.Sprintf(" %s/%d=%d", s.Run, s.Number, s.Size)
			}
		}
		fmt.Println(line)
	}
	b := Broadcast{ID: "b", Start: time.Unix(1e9, 0)}
	start := time.Duration(0)
	for _, i := range st.Interrupted() {
		b, start = i.Broadcast, i.End+time.Second
	}
	c, err := st.Begin(shelfOne, b, nil)
	fail(err)
	src := script{fps: 30, gop: time.Second, length: time.Minute, start: start, rate: 48000}.source()
	go func() { fail(st.Run(t0{})) }()
	fail(c.Run(t0{}, pipeline.Rendition{ID: "1", Source: src}))
	select {}
}

// t0 is a context that never ends.
type t0 struct{}

func (t0) Deadline() (time.Time, bool) { return time.Time{}, false }
func (t0) Done() <-chan struct{}       { return nil }
func (t0) Err() error                  { return nil }
func (t0) Value(any) any               { return nil }

func TestKilledAtAnyMoment(t *testing.T) {
	dir := t.TempDir()
	announced := map[string]uint64{} // by kind: the highest number a hint named
	sizes := map[string]int64{}      // by kind, run and number: contents that were announced as finished
	for round := range 8 {
		before := announced["video"]
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), victim+"="+dir)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := 0; n < 60+round*37 && lines.Scan(); n++ {
			readAnnouncement(t, lines.Text(), announced, sizes, n == 0 && round > 0, before)
		}
		require.NoError(t, cmd.Process.Kill())
		for lines.Scan() { // what it still said before it died
			readAnnouncement(t, lines.Text(), announced, sizes, false, 0)
		}
		_ = cmd.Wait()
	}
	st := openStore(t, Options{Dir: dir, Window: time.Hour})
	h := st.shelf(shelfOne)
	for name, size := range sizes {
		var kind, run string
		var number uint64
		_, err := fmt.Sscanf(name, "%s %s %d", &kind, &run, &number)
		require.NoError(t, err)
		id := videoRow
		if kind == media.Audio.String() {
			id = audioRow
		}
		c, err := h.Open(id, run, number, -1)
		require.NoError(t, err, name)
		require.Equal(t, size, c.Size, "%s has another content after the crash", name)
		require.Len(t, read(t, c), int(size))
	}
	for _, row := range []RowID{videoRow, audioRow} {
		decodeRow(t, h, h.Index(row))
	}
	leftovers, err := filepath.Glob(filepath.Join(dir, "*", "*", "*", "*"+extOpen))
	require.NoError(t, err)
	require.Empty(t, leftovers)
}

func readAnnouncement(t *testing.T, line string, announced map[string]uint64, sizes map[string]int64, first bool, before uint64) {
	var kind string
	var next uint64
	_, err := fmt.Sscanf(line, "next %s %d", &kind, &next)
	require.NoError(t, err, line)
	if first {
		require.Greater(t, next, before, "a number that a hint named before the crash is used again")
	}
	require.GreaterOrEqual(t, next, announced[kind])
	announced[kind] = next
	fields := bufio.NewScanner(strings.NewReader(line))
	fields.Split(bufio.ScanWords)
	for fields.Scan() {
		var number uint64
		var size int64
		if i := strings.IndexByte(fields.Text(), '/'); i > 0 {
			_, err := fmt.Sscanf(fields.Text()[i:], "/%d=%d", &number, &size)
			require.NoError(t, err)
			name := fmt.Sprintf("%s %s %d", kind, fields.Text()[:i], number)
			if was, ok := sizes[name]; ok {
				require.Equal(t, was, size, name)
			}
			sizes[name] = size
		}
	}
}

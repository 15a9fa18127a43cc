package record

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/stream"
)

// image is what was on disk at a moment.
type image struct {
	step string
	dir  string
}

// photographer makes images. Pieces are finished beside the copying; here one
// waits for the other at its steps, as an image is of one moment.
type photographer struct {
	t          testing.TB
	root, live string
	images     []image
	described  int
	waiting    atomic.Bool
	free       atomic.Bool
	turn, done chan struct{}
}

func (p *photographer) step(step string) error {
	switch step {
	case "piece to be written":
		if p.waiting.Store(true); !p.free.Load() {
			<-p.turn
		}
		p.take(step)
	case "piece named":
		p.take(step)
	case "work file deleted":
		p.take(step)
		if p.waiting.Store(false); !p.free.Load() {
			p.done <- struct{}{}
		}
	default:
		p.take(step)
		if step == "description renamed" {
			p.described++
		}
		if p.waiting.Load() {
			p.turn <- struct{}{}
			<-p.done
		}
		if p.described == 2 && !p.free.Swap(true) { // all is copied
			close(p.turn)
		}
	}
	return nil
}

func (p *photographer) take(step string) {
	dir := filepath.Join(p.root, fmt.Sprint(len(p.images)))
	require.NoError(p.t, os.CopyFS(dir, os.DirFS(p.live)))
	p.images = append(p.images, image{step, dir})
}

// TestKilledAtEveryStep copies what is on disk after every change and goes on
// from each copy: the recording is whole each time.
func TestKilledAtEveryStep(t *testing.T) {
	root := t.TempDir()
	live := filepath.Join(root, "live")
	o := Options{SegmentDuration: 8 * time.Second, Mark: marker, MarkEvery: 2 * time.Second}
	s := openStudio(t, live, o)
	s.onAir("b1", false)
	s.play(script{fps: 10, gop: 4 * time.Second, bframes: 1, to: 18 * time.Second, rate: 16000, size: 9000})
	p := &photographer{t: t, root: root, live: live, turn: make(chan struct{}), done: make(chan struct{})}
	s.rec.step = p.step
	s.record(egress.ErrEnded)
	want := s.verify("1")
	require.Len(t, want, 3)
	wantMarks := s.marks(want)
	require.GreaterOrEqual(t, len(wantMarks), 8)
	t.Logf("%d images", len(p.images))
	require.Greater(t, len(p.images), 30)

	for i, im := range p.images {
		t.Run(fmt.Sprintf("%d %s", i, im.step), func(t *testing.T) {
			t.Parallel()
			again := openStudio(t, im.dir, o)
			again.sent = s.sent
			if i%2 == 0 { // the broadcast comes back
				again.onAir("b1", true)
				again.cut.End()
				again.record(egress.ErrEnded)
				again.serveUntilDone() // what was closing is not Run's any more
			} else { // it does not
				for _, x := range again.st.Interrupted() {
					again.st.EndInterrupted(x.ID)
				}
				if len(again.rec.List("")) == 0 { // it was killed before there was a recording
					return
				}
				for _, c := range again.rec.all {
					c.awaited = false // its time is over
				}
				again.serveUntilDone()
			}
			got := again.verify("1")
			require.Len(t, got, len(want))
			require.Equal(t, describePieces(want), describePieces(got))
			marks := s.marks(got)
			require.Len(t, marks, len(wantMarks))
			for n, m := range marks {
				require.Equal(t, wantMarks[n], m, "marks are counted through")
			}
			left, err := filepath.Glob(filepath.Join(im.dir, "recordings", "*", "*", "*"))
			require.NoError(t, err)
			require.Len(t, left, len(want)+1, "nothing is left over: %v", left)
		})
	}
}

// marks are the samples of the data track.
func (s *studio) marks(list []stream.Piece) (out []string) {
	for _, p := range list {
		for _, m := range decode(s.t, p.File, p.Offset)["meta"] {
			out = append(out, string(m.payload))
		}
	}
	return out
}

// serveUntilDone runs Serve until the only recording is finished.
func (s *studio) serveUntilDone() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.rec.Serve(ctx) }()
	for changed := s.rec.Changed(); s.only().End.IsZero(); changed = s.rec.Changed() {
		<-changed
	}
	cancel()
	require.NoError(s.t, <-done)
}

// TestWorkFilesCutAnywhere goes on with work files that end anywhere, or that
// a power cut has filled with zeros from anywhere: the shelf has the rest.
func TestWorkFilesCutAnywhere(t *testing.T) {
	root := t.TempDir()
	live := filepath.Join(root, "live")
	s := openStudio(t, live, Options{SegmentDuration: time.Minute})
	s.onAir("b1", false)
	s.play(script{fps: 10, gop: 2 * time.Second, to: 12 * time.Second, rate: 16000})
	s.record(egress.ErrLeaving)
	name := s.only().Pieces[0].File
	whole, err := os.ReadFile(name)
	require.NoError(t, err)
	rel, err := filepath.Rel(live, name)
	require.NoError(t, err)
	c, _, err := readWork(name)
	require.NoError(t, err)
	ends := []int64{0, 1, int64(len(c.init)), int64(len(c.init)) + 20}
	for _, x := range c.segments[len(c.segments)-3:] {
		ends = append(ends, x.at-1, x.at, x.at+1, x.at+x.size-1, x.at+x.size, x.at+x.size+10)
	}
	for range 5 {
		ends = append(ends, rand.Int64N(int64(len(whole))))
	}
	for i, end := range ends {
		for _, zeros := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d at %d, zeros %v", i, end, zeros), func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(root, fmt.Sprintf("%d %v", i, zeros))
				require.NoError(t, os.CopyFS(dir, os.DirFS(live)))
				b := append([]byte(nil), whole...)
				if zeros {
					clear(b[end:])
				} else {
					b = b[:end]
				}
				require.NoError(t, os.WriteFile(filepath.Join(dir, rel), b, 0o600))
				again := openStudio(t, dir, Options{SegmentDuration: time.Minute})
				again.sent = s.sent
				again.onAir("b1", true)
				again.cut.End()
				again.record(egress.ErrEnded)
				require.Len(t, again.verify("1"), 1)
			})
		}
	}
}

// TestDamageIsReportedAndKept finds recordings that cannot be read.
func TestDamageIsReportedAndKept(t *testing.T) {
	dir := t.TempDir()
	s := openStudio(t, dir, Options{})
	s.onAir("b1", false)
	s.play(script{fps: 10, gop: 2 * time.Second, to: 45 * time.Second, rate: 16000})
	s.cut.End()
	s.record(egress.ErrEnded)
	r := s.only()
	require.Len(t, r.Pieces, 3)
	require.NoError(t, os.WriteFile(r.Pieces[1].File, []byte("not an MP4 at all, and not ours"), 0o600))
	sidecar := filepath.Join(filepath.Dir(r.Pieces[0].File), sidecarName)

	s.openRecorder(Options{})
	require.Len(t, s.only().Pieces, 2)
	require.EqualValues(t, 1, s.rec.Stats().Errors)
	require.FileExists(t, r.Pieces[1].File)

	require.NoError(t, os.WriteFile(sidecar, []byte(`{"version":1,"id":"another"}`), 0o600))
	s.openRecorder(Options{})
	require.Empty(t, s.rec.List(""))
	require.EqualValues(t, 1, s.rec.Stats().Errors)
	for _, p := range r.Pieces {
		require.FileExists(t, p.File)
	}
}

// TestAMiddleThatIsLost finishes a piece of which a power cut took something
// in the middle, and says so.
func TestAMiddleThatIsLost(t *testing.T) {
	s := openStudio(t, t.TempDir(), Options{SegmentDuration: time.Minute})
	s.onAir("b1", false)
	s.play(script{fps: 10, gop: 2 * time.Second, to: 20 * time.Second, rate: 16000})
	s.record(egress.ErrLeaving)
	name := s.only().Pieces[0].File
	c, _, err := readWork(name)
	require.NoError(t, err)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	lost := c.segments[4]
	require.Equal(t, media.Video, lost.kind)
	_, err = f.WriteAt(make([]byte, lost.size), lost.at)
	require.NoError(t, err)
	require.NoError(t, f.Close())

	s.openRecorder(Options{SegmentDuration: time.Minute})
	s.cut.End()
	s.record(egress.ErrEnded)
	r := s.only()
	require.Len(t, r.Pieces, 1)
	require.NotEmpty(t, r.Err)
	all := decode(t, r.Pieces[0].File, 0)
	require.Len(t, all["vide"], 200-40)
	for i, d := range all["vide"][1:] {
		if at := all["vide"][i]; d.dts-at.dts > 150*time.Millisecond {
			require.InDelta(t, 4100*time.Millisecond, d.dts-at.dts, float64(tick), "what is there stays where it was")
		}
	}
}

package record

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/stream"
)

func TestPiecesJoinedAreTheWhole(t *testing.T) {
	for name, x := range map[string]script{
		"picture and sound": {fps: 30, gop: 2 * time.Second, to: 70 * time.Second, rate: 48000},
		"44.1 kHz":          {fps: 25, gop: 2 * time.Second, to: 50 * time.Second, rate: 44100},
		"29.97, B-frames":   {fps: 30000.0 / 1001, gop: 2 * time.Second, bframes: 2, to: 50 * time.Second, rate: 48000},
		"no sound":          {fps: 30, gop: time.Second, to: 50 * time.Second},
		"no picture":        {to: 50 * time.Second, rate: 48000},
		"an hour later":     {fps: 30, gop: 2 * time.Second, from: time.Hour, to: time.Hour + 50*time.Second, rate: 48000},
		"shorter than one":  {fps: 30, gop: 2 * time.Second, to: 3 * time.Second, rate: 48000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openStudio(t, t.TempDir(), Options{})
			s.onAir("b1", false)
			s.play(x)
			s.cut.End()
			s.record(egress.ErrEnded)
			list := s.verify("1")
			t.Log(describePieces(list))
			require.Len(t, list, int((x.to-x.from-1)/(20*time.Second))+1)
			for i, p := range list[:len(list)-1] {
				require.InDelta(t, list[i+1].Offset, p.Offset+p.Duration, float64(70*time.Millisecond))
			}
			r := s.only()
			require.True(t, r.Finished())
			require.Empty(t, r.Err)
			require.Equal(t, []string{"lobby", "b1"}, []string{r.Stream, r.Broadcast})
			require.Equal(t, 101, r.Partner)
			require.Equal(t, egress.RecordAppended, r.Mode)
			require.Len(t, s.j.of(stream.PieceFinished), len(list))
			require.Len(t, s.j.of(stream.RecordingStarted), 1)
			require.Len(t, s.j.of(stream.RecordingEnded), 1)
			require.Empty(t, s.j.of(stream.RecordingFailed))
			require.Empty(t, s.j.of(stream.MediaGap))
			require.Zero(t, s.rec.Stats().Open)
			left, err := filepath.Glob(filepath.Join(s.dir, "recordings", "*", "*", "*.work"))
			require.NoError(t, err)
			require.Empty(t, left)

			before := s.rec.List("lobby")
			s.openRecorder(Options{}) // a restart
			after := s.rec.List("lobby")
			require.Equal(t, normal(before), normal(after))
		})
	}
}

// normal takes what a restart may change out of times.
func normal(list []stream.Recording) []stream.Recording {
	for i := range list {
		r := &list[i]
		r.Start, r.End = time.Unix(0, r.Start.UnixNano()), time.Unix(0, r.End.UnixNano())
		for k := range r.Pieces {
			r.Pieces[k].Start = time.Unix(0, r.Pieces[k].Start.UnixNano())
		}
	}
	return list
}

func TestNothingIsRecordedThatWasNotAskedFor(t *testing.T) {
	s := openStudio(t, t.TempDir(), Options{})
	s.onAir("b1", false)
	s.b.mode = egress.RecordOff
	s.play(script{fps: 30, gop: 2 * time.Second, to: 5 * time.Second, rate: 48000})
	s.record(egress.ErrEnded)
	require.Empty(t, s.rec.List(""))
	require.Empty(t, s.j.list)
	_, err := s.rec.Split(context.Background(), "lobby")
	require.ErrorContains(t, err, "NOT_RECORDING")
	_, ok := s.rec.Get("nothing")
	require.False(t, ok)
}

func TestTheServerStopsAndGoesOn(t *testing.T) {
	dir := t.TempDir()
	s := openStudio(t, dir, Options{})
	s.onAir("b1", false)
	s.play(script{fps: 30, gop: 2 * time.Second, to: 33 * time.Second, rate: 48000})
	s.record(egress.ErrLeaving)
	r := s.only()
	require.False(t, r.Finished())
	for _, p := range r.Pieces {
		require.False(t, p.Last)
	}
	sent := s.sent

	s = openStudio(t, dir, Options{})
	s.sent = sent
	require.Equal(t, r.ID, s.only().ID)
	s.onAir("b1", true)
	s.play(script{fps: 30, gop: 2 * time.Second, from: 35 * time.Second, to: 65 * time.Second, rate: 48000})
	s.cut.End()
	s.record(egress.ErrEnded)
	require.Equal(t, r.ID, s.only().ID)
	list := s.verify("1")
	t.Log(describePieces(list))
	require.Len(t, list, 4)
	require.NotEmpty(t, s.j.of(stream.MediaGap), "the restart is a gap")
	require.NotEmpty(t, s.only().Pieces)
}

func TestABroadcastThatDoesNotComeBack(t *testing.T) {
	dir := t.TempDir()
	s := openStudio(t, dir, Options{})
	s.onAir("b1", false)
	s.play(script{fps: 30, gop: 2 * time.Second, to: 25 * time.Second, rate: 48000})
	s.record(egress.ErrLeaving)
	sent := s.sent
	// More came, and the broadcast ended, before the server was killed.
	s.play(script{fps: 30, gop: 2 * time.Second, from: 25 * time.Second, to: 33 * time.Second, rate: 48000})
	s.cut.End()

	s = openStudio(t, dir, Options{})
	s.sent = sent
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.rec.Serve(ctx) }()
	for changed := s.rec.Changed(); s.only().End.IsZero(); changed = s.rec.Changed() {
		<-changed
	}
	cancel()
	require.NoError(t, <-done)
	require.Len(t, s.verify("1"), 2)
}

func TestTheNextBroadcastIsAnotherRecording(t *testing.T) {
	s := openStudio(t, t.TempDir(), Options{})
	s.onAir("b1", false)
	s.play(script{fps: 30, gop: 2 * time.Second, to: 10 * time.Second, rate: 48000})
	s.cut.End()
	s.record(egress.ErrEnded)
	s.verify("1")
	one := s.only().ID
	s.onAirAt("b2", false, begun.Add(time.Minute))
	s.play(script{fps: 30, gop: 2 * time.Second, to: 10 * time.Second, rate: 48000})
	s.cut.End()
	s.record(egress.ErrEnded)
	list := s.rec.List("lobby")
	require.Len(t, list, 2)
	require.Equal(t, one, list[1].ID, "newest first")
	require.InDelta(t, 10*time.Second, list[0].Pieces[0].Duration, float64(100*time.Millisecond))
	require.Empty(t, s.j.of(stream.MediaGap))
}

func TestJoin(t *testing.T) {
	for name, x := range map[string]script{
		"plain":    {fps: 30, gop: 2 * time.Second, to: 70 * time.Second, rate: 44100},
		"B-frames": {fps: 25, gop: 2 * time.Second, bframes: 2, to: 50 * time.Second, rate: 48000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openStudio(t, t.TempDir(), Options{Mark: marker})
			s.onAir("b1", false)
			s.play(x)
			s.cut.End()
			s.record(egress.ErrEnded)
			path := filepath.Join(s.dir, "whole.mp4")
			d, err := s.rec.Join(context.Background(), s.only().ID, "1", path)
			require.NoError(t, err)
			require.InDelta(t, x.to, d, float64(100*time.Millisecond))
			all := decode(t, path, s.only().Pieces[0].Offset)
			s.compare(all, "1")
			require.Len(t, all["meta"], len(pieces(s.only(), "1")), "a mark at the beginning of each piece")
			_, err = s.rec.Join(context.Background(), s.only().ID, "1", path)
			require.Error(t, err, "the file exists")
			_, err = s.rec.Join(context.Background(), s.only().ID, "2", path+"2")
			require.ErrorContains(t, err, "RECORDING_NOT_FOUND")
			entries, err := os.ReadDir(s.dir)
			require.NoError(t, err)
			for _, e := range entries {
				require.False(t, strings.HasSuffix(e.Name(), ".new"))
			}
		})
	}
}

func marker(i egress.Info, rendition string, n int, at time.Time) []byte {
	return []byte(i.Stream + "_" + rendition + " " + at.UTC().Format(time.RFC3339Nano) + " " + string(rune('0'+n)))
}

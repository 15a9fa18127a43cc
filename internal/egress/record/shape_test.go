package record

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/stream"
)

// gaps are the durations that events tell.
func (s *studio) gaps() (out []time.Duration) {
	for _, e := range s.j.of(stream.MediaGap) {
		d, err := time.ParseDuration(e.Facts["duration"])
		require.NoError(s.t, err)
		require.Equal(s.t, "record", e.Facts["output"])
		require.NotEmpty(s.t, e.Facts["recording"])
		out = append(out, d)
	}
	return out
}

func TestMissingMedia(t *testing.T) {
	for name, x := range map[string]struct {
		lost   [2]time.Duration
		pieces int
	}{
		"a short hole is bridged":         {[2]time.Duration{24 * time.Second, 28 * time.Second}, 3},
		"a long one begins another piece": {[2]time.Duration{24 * time.Second, 40 * time.Second}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStudio(t, t.TempDir(), Options{})
			s.onAir("b1", false)
			s.play(script{fps: 30, gop: 2 * time.Second, to: 50 * time.Second, rate: 48000, edit: func(p *media.Packet) bool {
				return p.DTS < x.lost[0] || p.DTS >= x.lost[1]
			}})
			s.cut.End()
			s.record(egress.ErrEnded)
			list := s.verify("1") // everything is presented when it was meant to be
			t.Log(describePieces(list))
			require.Len(t, list, x.pieces)
			require.Len(t, s.gaps(), 1)
			require.InDelta(t, x.lost[1]-x.lost[0], s.gaps()[0], float64(100*time.Millisecond))
			require.EqualValues(t, 1, s.rec.Stats().Gaps)
			s.openRecorder(Options{})
			for _, c := range s.rec.all {
				require.Len(t, c.gaps, 1, "a gap is written down")
			}
		})
	}
}

func TestSoundThatStopsAndSoundThatComesLate(t *testing.T) {
	t.Run("stops for a while", func(t *testing.T) {
		s := openStudio(t, t.TempDir(), Options{})
		s.onAir("b1", false)
		s.play(script{fps: 30, gop: 2 * time.Second, to: 50 * time.Second, rate: 48000, edit: func(p *media.Packet) bool {
			return p.Track.Kind == media.Video || p.DTS < 5*time.Second || p.DTS >= 12*time.Second
		}})
		s.cut.End()
		s.record(egress.ErrEnded)
		require.Len(t, s.verify("1"), 3)
		require.Len(t, s.gaps(), 1)
	})
	t.Run("comes late", func(t *testing.T) {
		s := openStudio(t, t.TempDir(), Options{})
		s.onAir("b1", false)
		s.play(script{fps: 30, gop: 2 * time.Second, to: 50 * time.Second, rate: 48000, edit: func(p *media.Packet) bool {
			return p.Track.Kind == media.Video || p.DTS >= 13*time.Second
		}})
		s.cut.End()
		s.record(egress.ErrEnded)
		list := s.verify("1")
		t.Log(describePieces(list))
		require.Len(t, list, 3)
		require.NotContains(t, decode(t, list[0].File, 0), "soun")
		require.Contains(t, decode(t, list[1].File, 0), "soun")
	})
	t.Run("stops for good", func(t *testing.T) {
		s := openStudio(t, t.TempDir(), Options{})
		s.onAir("b1", false)
		s.play(script{fps: 30, gop: 2 * time.Second, to: 50 * time.Second, rate: 48000, edit: func(p *media.Packet) bool {
			return p.Track.Kind == media.Video || p.DTS < 13*time.Second
		}})
		s.cut.End()
		s.record(egress.ErrEnded)
		require.Len(t, s.verify("1"), 3)
	})
}

func TestAnotherConfigurationBeginsAnotherPiece(t *testing.T) {
	s := openStudio(t, t.TempDir(), Options{})
	s.onAir("b1", false)
	v, a := videoTrack(1), audioTrack(1, 48000)
	other := videoTrack(1)
	other.Config = slices.Clone(v.Config)
	other.Config[10] = 0x4d
	other.Video.Width = 640
	packets := script{fps: 30, gop: 2 * time.Second, to: 30 * time.Second, rate: 48000}.packets(v, a)
	for _, p := range packets {
		if p.Track == v && p.DTS >= 11*time.Second {
			if p.Track = other; p.DTS == 11*time.Second {
				p.Flags = media.Key | media.NewConfig
			}
		}
	}
	s.publish("1", newSource(v, a), packets)
	s.cut.End()
	s.record(egress.ErrEnded)
	list := s.verify("1")
	t.Log(describePieces(list))
	require.Len(t, list, 2)
	require.InDelta(t, 11*time.Second, list[1].Offset, float64(30*time.Millisecond))

	path := filepath.Join(s.dir, "whole.mp4")
	_, err := s.rec.Join(t.Context(), s.only().ID, "1", path)
	require.NoError(t, err)
	s.compare(decode(t, path, list[0].Offset), "1")
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	m, err := readPiece(path)
	require.NoError(t, err)
	require.Len(t, m.Tracks[0].Entries, 2, "both configurations are there")
	require.Len(t, m.Tracks[1].Entries, 1)
}

func TestRenditionsAreRecordedEach(t *testing.T) {
	s := openStudio(t, t.TempDir(), Options{})
	s.onAir("b1", false)
	for i, id := range []string{"32", "100", "7"} {
		v, a := videoTrack(i+1), audioTrack(i+1, 48000)
		x := script{fps: 30, gop: 2 * time.Second, to: 30 * time.Second, rate: 48000}
		if id == "7" { // it comes later
			x.from, x.to = 9*time.Second, 25*time.Second
		}
		s.publish(id, newSource(v, a), x.packets(v, a))
	}
	s.cut.End()
	s.record(egress.ErrEnded)
	var order []string
	for _, p := range s.only().Pieces {
		if p.Last {
			order = append(order, p.Rendition)
		}
	}
	require.Equal(t, []string{"7", "32", "100"}, order, "each has one last piece")
	for _, id := range order {
		s.verify(id)
	}
	require.Len(t, pieces(s.only(), "7"), 1)
	require.Len(t, pieces(s.only(), "32"), 2)
}

// TestAPublisherThatComesBack has two sessions in one broadcast.
func TestAPublisherThatComesBack(t *testing.T) {
	s := openStudio(t, t.TempDir(), Options{})
	s.onAir("b1", false)
	s.play(script{fps: 30, gop: 2 * time.Second, to: 11 * time.Second, rate: 48000})
	s.play(script{fps: 30, gop: 2 * time.Second, from: 16 * time.Second, to: 30 * time.Second, rate: 48000, edit: func(p *media.Packet) bool {
		if p.DTS < 16*time.Second+30*time.Millisecond {
			p.Flags |= media.Discontinuity
		}
		return true
	}})
	s.cut.End()
	s.record(egress.ErrEnded)
	list := s.verify("1")
	require.Len(t, list, 2)
	require.Len(t, s.gaps(), 1)
}

func TestNamesOfPieces(t *testing.T) {
	for _, stream := range []string{"lobby", "0_abc", "a.b.1", "..", "x/../y", "ü"} {
		for _, rendition := range []string{"1", "1~hi", "a.b", "..", "1.0.2", "32"} {
			for _, index := range []int{0, 1} {
				name := pieceName(stream, rendition, index, 12)
				require.Equal(t, filepath.Base(name), name)
				r, n, ok := parsePieceName(name, stream, index)
				require.True(t, ok, name)
				require.Equal(t, rendition, r)
				require.Equal(t, 12, n)
			}
		}
	}
	for _, bad := range []string{"lobby.1.0.0", "lobby.1.0.01", "lobby.1.0.-1", "lobby.1.1.2", "lobby.0.2", "other.1.0.2", "lobby", "lobby.%zz.0.1"} {
		_, _, ok := parsePieceName(bad, "lobby", 0)
		require.False(t, ok, bad)
	}
}

// TestNumbersThatAreUsedAgain has a shelf that forgot what was recorded.
func TestNumbersThatAreUsedAgain(t *testing.T) {
	dir := t.TempDir()
	s := openStudio(t, dir, Options{})
	s.onAir("b1", false)
	s.play(script{fps: 30, gop: 2 * time.Second, to: 14 * time.Second, rate: 48000})
	s.record(egress.ErrLeaving)
	sent := s.sent
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "shelf")))
	s = openStudio(t, dir, Options{})
	s.sent = sent
	s.onAir("b1", true)
	s.play(script{fps: 30, gop: 2 * time.Second, from: 15 * time.Second, to: 26 * time.Second, rate: 48000})
	s.cut.End()
	s.record(egress.ErrEnded)
	list := s.verify("1")
	require.Len(t, list, 2)
	require.Len(t, s.gaps(), 1)
}

// TestOneRecordingIsEndedWhileAnotherGoesOn restarts the server when one
// recording of a broadcast is not finished yet and the next is open.
func TestOneRecordingIsEndedWhileAnotherGoesOn(t *testing.T) {
	dir := t.TempDir()
	s := openStudio(t, dir, Options{})
	s.onAir("b1", false)
	s.play(script{fps: 30, gop: 2 * time.Second, to: 14 * time.Second, rate: 48000})
	s.record(egress.ErrLeaving)
	for _, c := range s.rec.all { // it was ended, and the server killed then
		c.closing = begun.Add(14 * time.Second)
		require.NoError(t, s.rec.save(c))
	}
	s = openStudio(t, dir, Options{})
	s.onAir("b1", true)
	s.play(script{fps: 30, gop: 2 * time.Second, from: 14 * time.Second, to: 20 * time.Second, rate: 48000})
	s.record(egress.ErrLeaving)
	list := s.rec.List("")
	require.Len(t, list, 2)
	require.InDelta(t, 14*time.Second, list[0].Pieces[0].Offset, float64(50*time.Millisecond), "nothing is recorded twice")

	s = openStudio(t, dir, Options{})
	for _, c := range s.rec.orphans(time.Now()) {
		require.NoError(t, s.rec.conclude(t.Context(), c))
	}
	list = s.rec.List("")
	require.False(t, list[1].End.IsZero())
	require.True(t, list[0].End.IsZero())
	s.onAir("b1", true)
	s.cut.End()
	s.record(egress.ErrEnded)
	list = s.rec.List("")
	require.Len(t, list, 2, "the open one went on")
	require.False(t, list[0].End.IsZero())
}

package record

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/stream"
)

// TestAGroupMayRead gives recordings to a group that the tester is in.
func TestAGroupMayRead(t *testing.T) {
	group := os.Getgid()
	if list, err := os.Getgroups(); err == nil && len(list) > 0 {
		group = list[len(list)-1]
	}
	if os.Getuid() == 0 {
		group = 4242
	}
	of := func(path string) (int, os.FileMode) {
		info, err := os.Stat(path)
		require.NoError(t, err)
		return int(info.Sys().(*syscall.Stat_t).Gid), info.Mode() &^ os.ModeDir
	}
	s := openStudio(t, t.TempDir(), Options{Group: &group})
	top := filepath.Join(s.dir, "recordings")
	gid, mode := of(top)
	require.Equal(t, group, gid)
	require.Equal(t, 0o750|os.ModeSetgid, mode)
	// Folders do not rely on the one above them, which somebody else may have made.
	require.NoError(t, os.Chown(top, -1, os.Getgid()))
	require.NoError(t, os.Chmod(top, 0o750))
	s.onAir("b1", false)
	s.play(script{fps: 30, gop: 2 * time.Second, to: 50 * time.Second, rate: 48000})
	s.rec.step = func(step string) error {
		if step == "piece to be written" || step == "file shared" {
			for _, p := range s.only().Pieces {
				if p.Finished {
					continue
				}
				_, err := os.Stat(p.File[:len(p.File)-len(extWork)] + extPiece)
				require.ErrorIs(t, err, os.ErrNotExist, "it has its name once it is shared")
			}
		}
		return nil
	}
	s.record(egress.ErrEnded)
	list := s.verify("1")
	require.Len(t, list, 3)
	for _, p := range list {
		gid, mode := of(p.File)
		require.Equal(t, group, gid)
		require.Equal(t, os.FileMode(0o640), mode)
	}
	for dir := filepath.Dir(list[0].File); dir != top; dir = filepath.Dir(dir) {
		gid, mode := of(dir)
		require.Equal(t, group, gid, dir)
		require.Equal(t, 0o750|os.ModeSetgid, mode, dir)
	}
	require.Empty(t, s.only().Err)

	whole := filepath.Join(t.TempDir(), "whole.mp4")
	_, err := s.rec.Join(t.Context(), s.only().ID, "1", whole)
	require.NoError(t, err)
	gid, _ = of(whole)
	require.Equal(t, group, gid)
}

// TestAGroupThatIsGivenLater opens the folders of a recording that goes on
// after a restart.
func TestAGroupThatIsGivenLater(t *testing.T) {
	group := os.Getgid()
	s := openStudio(t, t.TempDir(), Options{})
	s.onAir("b1", false)
	s.play(script{fps: 30, gop: 2 * time.Second, to: 30 * time.Second, rate: 48000})
	s.record(egress.ErrLeaving)
	s.openRecorder(Options{Group: &group})
	s.record(egress.ErrEnded)
	for dir := filepath.Dir(s.only().Pieces[0].File); dir != s.dir; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		require.NoError(t, err)
		require.NotZero(t, info.Mode()&os.ModeSetgid, dir)
	}
}

// TestAGroupThatCannotBeGivenLosesNothing is told once, whatever fails.
func TestAGroupThatCannotBeGivenLosesNothing(t *testing.T) {
	group := os.Getgid()
	s := openStudio(t, t.TempDir(), Options{Group: &group})
	s.onAir("b1", false)
	s.play(script{fps: 30, gop: 2 * time.Second, to: 50 * time.Second, rate: 48000})
	s.rec.step = func(step string) error {
		if step == "file shared" || step == "folder shared" {
			return &os.PathError{Op: "chown", Path: "/secret/place", Err: syscall.EPERM}
		}
		return nil
	}
	s.record(egress.ErrEnded)
	require.Len(t, s.verify("1"), 3)
	r := s.only()
	require.True(t, r.Finished())
	require.Contains(t, r.Err, "not permitted")
	told := s.j.of(stream.RecordingFailed)
	require.Len(t, told, 1)
	require.NotContains(t, told[0].Facts["error"], "secret")
}

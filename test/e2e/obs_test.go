//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/test/e2e/harness"
	"github.com/klive-media/klive/test/e2e/hlscheck"
)

// profile writes OBS's settings below home: one scene with a coloured source, 360p30, x264 at its fastest, and the
// address of the stream as a user pastes it.
func profile(t *testing.T, home, server, key string) {
	t.Helper()
	write := func(path, text string) {
		path = filepath.Join(home, ".config", "obs-studio", path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	write("global.ini", `[General]
Pre19Defaults=false
Pre21Defaults=false
Pre23Defaults=false
Pre24.1Defaults=false
FirstRun=true
LastVersion=486539266
InfoIncrement=-1
EnableAutoUpdates=false
[Basic]
Profile=e2e
ProfileDir=e2e
SceneCollection=e2e
SceneCollectionFile=e2e
[BasicWindow]
WarnBeforeStartingStream=false
WarnBeforeStoppingStream=false
ShowListboxToolbars=false
[OBSWebSocket]
FirstLoad=false
ServerEnabled=false
`)
	write("basic/profiles/e2e/basic.ini", `[General]
Name=e2e
[Output]
Mode=Simple
[SimpleOutput]
VBitrate=800
ABitrate=96
UseAdvanced=true
Preset=ultrafast
StreamEncoder=x264
x264Settings=keyint=60
[Video]
BaseCX=640
BaseCY=360
OutputCX=640
OutputCY=360
FPSType=0
FPSCommon=30
[Audio]
SampleRate=48000
ChannelSetup=Stereo
`)
	service, err := json.Marshal(map[string]any{"type": "rtmp_custom", "settings": map[string]any{"server": server, "key": key, "use_auth": false, "bwtest": false}})
	require.NoError(t, err)
	write("basic/profiles/e2e/service.json", string(service))
	write("basic/scenes/e2e.json", `{
  "name": "e2e", "current_scene": "Scene", "current_program_scene": "Scene", "scene_order": [{"name": "Scene"}],
  "sources": [
    {"id": "color_source_v3", "versioned_id": "color_source_v3", "name": "Colour", "settings": {"color": 4292835968, "width": 640, "height": 360}},
    {"id": "scene", "versioned_id": "scene", "name": "Scene", "settings": {"id_counter": 1, "items": [
      {"name": "Colour", "id": 1, "visible": true, "pos": {"x": 0.0, "y": 0.0}, "scale": {"x": 1.0, "y": 1.0}}]}}
  ]}`)
}

// startOBS starts OBS, which streams to an address at once, until the test's end.
func startOBS(t *testing.T, server, key string) *harness.Process {
	t.Helper()
	home := t.TempDir()
	profile(t, home, server, key)
	return launchOBS(t, home)
}

// launchOBS starts OBS with the settings below home.
func launchOBS(t *testing.T, home string) *harness.Process {
	t.Helper()
	runtime := filepath.Join(home, "run")
	require.NoError(t, os.Mkdir(runtime, 0o700))
	display := xvfb(t, home)
	cmd := exec.Command("obs", "--startstreaming", "--minimize-to-tray", "--multi", "--profile", "e2e", "--collection", "e2e", "--verbose", "--disable-updater", "--disable-missing-files-check")
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+filepath.Join(home, ".config"), "XDG_RUNTIME_DIR="+runtime, "DISPLAY="+display,
		"LIBGL_ALWAYS_SOFTWARE=1", "QT_QPA_PLATFORM=xcb", "LANG=C.UTF-8", "DBUS_SESSION_BUS_ADDRESS=disabled:")
	obs, err := harness.StartProcess(cmd, filepath.Join(home, "obs.log"))
	require.NoError(t, err)
	t.Cleanup(func() {
		obs.KillGroup()
		if t.Failed() {
			t.Logf("OBS says:\n%s", obs.Tail(6000))
		}
	})
	return obs
}

// OBS publishes with the address that the server hands out.
func TestOBSPublishes(t *testing.T) {
	s := harness.Start(t, catalog)
	addresses, err := klivev1.NewStreamServiceClient(s.Dial(t)).GetPublishAddresses(t.Context(), &klivev1.GetPublishAddressesRequest{Name: "streams/lobby"})
	require.NoError(t, err)
	var server, key string
	for _, a := range addresses.GetAddresses() {
		if a.GetProtocol() == "rtmp" && server == "" {
			server, key = a.GetServer(), a.GetStreamKey()
		}
	}
	require.NotEmpty(t, server, "no RTMP address among %v", addresses)
	server = loopback(t, server, s.RTMP)
	t.Logf("OBS: server %s, stream key %s", server, key)

	startOBS(t, server, key)
	s.AwaitState(t, "lobby", klivev1.BroadcastState_BROADCAST_STATE_PLAYABLE, 90*time.Second)
	session := s.Sessions(t, "lobby")[0]
	t.Logf("encoder %q, tracks %v", session.GetUserAgent(), session.GetTracks())
	require.Contains(t, session.GetUserAgent(), "FMSc")
	video, _ := rows(t, s, "lobby")
	f := followFor(t, video, 8*time.Second)
	require.Empty(t, f.Findings.List())
	checkPictures(t, f)
}

// OBS publishes over SRT, encrypted, with the address that the server hands out; it is refused with a wrong
// passphrase, and says so.
func TestOBSPublishesOverSRT(t *testing.T) {
	s := harness.Start(t, catalog+"\nsrt: { passphrase: correct-horse-battery }\n")
	book, err := klivev1.NewStreamServiceClient(s.Dial(t)).GetPublishAddresses(t.Context(), &klivev1.GetPublishAddressesRequest{Name: "streams/lobby"})
	require.NoError(t, err)
	var address string
	for _, a := range book.GetAddresses() {
		if a.GetProtocol() == "srt" && address == "" {
			address = a.GetUrl()
		}
	}
	_, query, ok := strings.Cut(address, "?")
	require.True(t, ok, "no SRT address among %v", book)
	address = "srt://" + s.SRT + "?" + query
	t.Logf("OBS: server %s, no stream key", address)

	wrong := startOBS(t, strings.Replace(address, "correct-horse", "wrong-horse", 1), "")
	refused := eventsUntil(t, s, klivev1.EventType_EVENT_TYPE_PUBLISH_REFUSED)
	require.Equal(t, "BAD_PASSPHRASE", refused[0].GetReason())
	harness.Wait(t, 20*time.Second, "OBS says that it was refused", func() (bool, error) {
		return contains(wrong.Output(), "Connection rejected, wrong password or invalid URL"), nil
	})
	wrong.KillGroup()

	obs := startOBS(t, address, "")
	s.AwaitState(t, "lobby", klivev1.BroadcastState_BROADCAST_STATE_PLAYABLE, 90*time.Second)
	session := s.Sessions(t, "lobby")[0]
	t.Logf("encoder %q, tracks %v", session.GetUserAgent(), session.GetTracks())
	require.True(t, session.GetLink().GetEncrypted())
	video, _ := rows(t, s, "lobby")
	f := followFor(t, video, 8*time.Second)
	require.Empty(t, f.Findings.List())
	checkPictures(t, f)
	obs.KillGroup() // a goodbye is ffmpeg's part: OBS has none when it is ended from outside
	harness.Wait(t, 30*time.Second, "the server notices that OBS is gone", func() (bool, error) {
		return s.Sessions(t, "lobby")[0].GetReason() == "CONNECTION_LOST", nil
	})
}

// eventsUntil waits for events of a type.
func eventsUntil(t *testing.T, s *harness.Server, kind klivev1.EventType) (list []*klivev1.Event) {
	t.Helper()
	harness.Wait(t, 90*time.Second, kind.String(), func() (bool, error) {
		list = eventsOf(t, s, kind)
		return len(list) > 0, nil
	})
	return list
}

// checkPictures checks that about 30 pictures a second came.
func checkPictures(t *testing.T, f *hlscheck.Follower) {
	t.Helper()
	pictures, seconds := 0, 0.0
	for _, run := range f.Runs {
		pictures += len(run.Tracks[0].Samples)
		seconds += float64(run.Tracks[0].Ticks()) / float64(run.Tracks[0].Track.Timescale)
	}
	t.Logf("%d pictures in %.2f s", pictures, seconds)
	require.Greater(t, seconds, 5.0)
	require.InDelta(t, 30, float64(pictures)/seconds, 1.5)
}

// loopback puts the test's own listener into an address that names this machine.
func loopback(t *testing.T, address, listener string) string {
	t.Helper()
	at := len("rtmp://")
	require.Greater(t, len(address), at)
	rest := address[at:]
	for i := range rest {
		if rest[i] == '/' {
			return address[:at] + listener + rest[i:]
		}
	}
	t.Fatalf("the address %s has no application", address)
	return ""
}

// xvfb starts an X server without a screen and returns its display.
func xvfb(t *testing.T, dir string) string {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	cmd := exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", "800x600x24", "-nolisten", "tcp")
	cmd.ExtraFiles = []*os.File{w}
	p, err := harness.StartProcess(cmd, filepath.Join(dir, "xvfb.log"))
	w.Close()
	require.NoError(t, err)
	t.Cleanup(p.KillGroup)
	var number int
	require.NoError(t, r.SetReadDeadline(time.Now().Add(20*time.Second)))
	_, err = fmt.Fscanln(r, &number)
	require.NoError(t, err, "Xvfb did not start: %s", p.Tail(1000))
	return fmt.Sprintf(":%d", number)
}

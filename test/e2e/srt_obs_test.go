//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/test/e2e/harness"
)

// stopScript is what OBS runs: it presses "Stop Streaming" when a file is there.
const stopScript = `
function script_description() return "Stops the stream when a file is there" end
function script_load(settings)
	obslua.timer_add(function()
		local f = io.open(%q, "r")
		if f then
			f:close()
			os.remove(%q)
			obslua.obs_frontend_streaming_stop()
		end
	end, 200)
end
`

// startStoppableOBS is startOBS with a function that stops the stream as a user does.
func startStoppableOBS(t *testing.T, server string) (*harness.Process, func()) {
	t.Helper()
	home := t.TempDir()
	profile(t, home, server, "")
	trigger, script := filepath.Join(home, "stop"), filepath.Join(home, "stop.lua")
	require.NoError(t, os.WriteFile(script, fmt.Appendf(nil, stopScript, trigger, trigger), 0o600))
	scenes := filepath.Join(home, ".config", "obs-studio", "basic", "scenes", "e2e.json")
	b, err := os.ReadFile(scenes)
	require.NoError(t, err)
	var collection map[string]any
	require.NoError(t, json.Unmarshal(b, &collection))
	collection["modules"] = map[string]any{"scripts-tool": []any{map[string]any{"path": script, "settings": map[string]any{}}}}
	b, err = json.Marshal(collection)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(scenes, b, 0o600))

	return launchOBS(t, home), func() { require.NoError(t, os.WriteFile(trigger, nil, 0o600)) }
}

// OBS publishes over SRT without encryption, with a stream id that is percent-encoded in the server's address, and says
// goodbye when its user stops the stream.
func TestOBSStopsOverSRT(t *testing.T) {
	s := harness.Start(t, catalog)
	obs, stop := startStoppableOBS(t, "srt://"+s.SRT+"?mode=caller&latency=200000&streamid="+url.QueryEscape("#!::r=lobby_1,m=publish,token="+token))
	s.AwaitState(t, "lobby", klivev1.BroadcastState_BROADCAST_STATE_PLAYABLE, 90*time.Second)
	video, audio := rows(t, s, "lobby")
	f := followFor(t, video, length(20*time.Second, 10*time.Second))
	require.Empty(t, f.Findings.List())
	checkPictures(t, f)
	f = followFor(t, audio, 2*time.Second)
	require.Empty(t, f.Findings.List())
	require.Positive(t, f.Parts)
	link := s.Sessions(t, "lobby")[0].GetLink()
	require.False(t, link.GetEncrypted())
	require.Equal(t, 200*time.Millisecond, link.GetLatency().AsDuration())
	stop()
	session := unpublished(t, s, "lobby")
	require.Zero(t, session.GetDiscontinuityCount())
	require.Zero(t, session.GetTimeRepairCount())
	require.False(t, obs.Ended(), "OBS itself goes on")
}

//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/test/e2e/harness"
)

// entry is the simulated backend's only entry, unless a test asks for others.
const entry = "0_simulate"

// small is a picture that costs little.
var small = harness.Picture{Size: "160x90", Rate: 15, GOP: 15, Bitrate: "150k"}

// parallelStories is how many of the tests below run at once. They mostly wait.
const parallelStories = 5

// TestKaltura tries the bridge against the simulated backend, with real encoders and players. Each part has a backend and
// a server of its own.
func TestKaltura(t *testing.T) {
	var all sync.WaitGroup
	turn := make(chan struct{}, parallelStories)
	for _, part := range []struct {
		name string
		try  func(*testing.T)
	}{
		{"lost answers", kalturaLostAnswers},
		{"outage", kalturaOutage},
		{"crash", kalturaCrash},
		{"saas", func(t *testing.T) { kalturaStory(t) }},
		{"ecdn", func(t *testing.T) { kalturaStory(t, "--ecdn") }},
		{"takeover", kalturaTakeover},
		{"refusals", kalturaRefusals},
		{"srt", kalturaSRT},
		{"blocked on air", kalturaBlockedOnAir},
		{"bitrates and control", kalturaBitrates},
		{"preview", kalturaPreview},
	} {
		// Not t.Parallel, which would run as many at once as there are processors.
		turn <- struct{}{} // the longest first
		all.Go(func() {
			defer func() { <-turn }()
			t.Run(part.name, part.try)
		})
	}
	all.Wait()
}

// patience is how long something may take that is a matter of a moment on a machine that does nothing else.
const patience = 60 * time.Second

// awaitPlayable waits until the server has something to play.
func awaitPlayable(t *testing.T, s *harness.Server, id string) {
	t.Helper()
	s.AwaitState(t, id, klivev1.BroadcastState_BROADCAST_STATE_PLAYABLE, patience)
}

// awaitNode waits until the backend knows the server, so that publishers get in.
func awaitNode(t *testing.T, s *harness.Server) {
	t.Helper()
	harness.Wait(t, patience, "the backend knows the server", func() (bool, error) {
		return bridge(t, s).GetNode().GetRegistered(), nil
	})
}

// bridge asks the control API for the bridge.
func bridge(t *testing.T, s *harness.Server) *klivev1.KalturaBridge {
	t.Helper()
	v, err := klivev1.NewKalturaBridgeServiceClient(s.Dial(t)).GetKalturaBridge(t.Context(), &klivev1.GetKalturaBridgeRequest{})
	require.NoError(t, err)
	return v
}

// resync asks the server to tell the backend everything at once.
func resync(t *testing.T, s *harness.Server) {
	t.Helper()
	_, err := klivev1.NewKalturaBridgeServiceClient(s.Dial(t)).ResyncKalturaBridge(t.Context(), &klivev1.ResyncKalturaBridgeRequest{})
	require.NoError(t, err)
}

// registered is an entry at a server index as the control API shows it, nil when it does not.
func registered(t *testing.T, s *harness.Server, id string, index int32) *klivev1.KalturaRegistration {
	t.Helper()
	for _, r := range bridge(t, s).GetRegistrations() {
		if r.GetStream() == "streams/"+id && r.GetServerIndex() == index {
			return r
		}
	}
	return nil
}

// eventsOf are the events of a type, oldest first.
func eventsOf(t *testing.T, s *harness.Server, kind klivev1.EventType) []*klivev1.Event {
	t.Helper()
	name, ok := strings.CutPrefix(kind.String(), "EVENT_TYPE_")
	require.True(t, ok)
	v, err := klivev1.NewEventServiceClient(s.Dial(t)).ListEvents(t.Context(), &klivev1.ListEventsRequest{PageSize: 1000, Filter: "type = " + name})
	require.NoError(t, err)
	list := v.GetEvents()
	slices.Reverse(list)
	return list
}

// awaitEvents waits until there are at least n events of a type.
func awaitEvents(t *testing.T, s *harness.Server, kind klivev1.EventType, n int, d time.Duration) []*klivev1.Event {
	t.Helper()
	var list []*klivev1.Event
	harness.Wait(t, d, kind.String(), func() (bool, error) {
		list = eventsOf(t, s, kind)
		return len(list) >= n, nil
	})
	return list
}

// recordings are the recordings of an entry, newest first.
func recordings(t *testing.T, s *harness.Server, id string) []*klivev1.Recording {
	t.Helper()
	v, err := klivev1.NewRecordingServiceClient(s.Dial(t)).ListRecordings(t.Context(), &klivev1.ListRecordingsRequest{Parent: "streams/" + id})
	require.NoError(t, err)
	return v.GetRecordings()
}

// awaitRow waits until the backend has an entry's primary in the state.
func awaitRow(t *testing.T, b *harness.Backend, id string, status int, d time.Duration) {
	t.Helper()
	last := -1
	harness.Wait(t, d, "the backend's state of the entry", func() (bool, error) {
		last = b.Row(t, id, kalturatest.IndexPrimary).Status
		return last == status, nil
	})
}

// awaitOffAir waits until the entry has ended everywhere, its recording delivered and its registration gone.
func awaitOffAir(t *testing.T, b *harness.Backend, s *harness.Server, id string, d time.Duration) {
	t.Helper()
	s.AwaitState(t, id, klivev1.BroadcastState_BROADCAST_STATE_STOPPED, d)
	harness.Wait(t, d, "the registration is gone", func() (bool, error) {
		_, there := b.State(t).Registration(id, kalturatest.IndexPrimary)
		return !there, nil
	})
}

// ownPieces are the finished pieces of recordings on the server's own disk: paths by SHA-256.
func ownPieces(t *testing.T, s *harness.Server) map[string]string {
	t.Helper()
	sums := make(map[string]string)
	err := filepath.WalkDir(filepath.Join(s.Dir, "data", "recordings"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".mp4" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		sums[hex.EncodeToString(sum[:])] = path
		return nil
	})
	require.NoError(t, err)
	return sums
}

// arrivedOnce holds what arrived at the backend for an entry to what the server recorded: every piece once, in order, its
// bytes unchanged, nothing missing. It returns the pieces of the rendition.
func arrivedOnce(t *testing.T, b *harness.Backend, s *harness.Server, id string, flavor int) []kalturatest.Segment {
	t.Helper()
	own := ownPieces(t, s)
	var arrived []kalturatest.Segment
	seen := make(map[string]bool)
	for _, piece := range b.State(t).Segments {
		if piece.Entry != id || piece.Flavor != flavor {
			continue
		}
		require.False(t, seen[piece.SHA256], "piece %d arrived twice", piece.Number)
		require.Contains(t, own, piece.SHA256, "piece %d is not what was recorded", piece.Number)
		require.Equal(t, len(arrived), piece.Number)
		seen[piece.SHA256] = true
		arrived = append(arrived, piece)
	}
	var wanted []*klivev1.RecordingPiece
	for _, r := range slices.Backward(recordings(t, s, id)) { // oldest first
		for _, p := range r.GetPieces() {
			if p.GetRendition() == itoa(flavor) && p.GetFinished() {
				wanted = append(wanted, p)
			}
		}
	}
	require.Len(t, arrived, len(wanted), "pieces that arrived")
	for i, p := range wanted {
		require.InDelta(t, p.GetDuration().AsDuration().Seconds(), arrived[i].Duration, 0.002, "piece %d is out of order", i)
		require.Equal(t, p.GetSizeBytes(), arrived[i].Size)
		require.Equal(t, klivev1.DeliveryState_DELIVERY_STATE_DELIVERED, p.GetDelivery().GetState())
	}
	return arrived
}

// near holds two times to each other.
func near(t *testing.T, want time.Time, got *timestamppb.Timestamp, within time.Duration, what string) {
	t.Helper()
	require.NotNil(t, got, what)
	require.WithinDuration(t, want, got.AsTime(), within, what)
}

// kalturaStory is the whole story: an encoder publishes by the address that the backend hands out, until it leaves.
func kalturaStory(t *testing.T, flags ...string) {
	const seconds, host = 23, "live1.example.com"
	b := harness.StartBackend(t, append(flags, "--record", "per-session", "--dvr", "60")...)
	s := b.Serve(t, host, "reconnect_window: 3s", "recording: { segment_duration: 10s }\n")
	awaitNode(t, s)
	picture := small
	picture.Duration = seconds
	e := harness.StartEncoder(t, s, b.PublishURL(t, entry, 0, 1), picture)
	awaitPlayable(t, s, entry)
	awaitRow(t, b, entry, kalturatest.StatusPlayable, patience)
	onAir(t, b, s, host)

	// A viewer, by the backend's own playlist.
	out, diag, err := harness.Run(30*time.Second, "ffprobe", "-v", "error", "-show_entries", "stream=codec_name,width,height", "-of", "csv=p=0", b.Master(entry))
	require.NoError(t, err, diag)
	require.Contains(t, out, "h264,160,90")
	require.Contains(t, out, "aac")

	require.True(t, e.Wait(60*time.Second), "ffmpeg did not end by itself")
	left := time.Now()
	require.NoError(t, e.Err())
	awaitOffAir(t, b, s, entry, patience)
	offAir(t, b, s, left)

	pieces := arrivedOnce(t, b, s, entry, 32)
	require.Len(t, pieces, 2) // they end where segments do, and the backend asks for segments of 6 s
	length, frames := 0.0, 0
	for i, p := range pieces {
		require.Equal(t, i == len(pieces)-1, p.Last)
		require.Equal(t, pieces[0].Recorded, p.Recorded)
		require.NotEmpty(t, p.Recorded)
		length += p.Duration
		frames += countFrames(t, p.Path, "v")
	}
	require.InDelta(t, seconds, length, 0.3)
	require.Equal(t, seconds*small.Rate, frames, "pictures in what the backend has")
	uploads := b.State(t).Count("uploadToken.upload")
	if slices.Contains(flags, "--ecdn") {
		require.GreaterOrEqual(t, uploads, len(pieces))
		require.Equal(t, klivev1.KalturaMode_KALTURA_MODE_ECDN, bridge(t, s).GetMode())
	} else {
		require.Zero(t, uploads)
		require.Contains(t, pieces[0].Source, filepath.Join(b.Dir, "shared"))
	}
	// The backend looks for sync points in the third stream of a piece, which carries data.
	out, diag, err = harness.Run(30*time.Second, "ffprobe", "-v", "error", "-show_entries", "stream=codec_type", "-of", "csv=p=0", pieces[0].Path)
	require.NoError(t, err, diag)
	require.Equal(t, []string{"video", "audio", "data"}, strings.Fields(out))
	first, err := os.ReadFile(pieces[0].Path)
	require.NoError(t, err)
	require.Contains(t, string(first), "KalturaSyncPoint")
	secret := b.PublishURL(t, entry, 0, 1)
	secret = secret[strings.Index(secret, "&t=")+3:]
	secret, _, _ = strings.Cut(secret, "/")
	require.NotContains(t, s.Log(), secret, "the log holds the token")
	require.NotContains(t, s.Log(), "djJ8", "the log holds a session")
}

// onAir holds what the backend, the API, the events and the metrics say of an entry that is on air against each other.
func onAir(t *testing.T, b *harness.Backend, s *harness.Server, host string) {
	t.Helper()
	var told *klivev1.KalturaRegistration
	harness.Wait(t, patience, "the API shows what the backend was told", func() (bool, error) {
		told = registered(t, s, entry, 0)
		return told.GetState() == klivev1.BroadcastState_BROADCAST_STATE_PLAYABLE && len(told.GetStreams()) > 0 &&
			len(b.Row(t, entry, "0").Streams) > 0, nil
	})
	state := b.State(t)
	row, ok := state.Registration(entry, "0")
	require.True(t, ok)
	i := slices.IndexFunc(state.Nodes, func(n kalturatest.Node) bool { return n.ID == row.Node })
	require.Equal(t, host, state.Nodes[i].HostName)
	require.EqualValues(t, row.Node, bridge(t, s).GetNode().GetId())
	require.True(t, bridge(t, s).GetBackend().GetAvailable())

	require.EqualValues(t, kalturatest.StatusPlayable, told.GetKalturaStatus())
	require.EqualValues(t, 102, told.GetPartnerId())
	require.NotNil(t, told.GetNextReportTime())
	require.NotEmpty(t, told.GetRecordedEntryId())
	shown, ok := state.Entry(entry)
	require.True(t, ok)
	require.Equal(t, shown.Recorded, told.GetRecordedEntryId())
	stream := s.Stream(t, entry)
	near(t, time.Unix(shown.LastBroadcast, 0), told.GetStateTime(), 2*time.Second, "PLAYABLE since")
	near(t, time.Unix(shown.CurrentBroadcastTime, 0), stream.GetBroadcasts()[0].GetStartTime(), 3*time.Second, "the broadcast's start")
	require.Equal(t, stream.GetBroadcasts()[0].GetId(), told.GetBroadcastId())
	require.Equal(t, "32", stream.GetBroadcasts()[0].GetRenditions()[0].GetId())

	require.Len(t, row.Streams, 1)
	require.Equal(t, "32", row.Streams[0]["flavorId"])
	require.Equal(t, "160", row.Streams[0]["width"])
	require.NotEqual(t, "0", row.Streams[0]["bitrate"])

	// AUTHENTICATED, BROADCASTING, PLAYABLE: the backend's calls and our events, one each.
	require.Equal(t, 1, state.Count("liveStream.authenticate"))
	var calls []kalturatest.Call
	for _, c := range state.Calls {
		if c.Action == "registermediaserver" {
			require.Empty(t, c.Code)
			calls = append(calls, c)
		}
	}
	require.GreaterOrEqual(t, len(calls), 2)
	events := eventsOf(t, s, klivev1.EventType_EVENT_TYPE_ENTRY_REGISTERED)
	require.GreaterOrEqual(t, len(events), 2)
	near(t, calls[len(calls)-1].At, events[len(events)-1].GetEventTime(), 2*time.Second, "the event of the last registration")

	for name, want := range map[string]float64{"klive_kaltura_node_registered": 1, "klive_kaltura_backend_away": 0} {
		got, err := s.Metric(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, want, got, name)
	}
	playable, err := s.Metric(t.Context(), "klive_kaltura_registrations", `state="PLAYABLE"`)
	require.NoError(t, err)
	require.Equal(t, 1.0, playable)
	asked, err := s.Metric(t.Context(), "klive_kaltura_calls_total", `method="liveStream.authenticate"`, `code="ok"`)
	require.NoError(t, err)
	require.Equal(t, 1.0, asked)
}

// offAir holds the same against each other after the end.
func offAir(t *testing.T, b *harness.Backend, s *harness.Server, left time.Time) {
	t.Helper()
	state := b.State(t)
	shown, _ := state.Entry(entry)
	require.WithinDuration(t, left, time.Unix(shown.LastBroadcastEnd, 0), 20*time.Second)
	require.Equal(t, 0, shown.LiveStatus)
	require.Equal(t, 1, state.Count("liveStream.unregisterMediaServer"), "unregistered once")
	require.Equal(t, 1, state.Count("liveStream.authenticate"))
	require.Contains(t, state.CancelledReplace, shown.Recorded)
	delivered := awaitEvents(t, s, klivev1.EventType_EVENT_TYPE_RECORDING_PIECE_DELIVERED, 2, patience)
	gone := awaitEvents(t, s, klivev1.EventType_EVENT_TYPE_ENTRY_UNREGISTERED, 1, patience)
	require.Len(t, gone, 1)
	require.Greater(t, gone[0].GetSequence(), delivered[len(delivered)-1].GetSequence(), "the last piece comes before the end")
	for i := len(state.Calls) - 1; i >= 0; i-- {
		if state.Calls[i].Action == "unregistermediaserver" {
			near(t, state.Calls[i].At, gone[0].GetEventTime(), 2*time.Second, "the event of the end")
		}
	}
	open := bridge(t, s).GetPendingDeliveryCounts()
	require.Zero(t, open.GetTotal())
	for _, state := range []string{"PLAYABLE", "BROADCASTING", "AUTHENTICATED"} {
		n, err := s.Metric(t.Context(), "klive_kaltura_registrations", `state="`+state+`"`)
		require.NoError(t, err)
		require.Zero(t, n, state)
	}
}

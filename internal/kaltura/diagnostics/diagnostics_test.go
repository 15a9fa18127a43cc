package diagnostics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// air is what is on air.
type air struct {
	stream.Live
	statuses     []stream.Status
	sessions     []stream.SessionStatus
	disconnected map[string]error
}

func (a *air) Statuses() ([]stream.Status, <-chan struct{}) { return a.statuses, nil }
func (a *air) Sessions(string) []stream.SessionStatus       { return a.sessions }
func (a *air) Disconnect(_ context.Context, id string, cause error) error {
	if id == "gone" {
		return fault.New(fault.SessionNotFound, "no session %q is connected", id)
	}
	a.disconnected[id] = cause
	return nil
}

// journal is an event log in memory that can fail.
type journal struct {
	mu      sync.Mutex // guards the fields below
	events  []stream.Event
	changed chan struct{}
	fail    int // reads that fail from now on
	reads   int
}

func newJournal() *journal { return &journal{changed: make(chan struct{})} }

func (j *journal) Record(e stream.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Sequence = uint64(len(j.events) + 1)
	j.events = append(j.events, e)
	close(j.changed)
	j.changed = make(chan struct{})
}

func (j *journal) Last() (uint64, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return uint64(len(j.events)), j.changed
}

func (j *journal) Read(_ context.Context, after uint64, n int) ([]stream.Event, bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.reads++
	if j.fail > 0 {
		j.fail--
		return nil, false, errors.New("the disk is busy")
	}
	list := j.events[min(int(after), len(j.events)):]
	var out []stream.Event
	for _, e := range list[:min(n, len(list))] {
		if e.Type != "unreadable" {
			out = append(out, e)
		}
	}
	return out, false, nil
}

func refused(at time.Time, message string) stream.Event {
	return stream.Event{Type: stream.PublishRefused, Time: at, Stream: "0_rkij47dr", Reason: fault.BadToken, Message: message,
		Facts: map[string]string{"protocol": "rtmp", "remote": "[::ffff:192.0.2.7]:5000", "partner": "102", "server_index": "0"}}
}

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.FixedZone("", 3600))

func handler(live *air, j *journal) *Handler {
	h := New(Options{Live: live, Journal: j, Name: "klive", Version: "1.2.3", Host: "ms1.example.com", Start: start, Logger: slog.New(slog.DiscardHandler)})
	h.load = func() (float64, bool) { return float64(runtime.NumCPU()) / 2, true }
	return h
}

func get(t *testing.T, h http.Handler, target string, role auth.Role) (int, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r = r.WithContext(auth.NewContext(r.Context(), auth.Principal{Name: "somebody", Role: role}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.Equal(t, strconv.Itoa(w.Body.Len()), w.Header().Get("Content-Length"))
	return w.Code, w.Body.String()
}

func onAir() *air {
	tracks := []*media.Track{
		{Kind: media.Video, Codec: media.H264, CodecString: "avc1.64001f", Bitrate: 3_000_000, Video: media.VideoInfo{Width: 1280, Height: 720, FrameRate: 30000.0 / 1001}},
		{Kind: media.Audio, Codec: media.AAC, CodecString: "mp4a.40.2", Bitrate: 128_000, Audio: media.AudioInfo{SampleRate: 48000, Channels: 2}},
		{Kind: media.Data, Codec: media.AMF0},
	}
	return &air{
		disconnected: map[string]error{},
		sessions: []stream.SessionStatus{
			{ID: "one", Stream: "0_rkij47dr", Index: 1, Protocol: "rtmp", Remote: netip.MustParseAddrPort("192.0.2.7:5000"), Encoder: "OBS", Start: time.Now().Add(-90 * time.Second),
				Tracks: tracks, Bitrate: 3_210_400, Offset: 1500 * time.Millisecond, OffsetMethod: "wire-clock", TimeRepairs: 2},
			{ID: "two", Stream: "0_rkij47dr", Index: 1, ServerIndex: 1, Protocol: "rtmps", Start: time.Now()},
			{ID: "old", Stream: "0_rkij47dr", Index: 2, Start: start, End: start.Add(time.Second)},
			{ID: "new", Stream: "0_abcdefgh", Index: 1, State: stream.Authenticated, Start: time.Now()},
		},
		statuses: []stream.Status{
			{Stream: "0_over", State: stream.Stopped, Broadcasts: []stream.BroadcastStatus{{State: stream.Stopped, Renditions: []stream.RenditionStatus{{ID: "32"}}}}},
			{Stream: "0_rkij47dr", State: stream.Playable, Broadcasts: []stream.BroadcastStatus{
				{State: stream.Playable, Start: time.Now().Add(-80 * time.Second), Renditions: []stream.RenditionStatus{
					{ID: "32", Tracks: tracks, Session: "one"}, {ID: "33", Tracks: tracks[1:]}}},
				{State: stream.Broadcasting, ServerIndex: 1, Start: time.Now(), Renditions: []stream.RenditionStatus{{ID: "32"}}},
			}},
		},
	}
}

func TestInfo(t *testing.T) {
	code, body := get(t, handler(onAir(), newJournal()), "/diagnostics/info", auth.Viewer)
	require.Equal(t, http.StatusOK, code)
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &v))
	seconds, err := strconv.Atoi(v["timeRunning"].(string))
	require.NoError(t, err)
	require.InDelta(t, time.Since(start).Seconds(), seconds, 5)
	delete(v, "timeRunning")
	require.Equal(t, map[string]any{"jarName": "klive", "version": "1.2.3", "dateStarted": "2026-03-04T04:06:07Z", "hostName": "ms1.example.com", "cpuUsage": 0.5,
		"gpu":               map[string]any{"gpuUsageMemory": "", "gpuUsageEncoder": "", "gpuUsageDecoder": ""},
		"inputStreamsCount": 3.0, "outputStreamsCount": 3.0, "entriesCount": 2.0}, v)
}

func TestLoadAverage(t *testing.T) {
	load, ok := loadAverage()
	if ok {
		require.GreaterOrEqual(t, load, 0.0)
	}
	h := handler(onAir(), newJournal())
	h.load = func() (float64, bool) { return 7, false }
	require.Zero(t, h.info(start).CPUUsage)
}

func TestEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, body := get(t, handler(onAir(), newJournal()), "/diagnostics/entries", auth.Viewer)
		coded := `{"videoCodec":"H264","videoCodecString":"avc1.64001f","videoBitrate":3000,"frameRate":29.97,"width":1280,"height":720,
			"audioCodec":"AAC","audioCodecString":"mp4a.40.2","audioBitrate":128,"audioSampleRate":48000,"audioChannels":2}`
		sound := `{"audioCodec":"AAC","audioCodecString":"mp4a.40.2","audioBitrate":128,"audioSampleRate":48000,"audioChannels":2}`
		now := strconv.FormatInt(time.Now().UnixMilli(), 10)
		id := func(s string) string { return strconv.Itoa(int(number(s))) }
		require.JSONEq(t, `{
			"0_rkij47dr": {"currentTime":`+now+`,
				"inputs": {
					"1": {"Encoder":`+coded+`,"IOPerformance":{"bitrate":3210.4},"syncPTSData":{"offset":1500,"method":"wire-clock","repairs":2},
						"Properties":{"timeRunningSeconds":90,"ConectionUrl":"rtmp://ms1.example.com/0_rkij47dr_1","encoder":"OBS","IP":"192.0.2.7","Id":`+id("one")+`,"SessionId":"one"}},
					"1_1": {"Encoder":{},"IOPerformance":{"bitrate":0},"syncPTSData":{},
						"Properties":{"timeRunningSeconds":0,"ConectionUrl":"rtmps://ms1.example.com/0_rkij47dr_1","Id":`+id("two")+`,"SessionId":"two"}}},
				"outputs": {
					"32": {"Encoder":`+coded+`,"IOPerformance":{"bitrate":3210.4},"syncPTSData":{},"Properties":{"timeRunningSeconds":80}},
					"33": {"Encoder":`+sound+`,"IOPerformance":{"bitrate":0},"syncPTSData":{},"Properties":{"timeRunningSeconds":80}},
					"32_1": {"Encoder":{},"IOPerformance":{"bitrate":0},"syncPTSData":{},"Properties":{"timeRunningSeconds":0}}}},
			"0_abcdefgh": {"currentTime":`+now+`, "outputs":{}, "inputs": {
				"1": {"Encoder":{},"IOPerformance":{"bitrate":0},"syncPTSData":{},
					"Properties":{"timeRunningSeconds":0,"ConectionUrl":"://ms1.example.com/0_abcdefgh_1","Id":`+id("new")+`,"SessionId":"new"}}}}}`, body)
		_, body = get(t, handler(&air{}, newJournal()), "/diagnostics/entries/", auth.Viewer)
		require.Equal(t, "{}", body)
	})
}

func TestUnknownQuestions(t *testing.T) {
	h := handler(onAir(), newJournal())
	for _, target := range []string{"/diagnostics/nothing", "/diagnostics/INFO", "/diagnostics/" + strings.Repeat("x", 1000)} {
		code, body := get(t, h, target, auth.Viewer)
		require.Equal(t, http.StatusOK, code)
		require.Contains(t, body, "valid arguments: info, entries, errors, killConnection")
		require.Less(t, len(body), 200)
	}
	_, body := get(t, h, "/diagnostics/nothing", auth.Viewer)
	require.JSONEq(t, `{"Error":"Got argument: nothing, valid arguments: info, entries, errors, killConnection"}`, body)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/diagnostics/info", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
}

func TestKillConnection(t *testing.T) {
	live := onAir()
	live.sessions = append(live.sessions, stream.SessionStatus{ID: "gone", Stream: "0_gone"})
	h := handler(live, newJournal())
	code, body := get(t, h, "/diagnostics/killConnection?clientId=one", auth.Viewer)
	require.Equal(t, http.StatusForbidden, code)
	require.Contains(t, body, "needs the role admin")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/diagnostics/killConnection?clientId=one", nil))
	require.Equal(t, http.StatusForbidden, w.Code, "nobody is nobody")
	require.Empty(t, live.disconnected)

	for target, want := range map[string]string{
		"?clientId=one": `{"Succeed":true}`,
		"?clientId=" + strconv.Itoa(int(number("new"))): `{"Succeed":true}`,
		"?clientId=old":     `{"Error":"no connection \"old\" is open"}`,
		"?clientId=gone":    `{"Error":"no session \"gone\" is connected"}`,
		"?clientId=7":       `{"Error":"no connection \"7\" is open"}`,
		"?clientId=%22%3Cb": `{"Error":"no connection \"\\\"\u003cb\" is open"}`,
		"":                  `{"Error":"clientId is missing: give the Id or SessionId of a connection in the answer to entries"}`,
	} {
		code, body := get(t, h, "/diagnostics/killConnection"+target, auth.Admin)
		require.Equal(t, http.StatusOK, code)
		require.JSONEq(t, want, body, target)
	}
	require.Len(t, live.disconnected, 2)
	for _, id := range []string{"one", "new"} {
		require.Equal(t, fault.StoppedByOperator, fault.ReasonOf(live.disconnected[id]))
	}
	r := httptest.NewRequest(http.MethodHead, "/diagnostics/killConnection?clientId=two", nil)
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r.WithContext(auth.NewContext(r.Context(), auth.Anonymous())))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code, "HEAD changes nothing")
	require.Len(t, live.disconnected, 2)
}

func TestANumberOfTwoConnections(t *testing.T) {
	// Two words with one hash, as is known of FNV.
	require.Equal(t, number("costarring"), number("liquid"))
	live := &air{sessions: []stream.SessionStatus{{ID: "costarring"}, {ID: "liquid"}}}
	_, err := handler(live, newJournal()).find(strconv.Itoa(int(number("liquid"))))
	require.ErrorContains(t, err, "several connections")
}

// following runs the handler's Run until the test ends.
func following(t *testing.T, h *Handler) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
	synctest.Wait()
}

func TestErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		at := time.UnixMilli(1_700_000_000_000)
		j.Record(stream.Event{Type: stream.SessionStarted})
		j.Record(refused(at, "the token is wrong: rtmp://x/kLive?p=1&e=0_a&i=0&t=s3cret"))
		j.Record(refused(at, "again"))
		h := handler(onAir(), j)
		following(t, h)
		_, body := get(t, h, "/diagnostics/errors", auth.Viewer)
		one := func(message string) string {
			return `{"ConnectionUrl":"rtmp://ms1.example.com/?e=0_rkij47dr\u0026i=0\u0026p=102","message":"` + message + `","IP":"192.0.2.7","Time":1700000000000}`
		}
		require.JSONEq(t, `{"1700000000000":`+one("the token is wrong: rtmp://x/kLive?p=1\u0026e=0_a\u0026i=0\u0026t=********")+`,"1700000000001":`+one("again")+`}`, body)
		require.NotContains(t, body, "s3cret")

		j.Record(stream.Event{Type: stream.PublishRefused, Time: at.Add(time.Second), Message: "nothing is known", Facts: map[string]string{"remote": "?"}})
		j.Record(stream.Event{Type: "unreadable"})
		synctest.Wait()
		_, body = get(t, h, "/diagnostics/errors", auth.Viewer)
		require.Contains(t, body, `"1700000001000":{"ConnectionUrl":"unknown://ms1.example.com/","message":"nothing is known","IP":"?","Time":1700000001000}`)
	})
}

func TestTheLastHundredRefusalsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		at := time.UnixMilli(1_700_000_000_000)
		for i := range 3000 { // a refusal in ten events
			if i%10 == 0 {
				j.Record(refused(at, fmt.Sprintf("number %d", i)))
			} else {
				j.Record(stream.Event{Type: stream.SessionStarted})
			}
		}
		h := handler(onAir(), j)
		following(t, h)
		require.LessOrEqual(t, j.reads, 3, "pages of old events")
		require.Len(t, h.errors(), 100)
		require.Equal(t, "number 2000", h.refusals[0].answer.Message)
		for i := range 200 {
			j.Record(refused(at, fmt.Sprintf("new %d", i)))
		}
		synctest.Wait()
		require.Len(t, h.errors(), 100, "each has a key of its own")
		require.Equal(t, "new 199", h.refusals[99].answer.Message)
	})
}

func TestOldRefusalsAreNotLookedForForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		for range 2 * maxBack * page {
			j.Record(stream.Event{Type: stream.SessionStarted})
		}
		following(t, handler(onAir(), j))
		require.Equal(t, maxBack, j.reads)
	})
}

func TestAJournalThatFailsIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		j.Record(refused(time.Now(), "before"))
		j.fail = 2
		h := handler(onAir(), j)
		following(t, h)
		j.Record(refused(time.Now(), "after"))
		synctest.Wait()
		require.Empty(t, h.errors())
		time.Sleep(2 * readPause) // virtual
		require.Len(t, h.errors(), 1)
		j.mu.Lock()
		j.fail = 1
		j.mu.Unlock()
		j.Record(refused(time.Now(), "while it ends"))
		synctest.Wait()
	})
}

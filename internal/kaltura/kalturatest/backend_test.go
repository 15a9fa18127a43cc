package kalturatest

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/kaltura/ks"
)

const (
	house  = 102  // an ordinary partner
	ecdn   = 2000 // a partner that runs its own media servers
	entryA = "0_rkij47dr"
	entryB = "0_abcdefgh"
	entryE = "0_ecdnecdn"
	host   = "ms1.example.com"
)

var adminSecret = ks.Secret("house-of-secrets")

func backend(t *testing.T, change func(*Options)) *Backend {
	t.Helper()
	o := Options{
		Partners: []Partner{
			{ID: MediaServerPartner, Secret: "other," + adminSecret},
			{ID: house, Secret: adminSecret, Features: []string{FeatureLive, FeatureTranscode}},
			{ID: ecdn, Secret: adminSecret, Features: []string{FeatureLive, FeatureMediaServer, FeatureServerNode, FeatureHybrid}},
		},
		Entries: []Entry{
			{ID: entryA, Partner: house, Token: "dj94kfit", Profile: ProfileTranscode, Record: RecordPerSession, DVR: true, DVRWindow: 120},
			{ID: entryB, Partner: house, Token: "aaaabbbb", Profile: ProfilePassthrough},
			{ID: entryE, Partner: ecdn, Token: "ccccdddd", Profile: ProfileHD, Record: RecordAppended},
		},
		Nodes:    []Node{{Partner: MediaServerPartner, Name: "one", HostName: host, Status: NodeActive}, {Name: "two", HostName: "ms2", Status: NodeActive}, {Name: "far", HostName: "far", Status: NodeActive, Environment: "elsewhere"}, {Name: "off", HostName: "off", Status: NodeDisabled}},
		MediaURL: "http://127.0.0.1:8080",
	}
	if change != nil {
		change(&o)
	}
	b, err := New(o)
	require.NoError(t, err)
	return b
}

func token(partner int) string {
	return ks.Sign(adminSecret, ks.Session{Partner: partner, Type: ks.Admin, Expires: time.Now().Add(24 * time.Hour), User: "MediaServer"}).Reveal()
}

// do sends form fields as partner -5 on behalf of house, unless told otherwise.
func do(t *testing.T, b *Backend, service, action string, fields ...string) (any, http.Header) {
	t.Helper()
	form := url.Values{"ks": {token(MediaServerPartner)}, "partnerId": {strconv.Itoa(house)}, "format": {"1"}}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return send(t, b, httptest.NewRequest(http.MethodPost, "/api_v3/service/"+service+"/action/"+action, strings.NewReader(form.Encode())),
		"application/x-www-form-urlencoded")
}

func send(t *testing.T, b *Backend, r *http.Request, contentType string) (any, http.Header) {
	t.Helper()
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code)
	var v any
	if w.Body.Len() > 0 && w.Header().Get("Content-Type") == "application/json" {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v), w.Body.String())
		return v, w.Header()
	}
	return w.Body.String(), w.Header()
}

// code is the error code of an answer, or "".
func code(answer any) string {
	o, _ := answer.(map[string]any)
	if o["objectType"] != "KalturaAPIException" {
		return ""
	}
	return o["code"].(string)
}

func field(answer any, name string) any { return answer.(map[string]any)[name] }

func TestRequestsComeInThreeEncodings(t *testing.T) {
	b := backend(t, nil)
	k := token(MediaServerPartner)
	body := `{"ks":"` + k + `","partnerId":102,"format":1,"entryId":"` + entryA + `"}`
	post := func(target, body, contentType string) any {
		v, _ := send(t, b, httptest.NewRequest(http.MethodPost, target, strings.NewReader(body)), contentType)
		return v
	}
	require.Equal(t, entryA, field(post("/api_v3/service/liveStream/action/get", body, "application/json"), "id"))
	require.Equal(t, entryA, field(post("/api_v3/index.php?service=livestream&action=GET", body, "Application/JSON"), "id"))
	require.Equal(t, entryA, field(post("/api_v3/index.php/service/liveStream/action/get/entryId/"+entryA+"/entryId/no",
		"format=1&entryId=other&ks="+url.QueryEscape(k), "application/x-www-form-urlencoded"), "id"), "the address goes over the body")
	lost := post("/api_v3/service/liveStream/action/get?format=1&ks="+url.QueryEscape(k), body, "application/json; charset=utf-8")
	require.Equal(t, "MISSING_MANDATORY_PARAMETER", code(lost), "with a charset the body is lost")

	xml := post("/api_v3/service/liveStream/action/get", strings.Replace(body, `"format":1,`, "", 1), "application/json")
	require.Contains(t, xml, "<result>")
	require.Contains(t, xml, "<id>"+entryA+"</id>")
	xml = post("/api_v3/service/liveStream/action/get", "entryId="+entryA, "application/x-www-form-urlencoded")
	require.Contains(t, xml, "<error><code>MISSING_KS</code>")
}

func TestWhoMayCall(t *testing.T) {
	b := backend(t, nil)
	for _, c := range []struct {
		name, service, action, want string
		fields                      []string
	}{
		{"all entries without impersonation", "liveStream", "get", "", []string{"partnerId", "", "entryId", entryE}},
		{"another partner's entry", "liveStream", "get", "ENTRY_ID_NOT_FOUND", []string{"entryId", entryE}},
		{"p goes before partnerId", "liveStream", "get", "", []string{"p", "2000", "entryId", entryE}},
		{"own entry", "liveStream", "get", "", []string{"ks", token(ecdn), "partnerId", "2000", "entryId", entryE}},
		{"no impersonation by partners", "liveStream", "get", "SERVICE_FORBIDDEN", []string{"ks", token(ecdn), "entryId", entryA}},
		{"not a media server", "liveStream", "registerMediaServer", "SERVICE_FORBIDDEN", []string{"ks", token(house), "entryId", entryA}},
		{"batch only", "liveStream", "validateRegisteredMediaServers", "SERVICE_FORBIDDEN", []string{"entryId", entryA}},
		{"bad session", "liveStream", "get", "INVALID_KS", []string{"ks", "djJ8nonsense"}},
		{"unknown service", "liveDream", "get", "SERVICE_DOES_NOT_EXISTS", nil},
		{"deleted service", "mediaServer", "reportStatus", "SERVICE_DOES_NOT_EXISTS", nil},
		{"unknown action", "liveStream", "got", "ACTION_DOES_NOT_EXISTS", nil},
		{"unknown feature", "permission", "get", "PERMISSION_NOT_FOUND", []string{"permissionName", FeatureRecording}},
		{"feature", "permission", "get", "", []string{"permissionName", FeatureLive}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, _ := do(t, b, c.service, c.action, c.fields...)
			require.Equal(t, c.want, code(v), "%v", v)
		})
	}
	expired := ks.Sign(adminSecret, ks.Session{Partner: MediaServerPartner, Type: ks.Admin, Expires: time.Now().Add(-time.Second)})
	v, _ := do(t, b, "liveStream", "get", "ks", expired.Reveal())
	require.Equal(t, `Invalid KS "EXPIRED", Error "-1,INVALID_STR"`, field(v, "message"))

	started, _ := do(t, b, "session", "start", "ks", "", "secret", string(adminSecret), "partnerId", "-5", "type", "2")
	v, _ = do(t, b, "liveStream", "get", "ks", started.(string), "entryId", entryA)
	require.Equal(t, "", code(v))
	b.RevokeSessions()
	v, _ = do(t, b, "liveStream", "get", "ks", started.(string), "entryId", entryA)
	require.Contains(t, field(v, "message"), "LOGOUT")
	v, _ = do(t, b, "session", "start", "ks", "", "secret", "wrong", "partnerId", "-5")
	require.Equal(t, "START_SESSION_ERROR", code(v))

	legacy := backend(t, func(o *Options) { o.Legacy = true })
	v, _ = do(t, legacy, "mediaServer", "reportStatus", "hostname", "fresh")
	require.Equal(t, "", code(v))
}

func TestAuthenticate(t *testing.T) {
	good := []string{"entryId", entryA, "token", "dj94kfit", "hostname", host, "mediaServerIndex", "0"}
	with := func(more ...string) []string { return append(append([]string{}, good...), more...) }
	for _, c := range []struct {
		name, want string
		before     func(t *testing.T, b *Backend)
		options    func(*Options)
		fields     []string
	}{
		{name: "good", fields: good},
		{name: "token only", fields: []string{"entryId", entryA, "token", "dj94kfit"}},
		{name: "sealed SRT passphrase", fields: with("token", "DTBXaGMrEvtHaJ0e9XKRMT9ownkb_G-dq8dm2HHsT60"),
			options: func(o *Options) { o.Entries[0].SRTPassphrase = "mySrtPassphrase1" }},
		{name: "open SRT passphrase", want: "LIVE_STREAM_INVALID_TOKEN", fields: with("token", "mySrtPassphrase1"),
			options: func(o *Options) { o.Entries[0].SRTPassphrase = "mySrtPassphrase1" }},
		{name: "unknown entry", want: "ENTRY_ID_NOT_FOUND", fields: with("entryId", "0_nobodyis")},
		{name: "wrong token", want: "LIVE_STREAM_INVALID_TOKEN", fields: with("token", "x")},
		{name: "missing token", want: "MISSING_MANDATORY_PARAMETER", fields: []string{"entryId", entryA}},
		{name: "bad index", want: "INVALID_ENUM_VALUE", fields: with("mediaServerIndex", "7")},
		{name: "unknown host", want: "MEDIA_SERVER_NOT_FOUND", fields: with("hostname", "MS1.example.com")},
		{name: "disabled host", want: "MEDIA_SERVER_NOT_FOUND", fields: with("hostname", "off")},
		{name: "blocked", want: "SERVICE_FORBIDDEN_CONTENT_BLOCKED", fields: good, options: func(o *Options) { o.Partners[1].Blocked = true }},
		{name: "no live", want: "SERVICE_FORBIDDEN", fields: good, options: func(o *Options) { o.Partners[1].Features = nil }},
		{name: "no transcoding", want: "LIVE_STREAM_EXCEEDED_MAX_TRANSCODED", fields: good, options: func(o *Options) { o.Partners[1].Features = []string{FeatureLive} }},
		{name: "another environment", want: "LIVE_STREAM_ALREADY_BROADCASTING", fields: with("hostname", "far"), before: playable},
		{name: "takeover within the environment", fields: with("hostname", "ms2"), before: playable},
		{name: "pass-through quota", want: "LIVE_STREAM_EXCEEDED_MAX_PASSTHRU", fields: with("entryId", "0_overflow", "token", "t"),
			options: func(o *Options) {
				o.Partners[1].MaxPassthrough = 1
				o.Entries = append(o.Entries, Entry{ID: "0_overflow", Partner: house, Token: "t", Profile: ProfilePassthrough})
			},
			before: func(t *testing.T, b *Backend) {
				do(t, b, "liveStream", "authenticate", "entryId", entryB, "token", "aaaabbbb", "hostname", host, "mediaServerIndex", "0")
			}},
		{name: "tag quota", want: "LIVE_STREAM_EXCEEDED_MAX_CONCURRENT_BY_ADMIN_TAG", fields: good, options: func(o *Options) {
			o.Partners[1].TagLimits = map[string]int{"vip": 0}
			o.Entries[0].AdminTags = "lowlatency,vip"
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := backend(t, c.options)
			if c.before != nil {
				c.before(t, b)
			}
			v, _ := do(t, b, "liveStream", "authenticate", c.fields...)
			require.Equal(t, c.want, code(v), "%v", v)
			if strings.Contains(c.want, "EXCEEDED") {
				require.NotEmpty(t, b.State().Registrations, "the refused publisher leaves a registration behind")
			}
			if c.want == "" {
				require.Nil(t, field(v, "streamPassword"), "the token is not shown")
				require.EqualValues(t, house, field(v, "partnerId"))
			}
		})
	}
}

func playable(t *testing.T, b *Backend) { registerAs(t, b, host, StatusPlayable) }

func registerAs(t *testing.T, b *Backend, host string, status int) any {
	v, _ := do(t, b, "liveStream", "registerMediaServer", "entryId", entryA, "hostname", host, "mediaServerIndex", "0",
		"liveEntryStatus", strconv.Itoa(status))
	require.Equal(t, "", code(v), "%v", v)
	return v
}

func live(b *Backend) int {
	e, _ := b.State().Entry(entryA)
	return e.LiveStatus
}

func TestRegistrationsDieUnlessPlayableIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backend(t, nil)
		v, _ := do(t, b, "liveStream", "authenticate", "entryId", entryA, "token", "dj94kfit", "hostname", host, "mediaServerIndex", "0")
		require.EqualValues(t, StatusAuthenticated, field(v, "liveStatus"))
		for range 4 { // BROADCASTING again and again does not help
			time.Sleep(40 * time.Second)
			registerAs(t, b, host, StatusBroadcasting)
		}
		require.Equal(t, StatusBroadcasting, live(b))
		time.Sleep(40 * time.Second)
		require.Equal(t, StatusStopped, live(b))

		v = registerAs(t, b, host, StatusPlayable)
		require.NotEmpty(t, field(v, "recordedEntryId"))
		for range 10 {
			time.Sleep(60 * time.Second)
			registerAs(t, b, host, StatusPlayable)
		}
		require.Equal(t, StatusPlayable, live(b))
		time.Sleep(119 * time.Second)
		require.Equal(t, StatusPlayable, live(b))
		time.Sleep(31 * time.Second)
		require.Equal(t, StatusStopped, live(b))
		e, _ := b.State().Entry(entryA)
		require.NotZero(t, e.LastBroadcastEnd)
		require.Zero(t, e.CurrentBroadcastTime)
	})
}

func TestAuthenticatingALiveEntryTakesItOffAir(t *testing.T) {
	b := backend(t, nil)
	playable(t, b)
	do(t, b, "liveStream", "authenticate", "entryId", entryA, "token", "dj94kfit", "hostname", host, "mediaServerIndex", "0")
	require.Equal(t, StatusAuthenticated, live(b))
	isLive, _ := do(t, b, "liveStream", "isLive", "ks", "", "id", entryA)
	require.Equal(t, false, isLive)
}

func TestTheLateUnregisterOfAnotherHostEndsTheRegistration(t *testing.T) {
	b := backend(t, nil)
	playable(t, b)
	registerAs(t, b, "ms2", StatusPlayable) // takes over
	rows, _ := do(t, b, "entryServerNode", "list", "filter:entryIdEqual", entryA, "filter:serverTypeIn", "0,1")
	row := field(rows, "objects").([]any)[0]
	nodes, _ := do(t, b, "serverNode", "list", "partnerId", "", "filter:hostNameLike", "ms2")
	require.Equal(t, field(field(nodes, "objects").([]any)[0], "id"), field(row, "serverNodeId"))

	gone := []string{"entryId", entryA, "hostname", host, "mediaServerIndex", "0"}
	v, _ := do(t, b, "liveStream", "unregisterMediaServer", gone...)
	require.Equal(t, "", code(v))
	require.Equal(t, StatusStopped, live(b))
	v, _ = do(t, b, "liveStream", "unregisterMediaServer", gone...)
	require.Equal(t, "ENTRY_SERVER_NODE_NOT_FOUND", code(v))
	v, _ = do(t, b, "liveStream", "unregisterMediaServer", append(gone, "hostname", "nobody")...)
	require.Equal(t, "SERVER_NODE_NOT_FOUND", code(v))
}

func TestWhatIsFrozenOnAir(t *testing.T) {
	b := backend(t, nil)
	v, _ := do(t, b, "liveStream", "update", "entryId", entryA, "liveStreamEntry:dvrWindow", "60")
	require.EqualValues(t, 60, field(v, "dvrWindow"))
	playable(t, b)
	v, _ = do(t, b, "liveStream", "update", "entryId", entryA, "liveStreamEntry:dvrWindow", "30")
	require.Equal(t, "CANNOT_UPDATE_FIELDS_WHILE_ENTRY_BROADCASTING", code(v))
	v, _ = do(t, b, "liveStream", "update", "entryId", entryA, "liveStreamEntry:currentBroadcastStartTime", "1700000000.5")
	require.EqualValues(t, 1700000000, field(v, "currentBroadcastStartTime"))
	details, _ := do(t, b, "liveStream", "getDetails", "id", entryA)
	require.EqualValues(t, 3, field(details, "broadcastStatus"))
}

func TestNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backend(t, nil)
		node := []string{"partnerId", "", "serverNode:objectType", "KalturaWowzaMediaServerNode", "serverNode:name", "n", "serverNode:hostName", "fresh"}
		v, _ := do(t, b, "serverNode", "add", node[:2]...)
		require.Equal(t, "MISSING_MANDATORY_PARAMETER", code(v))
		v, _ = do(t, b, "serverNode", "add", "serverNode:name", "n")
		require.Equal(t, "OBJECT_TYPE_ABSTRACT", code(v))
		v, _ = do(t, b, "serverNode", "add", node...)
		require.EqualValues(t, NodeDisabled, field(v, "status"))
		id := strconv.Itoa(int(field(v, "id").(float64)))
		v, _ = do(t, b, "serverNode", "add", node...)
		require.Equal(t, "HOST_NAME_ALREADY_EXISTS", code(v))
		v, _ = do(t, b, "serverNode", "reportStatus", "partnerId", "", "hostName", "fresh")
		require.Equal(t, "SERVER_NODE_NOT_FOUND", code(v), "a disabled node is not found")
		v, _ = do(t, b, "serverNode", "enable", "partnerId", "", "serverNodeId", id)
		require.EqualValues(t, NodeActive, field(v, "status"))
		time.Sleep(time.Hour)
		v, _ = do(t, b, "serverNode", "get", "partnerId", "", "serverNodeId", id)
		require.EqualValues(t, NodeActive, field(v, "status"), "without a heartbeat a node is alive")
		do(t, b, "serverNode", "reportStatus", "partnerId", "", "hostName", "fresh")
		time.Sleep(heartbeatExpiry + time.Second)
		v, _ = do(t, b, "serverNode", "get", "partnerId", "", "serverNodeId", id)
		require.EqualValues(t, nodeNotRegistered, field(v, "status"))
		v, _ = do(t, b, "serverNode", "reportStatus", "partnerId", "", "hostName", "auto", "serverNode:objectType", "KalturaWowzaMediaServerNode", "serverNode:name", "a")
		require.EqualValues(t, NodeActive, field(v, "status"), "a report with a node adds it")
	})
}

func TestAppendRecordingIsNotIdempotent(t *testing.T) {
	shared, taken := t.TempDir(), t.TempDir()
	b := backend(t, func(o *Options) { o.SharedDirectory, o.Directory = shared, taken })
	playable(t, b)
	piece := filepath.Join(shared, "piece.mp4")
	require.NoError(t, os.WriteFile(piece, []byte("media"), 0o600))
	e, _ := b.State().Entry(entryA)
	call := func(more ...string) (any, http.Header) {
		return do(t, b, "liveStream", "appendRecording", append([]string{"entryId", entryA, "assetId", e.Assets[32], "mediaServerIndex", "0",
			"resource:objectType", "KalturaServerFileResource", "resource:localFilePath", piece, "resource:keepOriginalFile", "1", "duration", "899.5"}, more...)...)
	}
	for range 2 {
		v, _ := call()
		require.Equal(t, "", code(v), "%v", v)
	}
	v, _ := call("isLastChunk", "1", "resource:keepOriginalFile", "0")
	require.EqualValues(t, 2_698_500, field(v, "lastElapsedRecordingTime"))
	require.NoFileExists(t, piece, "the backend takes the file")
	segments := b.State().Segments
	require.Len(t, segments, 3)
	require.Equal(t, 2, segments[2].Number)
	require.True(t, segments[2].Last)
	require.Equal(t, segments[0].SHA256, segments[1].SHA256)
	require.FileExists(t, segments[2].Path)

	v, _ = call()
	require.Equal(t, "LOCAL_FILE_NOT_FOUND", code(v))
	v, _ = call("resource:localFilePath", "/etc/hostname")
	require.Equal(t, "LOCAL_FILE_NOT_FOUND", code(v), "not on the shared disk")
	v, _ = call("assetId", "32")
	require.Equal(t, "ASSET_ID_NOT_FOUND", code(v))
	v, _ = call("duration", "100000")
	require.Equal(t, "LIVE_STREAM_EXCEEDED_MAX_RECORDED_DURATION", code(v))
	v, _ = call("duration", "1")
	require.Equal(t, "LIVE_STREAM_EXCEEDED_MAX_RECORDED_DURATION", code(v), "and so for ever after")
	v, _ = do(t, b, "media", "cancelReplace", "entryId", segments[0].Recorded)
	require.Equal(t, "", code(v))

	v, header := do(t, b, "liveStream", "appendRecording", "ks", token(ecdn), "partnerId", "", "entryId", entryE, "assetId", mustEntry(t, b, entryE).Assets[32],
		"mediaServerIndex", "0", "duration", "1", "resource:objectType", "KalturaServerFileResource", "resource:localFilePath", piece)
	require.Equal(t, "LOCAL_FILE_NOT_FOUND", code(v))
	require.NotEmpty(t, header.Get("KalturaServerFileResource-localFilePath-error"), "nulled in silence")
}

func mustEntry(t *testing.T, b *Backend, id string) EntryState {
	e, ok := b.State().Entry(id)
	require.True(t, ok)
	return e
}

func TestControllerRecordsInstead(t *testing.T) {
	shared := t.TempDir()
	b := backend(t, func(o *Options) {
		o.SharedDirectory, o.Partners[1].Features = shared, []string{FeatureLive, FeatureTranscode, FeatureRecording}
	})
	playable(t, b)
	v, _ := do(t, b, "liveStream", "appendRecording", "entryId", entryA, "assetId", "x", "mediaServerIndex", "0", "duration", "1")
	require.Equal(t, "KALTURA_RECORDING_ENABLED", code(v))
	whole := filepath.Join(shared, "whole.mp4")
	require.NoError(t, os.WriteFile(whole, []byte("media"), 0o600))
	do(t, b, "liveStream", "unregisterMediaServer", "entryId", entryA, "hostname", host, "mediaServerIndex", "0")
	r, found := b.State().Registration(entryA, IndexPrimary)
	require.True(t, found)
	require.Equal(t, StatusMarkedForDeletion, r.Status)
	v, _ = do(t, b, "liveStream", "setRecordedContent", "entryId", entryA, "mediaServerIndex", "0", "duration", "60", "resource:objectType", "KalturaServerFileResource", "resource:localFilePath", whole)
	require.Equal(t, "", code(v), "%v", v)
	require.True(t, b.State().Segments[0].Content)
}

func sendChunk(t *testing.T, b *Backend, id, data string, fields ...string) any {
	var body bytes.Buffer
	m := multipart.NewWriter(&body)
	fields = append([]string{"ks", token(ecdn), "format", "1", "uploadTokenId", id}, fields...)
	for i := 0; i+1 < len(fields); i += 2 {
		require.NoError(t, m.WriteField(fields[i], fields[i+1]))
	}
	part, err := m.CreateFormFile("fileData", "chunk")
	require.NoError(t, err)
	_, err = io.WriteString(part, data)
	require.NoError(t, err)
	require.NoError(t, m.Close())
	v, _ := send(t, b, httptest.NewRequest(http.MethodPost, "/api_v3/service/uploadToken/action/upload", &body), m.FormDataContentType())
	return v
}

func TestUploadsInChunks(t *testing.T) {
	for _, directory := range []string{"", t.TempDir()} {
		b := backend(t, func(o *Options) { o.Directory = directory })
		v, _ := do(t, b, "uploadToken", "add", "ks", token(ecdn), "partnerId", "", "uploadToken:fileName", "../a.mp4", "uploadToken:fileSize", "9")
		id := field(v, "id").(string)
		require.Equal(t, "UPLOAD_TOKEN_CANNOT_RESUME", code(sendChunk(t, b, id, "x", "resume", "1", "resumeAt", "3")))
		require.EqualValues(t, uploadPartial, field(sendChunk(t, b, id, "abc", "finalChunk", "0"), "status"))
		require.Equal(t, "UPLOAD_TOKEN_CANNOT_MATCH_EXPECTED_SIZE", code(sendChunk(t, b, id, "ghi", "resume", "1", "resumeAt", "6")))
		require.EqualValues(t, 9, field(sendChunk(t, b, id, "def", "resume", "1", "resumeAt", "3", "finalChunk", "false"), "uploadedFileSize"))
		require.EqualValues(t, uploadFull, field(sendChunk(t, b, id, "", "resume", "1", "resumeAt", "9"), "status"))
		require.Equal(t, "UPLOAD_TOKEN_INVALID_STATUS_FOR_UPLOAD", code(sendChunk(t, b, id, "x", "resume", "1")))
		require.Equal(t, "UPLOAD_TOKEN_NOT_FOUND", code(sendChunk(t, b, "nope", "x")))

		e := mustEntry(t, b, entryE)
		call := []string{"ks", token(ecdn), "partnerId", "", "entryId", entryE, "assetId", e.Assets[32], "mediaServerIndex", "0", "duration", "3",
			"resource:objectType", "KalturaUploadedFileTokenResource", "resource:token", id}
		v, _ = do(t, b, "liveStream", "appendRecording", call...)
		require.Equal(t, "", code(v), "%v", v)
		require.EqualValues(t, 9, b.State().Segments[0].Size)
		require.Equal(t, "19cc02f26df43cc571bc9ed7b0c4d29224a3ec229529221725ef76d021c8326f", b.State().Segments[0].SHA256)
		v, _ = do(t, b, "liveStream", "appendRecording", call...)
		require.Equal(t, "UPLOADED_FILE_NOT_FOUND_BY_TOKEN", code(v))
	}
}

func TestMultirequest(t *testing.T) {
	b := backend(t, nil)
	body, err := json.Marshal(map[string]any{"ks": token(MediaServerPartner), "partnerId": house, "format": 1,
		"1": map[string]any{"service": "liveStream", "action": "get", "entryId": entryA},
		"2": map[string]any{"service": "liveStream", "action": "get", "entryId": "0_nobodyis"},
		"3": map[string]any{"service": "conversionProfileAssetParams", "action": "list", "filter": map[string]any{"conversionProfileIdEqual": "{1:result:conversionProfileId}"}},
		"4": map[string]any{"service": "liveStream", "action": "get", "entryId": "{2:result:id}"},
		"6": map[string]any{"service": "liveStream", "action": "get", "entryId": entryA}})
	require.NoError(t, err)
	v, _ := send(t, b, httptest.NewRequest(http.MethodPost, "/api_v3/service/multirequest", bytes.NewReader(body)), "application/json")
	all := v.([]any)
	require.Len(t, all, 4, "the fifth is missing: the sixth is not reached")
	require.Equal(t, entryA, field(all[0], "id"))
	require.Equal(t, "ENTRY_ID_NOT_FOUND", code(all[1]))
	require.EqualValues(t, 4, field(all[2], "totalCount"))
	require.Equal(t, "MISSING_MANDATORY_PARAMETER", code(all[3]))
	require.Equal(t, "32,33", lookUp([]string{"1", "result", "objects", "_all", "id"}, []any{object{"objects": []any{object{"id": 32}, object{"id": 33}}}}))
	require.Empty(t, lookUp([]string{"9", "result"}, nil))
}

func TestProfilesAndAssets(t *testing.T) {
	b := backend(t, nil)
	v, _ := do(t, b, "flavorParams", "getByConversionProfileId", "conversionProfileId", strconv.Itoa(ProfileTranscode))
	require.Equal(t, "SERVICE_FORBIDDEN", code(v), "in the name of another partner; list is allowed")
	v, _ = do(t, b, "flavorParams", "getByConversionProfileId", "conversionProfileId", strconv.Itoa(ProfileTranscode), "ks", token(house))
	require.Len(t, v, 4)
	require.Equal(t, "1", field(v.([]any)[0], "streamSuffix"))
	v, _ = do(t, b, "flavorParams", "list", "pager:pageSize", "5", "pager:pageIndex", "2")
	require.Len(t, field(v, "objects"), 5)
	require.EqualValues(t, len(flavors), field(v, "totalCount"))
	v, _ = do(t, b, "flavorAsset", "list", "filter:objectType", "KalturaLiveAssetFilter", "filter:entryIdEqual", entryA)
	require.Contains(t, field(field(v, "objects").([]any)[0], "tags"), "recording_anchor")
	v, _ = do(t, b, "flavorParams", "get", "id", "1")
	require.Equal(t, "FLAVOR_PARAMS_ID_NOT_FOUND", code(v))
	v, _ = do(t, b, "conversionProfileAssetParams", "list", "filter:conversionProfileIdEqual", "1")
	require.Equal(t, "CONVERSION_PROFILE_ID_NOT_FOUND", code(v))
	_, err := New(Options{Entries: []Entry{{ID: entryA, Partner: 1}}})
	require.ErrorContains(t, err, "partner 1 is unknown")
}

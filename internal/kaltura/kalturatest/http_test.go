package kalturatest

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func serveGet(t *testing.T, b *Backend, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	b.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func TestTranscodingTemplate(t *testing.T) {
	b := backend(t, nil)
	get := func(name, extra string) *httptest.ResponseRecorder {
		return serveGet(t, b, "/api_v3/index.php/service/wowza_liveConversionProfile/action/serve/streamName/"+name+"/f/transcode.xml/extraParams/"+url.PathEscape(extra))
	}
	names := func(body string) string {
		var out []string
		for _, part := range strings.Split(body, "<StreamName>")[1:] {
			name, _, _ := strings.Cut(part, "<")
			out = append(out, name)
		}
		return strings.Join(out, " ")
	}
	w := get(entryA+"_1", `{"audiocodecidstring":"AAC"}`)
	require.Equal(t, "text/xml", w.Header().Get("Content-Type"))
	require.Equal(t, entryA+"_32 "+entryA+"_33 "+entryA+"_34 "+entryA+"_35 ${SourceStreamName}_all", names(w.Body.String()))
	require.Contains(t, w.Body.String(), "<Profile>baseline</Profile>")
	require.Contains(t, w.Body.String(), "<FitMode>fit-width</FitMode>")
	require.NotContains(t, w.Body.String(), "<Parameters>")

	w = get(entryE+"_1", `{"height":"720","videodatarate":"3000"}`)
	require.Equal(t, entryE+"_32 "+entryE+"_35 "+entryE+"_42 ${SourceStreamName}_all", names(w.Body.String()), "1080p is too good for it")
	require.Contains(t, w.Body.String(), "mainconcept.bit_rate_mode")
	w = get(entryE+"_1", `{"height":"0"}`)
	require.Equal(t, entryE+"_32 "+entryE+"_35 ${SourceStreamName}_all", names(w.Body.String()), `the text "0" is below every height`)
	w = get(entryE+"_1000", "")
	require.Equal(t, entryE+"_100 ${SourceStreamName}_all", names(w.Body.String()))
	require.Contains(t, w.Body.String(), "<Codec>Disable</Codec>")

	for name, want := range map[string]string{"lobby_1": "INVALID_STREAM_NAME", "0_nobodyis_1": "ENTRY_ID_NOT_FOUND", entryA + "_7": "INGEST_NOT_FOUND_IN_CONVERSION_PROFILE"} {
		w = get(name, "")
		require.Equal(t, http.StatusOK, w.Code)
		require.Zero(t, w.Body.Len(), "errors of file actions are empty")
		require.Equal(t, "error- "+want, w.Header().Get("X-Kaltura"))
	}
	w = serveGet(t, b, "/api_v3/service/wowza_liveConversionProfile/action/serve/streamName/x/ks/bad")
	require.Contains(t, w.Body.String(), "INVALID_KS", "before the action runs it is an ordinary error")
}

// TestTranscodingTemplateOfRareFlavors goes through the rules that the stock
// flavors do not need.
func TestTranscodingTemplateOfRareFlavors(t *testing.T) {
	b := backend(t, func(o *Options) { o.Entries[1].Profile = ProfileMixed })
	get := func(extra string) map[string]templateEncode {
		w := serveGet(t, b, "/api_v3/service/wowza_liveConversionProfile/action/serve/streamName/"+entryB+"_1/extraParams/"+url.PathEscape(extra))
		var root templateRoot
		require.NoError(t, xml.Unmarshal(w.Body.Bytes(), &root), w.Body.String())
		require.Equal(t, []templateExtra{{"sourceStreamFrameRate", "25", "Double"}}, root.Transcode.Properties)
		require.Len(t, root.Transcode.Groups[0].Members, len(root.Transcode.Encodes))
		all := make(map[string]templateEncode)
		for _, e := range root.Transcode.Encodes {
			all[strings.TrimPrefix(e.StreamName, entryB+"_")] = e
		}
		return all
	}
	all := get(`{"width":"1280","height":"720","audiocodecidstring":"AAC"}`)
	require.Len(t, all, 10, "an ingest of its own and what is too good are left out")
	require.Equal(t, &templateSize{"fit-height", 640, 360}, all["202"].Video.FrameSize)
	require.Equal(t, &templateSkip{1}, all["202"].Video.SkipFrames, "25 frames of the source, 15 of the flavor")
	require.Equal(t, &templateSkip{2}, all["203"].Video.SkipFrames)
	require.Equal(t, "baseline", all["203"].Video.Profile)
	require.Equal(t, 240_000, all["203"].Video.Bitrate)
	require.Equal(t, templateAudio{"PassThru", 96_000}, all["203"].Audio, "a sampling rate alone does not make it AAC")
	require.Equal(t, "PassThru", all["204"].Video.Codec)
	require.Equal(t, "H.264", all["205"].Video.Codec, "a frame rate is enough")
	require.Equal(t, templateAudio{"AAC", 32_000}, all["205"].Audio)
	require.Equal(t, "206", all["206"].Name)
	require.Equal(t, "PassThru", all["206"].Video.Codec)
	require.Equal(t, "Disable", all["207"].Video.Codec)
	require.NotNil(t, all["207"].Video.FrameSize, "the block is written all the same")
	require.Equal(t, "H.264", all["208"].Video.Codec)
	require.NotContains(t, all, "209", "one pixel too wide")
	require.Equal(t, "PassThru", all["36"].Video.Codec)
	require.Equal(t, "Disable", all["100"].Video.Codec)
	require.NotContains(t, all, "101")

	all = get(`{"framerate":"60"}`)
	require.Equal(t, &templateSkip{3}, all["202"].Video.SkipFrames)
	require.Contains(t, all, "209")
	require.Equal(t, templateAudio{"AAC", 96_000}, all["203"].Audio)
	require.Nil(t, get(`{"framerate":"15.5"}`)["202"].Video.SkipFrames)
}

func TestMasterPlaylistFromStreams(t *testing.T) {
	b := backend(t, nil)
	manifest := "/p/102/sp/10200/playManifest/entryId/" + entryA + "/format/applehttp/protocol/http/a.m3u8"
	require.Equal(t, http.StatusNotFound, serveGet(t, b, manifest).Code)
	require.Equal(t, http.StatusNotFound, serveGet(t, b, "/p/102/nothing").Code)
	playable(t, b)
	w := serveGet(t, b, manifest)
	require.Equal(t, http.StatusFound, w.Code)
	require.Equal(t, "http://127.0.0.1:8080/kLive/smil:"+entryA+"_all.smil/playlist.m3u8", w.Header().Get("Location"))

	rows, _ := do(t, b, "entryServerNode", "list", "filter:entryIdEqual", entryA)
	id := field(field(rows, "objects").([]any)[0], "id")
	update := func(bitrate string) {
		raw, err := json.Marshal(id)
		require.NoError(t, err)
		v, _ := do(t, b, "entryServerNode", "update", "id", string(raw), "entryServerNode:objectType", "KalturaLiveEntryServerNode",
			"entryServerNode:streams:0:flavorId", "32", "entryServerNode:streams:0:bitrate", bitrate, "entryServerNode:streams:0:width", "1280", "entryServerNode:streams:0:height", "720",
			"entryServerNode:streams:1:flavorId", "100", "entryServerNode:streams:1:bitrate", "64000", "entryServerNode:streams:1:language", "eng")
		require.Equal(t, "", code(v), "%v", v)
	}
	update("2700000")
	update("2800000") // within 10 %: ignored
	body := serveGet(t, b, manifest).Body.String()
	require.Equal(t, "#EXTM3U\n"+
		`#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",LANGUAGE="eng",NAME="eng",DEFAULT=NO,AUTOSELECT=YES,URI="http://127.0.0.1:8080/kLive/smil:`+entryA+"_all.smil/100/chunklist.m3u8\"\n"+
		"#EXT-X-STREAM-INF:PROGRAM-ID=1,BANDWIDTH=2700000,RESOLUTION=1280x720,AUDIO=\"audio\"\n"+
		"http://127.0.0.1:8080/kLive/smil:"+entryA+"_all.smil/32/chunklist.m3u8\n", body)
	v, _ := do(t, b, "entryServerNode", "update", "id", "0", "entryServerNode:objectType", "x")
	require.Equal(t, "INVALID_OBJECT_ID", code(v))
}

func TestFaultsOverHTTP(t *testing.T) {
	b := backend(t, nil)
	server := httptest.NewServer(b)
	defer server.Close()
	admin := func(method, path, body string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/simulator/"+path, strings.NewReader(body))
		require.NoError(t, err)
		resp, err := server.Client().Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(text)
	}
	authenticate := func() (int, string, error) {
		resp, err := server.Client().PostForm(server.URL+"/api_v3/service/liveStream/action/authenticate",
			url.Values{"ks": {token(MediaServerPartner)}, "format": {"1"}, "entryId": {entryA}, "token": {"dj94kfit"}, "hostname": {host}, "mediaServerIndex": {"0"}})
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text), err
	}
	inject := func(body string) {
		status, text := admin(http.MethodPost, "faults", body)
		require.Equal(t, http.StatusOK, status, text)
	}

	inject(`{"kind":"down","times":1}`)
	_, _, err := authenticate()
	require.Error(t, err)
	require.Zero(t, b.State().Count("liveStream.authenticate"), "nothing was done")

	inject(`{"kind":"lost","service":"livestream","action":"authenticate","times":1}`)
	_, _, err = authenticate()
	require.Error(t, err)
	require.Equal(t, 1, b.State().Count("liveStream.authenticate"))
	require.Equal(t, StatusAuthenticated, live(b), "it was done")

	inject(`{"kind":"status","times":1}`)
	status, text, err := authenticate()
	require.NoError(t, err)
	require.Equal(t, http.StatusInternalServerError, status)
	require.Equal(t, page, text)
	inject(`{"kind":"html","times":1}`)
	status, text, _ = authenticate()
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, page, text)
	inject(`{"kind":"empty","times":1}`)
	_, text, _ = authenticate()
	require.Empty(t, text)
	inject(`{"kind":"code","code":"LOCK_TIMED_OUT","times":1}`)
	_, text, _ = authenticate()
	require.Contains(t, text, "LOCK_TIMED_OUT")
	inject(`{"kind":"slow","delay":"30ms"}`)
	began := time.Now()
	_, text, _ = authenticate()
	require.GreaterOrEqual(t, time.Since(began), 30*time.Millisecond)
	require.Contains(t, text, entryA)

	_, text = admin(http.MethodGet, "state", "")
	require.Contains(t, text, `"kind": "slow"`)
	require.NotContains(t, text, "dj94kfit")
	status, _ = admin(http.MethodDelete, "faults/0", "")
	require.Equal(t, http.StatusBadRequest, status)
	status, _ = admin(http.MethodDelete, "faults", "")
	require.Equal(t, http.StatusOK, status)
	require.Empty(t, b.State().Faults)
	for _, bad := range []string{`{`, `{"kind":"odd"}`, `{"kind":"code"}`, `{"kind":"slow","delay":"soon"}`, `{"kind":"status","status":200}`, `{"kind":"down","times":-1}`} {
		status, _ = admin(http.MethodPost, "faults", bad)
		require.Equal(t, http.StatusBadRequest, status, bad)
	}

	status, _ = admin(http.MethodPost, "partners/102:block", "")
	require.Equal(t, http.StatusOK, status)
	_, text, _ = authenticate()
	require.Contains(t, text, "SERVICE_FORBIDDEN_CONTENT_BLOCKED")
	b.SetPartner(Partner{ID: house, Secret: adminSecret, Features: []string{FeatureLive, FeatureTranscode}})
	_, text, _ = authenticate()
	require.Contains(t, text, entryA)
	status, _ = admin(http.MethodPost, "partners/1:block", "")
	require.Equal(t, http.StatusNotFound, status)
	status, _ = admin(http.MethodPost, "sessions:revoke", "")
	require.Equal(t, http.StatusOK, status)
	status, _ = admin(http.MethodPost, "nothing", "")
	require.Equal(t, http.StatusNotFound, status)
}

func TestBeaconsAndCuePoints(t *testing.T) {
	b := backend(t, nil)
	v, _ := do(t, b, "beacon_beacon", "add", "beacon:objectType", "KalturaBeacon", "beacon:objectId", entryA, "beacon:eventType", "0_healthData", "beacon:privateData", `{"alerts":[],}`)
	require.Equal(t, true, v)
	require.False(t, b.State().Beacons[0].Valid)
	v, _ = do(t, b, "cuepoint_cuepoint", "add", "cuePoint:objectType", "KalturaCodeCuePoint", "cuePoint:entryId", entryA, "cuePoint:code", "x")
	require.Equal(t, "x", field(v, "code"))
	require.Equal(t, "x", b.State().CuePoints[0].Fields["code"])
	v, _ = do(t, b, "cuepoint_cuepoint", "add", "cuePoint:entryId", entryA)
	require.Equal(t, "OBJECT_TYPE_ABSTRACT", code(v))
}

func FuzzRequest(f *testing.F) {
	f.Add("liveStream/action/authenticate", "application/x-www-form-urlencoded", "entryId="+entryA+"&token=dj94kfit&hostname="+host+"&mediaServerIndex=0")
	f.Add("multirequest", "application/json", `{"1":{"service":"liveStream","action":"get","entryId":"0_rkij47dr"},"2":{"service":"flavorAsset","action":"list","filter":{"entryIdEqual":"{1:result:id}"}}}`)
	f.Add("entryServerNode/action/update/id/17", "application/x-www-form-urlencoded", "entryServerNode:objectType=x&entryServerNode:streams:-=&entryServerNode:streams:1:a__null=")
	f.Add("wowza_liveConversionProfile/action/serve/streamName/"+entryA+"_1", "", "")
	f.Add("uploadToken/action/upload", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"json\"\r\n\r\n{}\r\n--x--")
	f.Add("liveStream/action/appendRecording", "application/json", `{"entryId":"0_rkij47dr","assetId":"0_as000001","duration":"NaN","mediaServerIndex":0,"resource":[]}`)
	f.Fuzz(func(t *testing.T, path, contentType, body string) {
		b := backend(t, nil)
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.URL.Path = "/api_v3/service/" + path
		r.URL.RawQuery = "ks=" + url.QueryEscape(token(MediaServerPartner))
		r.Header.Set("Content-Type", contentType)
		b.ServeHTTP(httptest.NewRecorder(), r)
		_ = b.State()
	})
}

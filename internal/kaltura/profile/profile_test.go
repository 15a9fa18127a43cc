package profile

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/kaltura/ks"
	"github.com/klive-media/klive/internal/media"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret  = ks.Secret("very-secret-indeed")
	partner = 102
)

// The entries of the simulated backend, by conversion profile.
var entries = map[int]string{
	kalturatest.ProfilePassthrough: "0_passthru",
	kalturatest.ProfileTranscode:   "0_transcod",
	kalturatest.ProfileHD:          "0_hdprofil",
	kalturatest.ProfileMixed:       "0_mixedpro",
}

func backend(t *testing.T, features ...string) *kalturatest.Backend {
	t.Helper()
	o := kalturatest.Options{Partners: []kalturatest.Partner{{ID: -5, Secret: secret},
		{ID: partner, Secret: secret, Features: append(features, kalturatest.FeatureLive, kalturatest.FeatureTranscode)}}}
	for profile, id := range entries {
		o.Entries = append(o.Entries, kalturatest.Entry{ID: id, Partner: partner, Token: "t", Profile: profile})
	}
	b, err := kalturatest.New(o)
	require.NoError(t, err)
	return b
}

// direct carries requests to a handler without a network.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.WroteHeaders != nil {
		trace.WroteHeaders()
	}
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				panic(p)
			}
			resp, err = nil, io.ErrUnexpectedEOF
		}
	}()
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

func newClient(t *testing.T, handler http.Handler) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{URL: "http://backend.invalid", Partner: -5, Secret: secret, Transport: direct{handler}})
	require.NoError(t, err)
	return c
}

func load(ctx context.Context, t *testing.T, c *client.Client, profile int) (client.Entry, Profile) {
	t.Helper()
	e, err := c.GetEntry(ctx, partner, entries[profile])
	require.NoError(t, err)
	p, err := Load(ctx, c, partner, e)
	require.NoError(t, err)
	return e, p
}

func TestLoad(t *testing.T) {
	c := newClient(t, backend(t))
	_, p := load(t.Context(), t, c, kalturatest.ProfileHD)
	require.Equal(t, kalturatest.ProfileHD, p.ID)
	require.Len(t, p.Flavors, 5)
	require.False(t, p.Everything)
	require.WithinDuration(t, time.Now(), p.Loaded, time.Minute)

	source, ok := p.ByIngest(1)
	require.True(t, ok)
	require.Equal(t, 32, source.ID)
	require.Equal(t, client.OriginIngest, source.Origin)
	require.True(t, source.Anchor)
	require.NotEmpty(t, source.Asset)
	require.True(t, source.Tagged("source"))

	hd, ok := p.ByID(42)
	require.True(t, ok)
	require.Equal(t, client.OriginConvert, hd.Origin)
	require.True(t, hd.Constant)
	require.False(t, hd.Anchor)
	require.Equal(t, []any{"h264h", 1700, 720, "aac", 128}, []any{hd.VideoCodec, hd.VideoKbps, hd.Height, hd.AudioCodec, hd.AudioKbps})
	english, ok := p.ByIngest(1000)
	require.True(t, ok)
	require.Equal(t, "eng", english.Language)
	_, ok = p.ByIngest(0)
	require.False(t, ok, "0 is no ingest")
	_, ok = p.ByID(7)
	require.False(t, ok)

	_, mixed := load(t.Context(), t, c, kalturatest.ProfileMixed)
	third, _ := mixed.ByID(203)
	require.Equal(t, 2, third.SkipFrames)

	// It is kept with the grant as JSON.
	text, err := json.Marshal(p)
	require.NoError(t, err)
	var back Profile
	require.NoError(t, json.Unmarshal(text, &back))
	require.True(t, back.Loaded.Equal(p.Loaded))
	back.Loaded = p.Loaded
	require.Equal(t, p, back)
}

func TestLoadSeesWhoWantsEverything(t *testing.T) {
	_, p := load(t.Context(), t, newClient(t, backend(t, kalturatest.FeatureNoSmartLadder)), kalturatest.ProfileHD)
	require.True(t, p.Everything)
}

// The backend lets partner -5 list flavors in the name of others, but not ask
// for those of one profile.
func TestLoadTakesFewRoundTrips(t *testing.T) {
	for caller, want := range map[int]int{partner: 1, -5: 2} {
		b := backend(t)
		trips := 0
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { trips++; b.ServeHTTP(w, r) })
		c, err := client.New(client.Options{URL: "http://backend.invalid", Partner: caller, Secret: secret, Transport: direct{handler}})
		require.NoError(t, err)
		p, err := Load(t.Context(), c, partner, client.Entry{ID: client.Text(entries[kalturatest.ProfileHD]), Profile: kalturatest.ProfileHD})
		require.NoError(t, err)
		require.Equal(t, want, trips, caller)
		require.Len(t, p.Flavors, 5, "those of the profile only")
		require.Equal(t, 32, p.Flavors[0].ID)
	}
}

func TestLoadFails(t *testing.T) {
	b := backend(t)
	c := newClient(t, b)
	_, err := Load(t.Context(), c, partner, client.Entry{ID: client.Text(entries[kalturatest.ProfileHD]), Profile: 1})
	require.True(t, client.HasCode(err, "CONVERSION_PROFILE_ID_NOT_FOUND"), err)
	_, err = Load(t.Context(), c, partner, client.Entry{ID: "0_nobodyis", Profile: kalturatest.ProfileHD})
	require.True(t, client.HasCode(err, "ENTRY_ID_NOT_FOUND"), err)

	for name, body := range map[string]string{
		"no live flavor": `[{"objects":[],"totalCount":0},[{"objectType":"KalturaFlavorParams","id":7}],{"objects":[]},null]`,
		"no id":          `[{"objects":[]},[{"id":0},{"id":-1},{"id":1e300}],{"objects":[]},{"objectType":"KalturaAPIException","code":"X"}]`,
	} {
		c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, body)
		}))
		_, err := Load(t.Context(), c, partner, client.Entry{Profile: 5})
		require.ErrorContains(t, err, "no live flavor", name)
	}
}

func TestLoadBelievesNoNonsense(t *testing.T) {
	body := `[{"objects":[{"assetParamsId":"9","origin":"1"}]},
		[{"id":"9","streamSuffix":"1e9","width":-4,"height":1e12,"frameRate":-1,"maxFrameRate":"30","videoBitrate":1e18,"tags":" mbr ,,source",
		  "conversionEnginesExtraParams":"-x 3 | nothing"},{"id":9,"name":"again"}],
		{"objects":[{"id":"0_a","flavorParamsId":9,"tags":null,"language":"English"}]},null]`
	c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
	p, err := Load(t.Context(), c, partner, client.Entry{Profile: 5})
	require.NoError(t, err)
	require.Equal(t, []Flavor{{ID: 9, Origin: client.OriginIngest, Tags: []string{"mbr", "source"}, Asset: "0_a", MaxFrameRate: 30, Language: "English"}}, p.Flavors)
}

func TestRenditionOf(t *testing.T) {
	c := newClient(t, backend(t))
	_, mixed := load(t.Context(), t, c, kalturatest.ProfileMixed)
	for _, c := range []struct {
		p      Profile
		ingest int
		want   string
	}{
		{Profile{}, 1, "32"}, {Profile{}, 2, "36"}, {Profile{}, 3, "37"}, {Profile{}, 4, "39"}, {Profile{}, 6, "41"}, {Profile{}, 7, "47"},
		{Profile{}, 1000, "100"}, {Profile{}, 1019, "119"}, {Profile{}, 1020, "1020"}, {Profile{}, 8, "8"}, {Profile{}, 0, "0"},
		{mixed, 1, "201"}, {mixed, 2, "36"}, {mixed, 1001, "101"}, {mixed, 3, "3"},
	} {
		require.Equal(t, c.want, RenditionOf(c.p, c.ingest), "ingest %d", c.ingest)
	}
}

func TestFacts(t *testing.T) {
	require.Empty(t, Facts{}.JSON(), "nothing is known")
	require.Empty(t, FactsOf(nil))
	tracks := []*media.Track{
		{Kind: media.Audio, Codec: media.AAC, Bitrate: 127_600},
		{Kind: media.Video, Codec: media.H264, Bitrate: 2_999_600, Video: media.VideoInfo{Width: 1280, Height: 720, FrameRate: 29.97}},
		{Kind: media.Data, Codec: media.AMF0},
		{Kind: media.Video, Codec: media.HEVC},
	}
	f := FactsOf(tracks)
	require.Equal(t, Facts{Width: 1280, Height: 720, FrameRate: 29.97, VideoKbps: 3000, AudioKbps: 128, VideoCodec: "H264", AudioCodec: "AAC"}, f)
	require.JSONEq(t, `{"width":"1280","height":"720","framerate":"29.97","videodatarate":"3000","audiodatarate":"128",
		"videocodecidstring":"H264","audiocodecidstring":"AAC"}`, f.JSON())
	require.JSONEq(t, `{"audiocodecidstring":"OPUS"}`, FactsOf([]*media.Track{{Kind: media.Audio, Codec: media.Opus}}).JSON(), "unknown is not zero")
	require.Empty(t, FactsOf([]*media.Track{{Kind: media.Audio}}).JSON())
}

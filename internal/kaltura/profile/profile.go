// Package profile knows what a Kaltura entry's conversion profile asks for:
// its flavors, which of them an encoder sends itself, and the ladder of
// renditions that a media server is to make of what comes in.
//
// Profile is the type to read first: Load reads one, Select applies the
// backend's rules to it. The backend also writes the answer itself, as a
// transcoding template for another engine; ParseTemplate reads that. Resolver
// asks one of the two and falls back on the other.
package profile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klive-media/klive/internal/kaltura/client"
)

// Bounds of what a backend is believed. Stock profiles have fewer than ten
// flavors, the largest in the field some dozens.
const (
	pageSize   = 500  // the largest page of the API; without a pager it shows 30
	maxFlavors = 500  // of one profile
	maxPages   = 10   // of all flavors of a partner
	maxText    = 1000 // bytes of a name, of a list of tags
)

// The tags of flavors with a meaning for the rules of selection.
const (
	tagSource    = "source"          // the first ingest, which others are made of
	tagIngest    = "ingest"          // sent by the encoder, passed through
	tagAudioOnly = "audio_only"      // has no picture
	tagOptional  = "optional_flavor" // only made of an ingest that is good enough
)

// Flavor is one live flavor of a conversion profile, joined with what the
// entry has of it.
type Flavor struct {
	ID int `json:"id"` // flavor params id: the name of the rendition
	// Ingest is the index of the ingest stream that is this flavor (the
	// backend's stream suffix): 1 the source, 2 and up further ingests, 1000 and
	// up audio languages; 0: it does not arrive by itself.
	Ingest     int           `json:"ingest,omitempty"`
	Origin     client.Origin `json:"origin"`
	SystemName string        `json:"system_name,omitempty"`
	Name       string        `json:"name,omitempty"`
	Tags       []string      `json:"tags,omitempty"`
	// Asset is the entry's asset of this flavor, which pieces of a recording
	// are appended to; "": the entry has none.
	Asset  string `json:"asset,omitempty"`
	Anchor bool   `json:"anchor,omitempty"` // the length of its recording is the entry's

	VideoCodec    string  `json:"video_codec,omitempty"` // in the backend's words: h264m, copy, …
	VideoKbps     int     `json:"video_kbps,omitempty"`
	Width         int     `json:"width,omitempty"` // pixels; 0: follows from the other
	Height        int     `json:"height,omitempty"`
	FrameRate     float64 `json:"frame_rate,omitempty"`
	MaxFrameRate  float64 `json:"max_frame_rate,omitempty"`
	AudioCodec    string  `json:"audio_codec,omitempty"`
	AudioKbps     int     `json:"audio_kbps,omitempty"`
	AudioChannels int     `json:"audio_channels,omitempty"`
	AudioRate     int     `json:"audio_rate,omitempty"` // Hz
	Constant      bool    `json:"constant,omitempty"`   // a constant bit rate is asked for
	SkipFrames    int     `json:"skip_frames,omitempty"`
	Language      string  `json:"language,omitempty"` // in the backend's words
}

// Tagged reports whether the flavor carries a tag.
func (f Flavor) Tagged(tag string) bool { return slices.Contains(f.Tags, tag) }

// Profile is a conversion profile for one entry. The zero Profile is one that
// could not be loaded. It is kept as JSON with the entry's grant.
type Profile struct {
	ID      int       `json:"id"`
	Flavors []Flavor  `json:"flavors,omitempty"` // in the backend's order
	Loaded  time.Time `json:"loaded,omitzero"`
	// Everything: the partner wants optional flavors also of an ingest that is
	// not good enough for them.
	Everything bool `json:"everything,omitempty"`
}

// ByIngest finds the flavor that arrives as an ingest stream: the first, as
// the backend does.
func (p Profile) ByIngest(n int) (Flavor, bool) {
	for _, f := range p.Flavors {
		if n > 0 && f.Ingest == n {
			return f, true
		}
	}
	return Flavor{}, false
}

// ByID finds a flavor by its flavor params id.
func (p Profile) ByID(id int) (Flavor, bool) {
	for _, f := range p.Flavors {
		if f.ID == id {
			return f, true
		}
	}
	return Flavor{}, false
}

// stock is which flavor params the backend's own live flavors with a stream
// suffix are; audio languages are counted from stockAudio.
var stock = map[int]int{1: 32, 2: 36, 3: 37, 4: 39, 5: 40, 6: 41, 7: 47}

const (
	firstAudio   = 1000 // ingest index
	stockAudio   = 100  // flavor params id
	stockAudioOf = 20   // how many there are
)

// RenditionOf is the id under which an ingest stream is listed: its flavor
// params id. Where the profile is not known it is that of the backend's stock
// flavors; for an index that neither knows it is the index itself.
func RenditionOf(p Profile, ingest int) string {
	if f, ok := p.ByIngest(ingest); ok {
		return strconv.Itoa(f.ID)
	}
	if len(p.Flavors) == 0 {
		if id, ok := stock[ingest]; ok {
			return strconv.Itoa(id)
		}
		if n := ingest - firstAudio; n >= 0 && n < stockAudioOf {
			return strconv.Itoa(stockAudio + n)
		}
	}
	return strconv.Itoa(ingest)
}

// The rows as the backend sends them.
type (
	flavorRow struct {
		ObjectType    client.Text  `json:"objectType"`
		ID            client.Int   `json:"id"`
		Name          client.Text  `json:"name"`
		SystemName    client.Text  `json:"systemName"`
		Tags          client.Text  `json:"tags"`
		Suffix        client.Int   `json:"streamSuffix"`
		VideoCodec    client.Text  `json:"videoCodec"`
		VideoKbps     client.Int   `json:"videoBitrate"`
		Width         client.Int   `json:"width"`
		Height        client.Int   `json:"height"`
		FrameRate     client.Float `json:"frameRate"`
		MaxFrameRate  client.Float `json:"maxFrameRate"`
		AudioCodec    client.Text  `json:"audioCodec"`
		AudioKbps     client.Int   `json:"audioBitrate"`
		AudioChannels client.Int   `json:"audioChannels"`
		AudioRate     client.Int   `json:"audioSampleRate"`
		Extra         client.Text  `json:"conversionEnginesExtraParams"`
	}
	assetRow struct {
		client.Asset
		Language client.Text `json:"language"`
	}
)

// liveParams is the object type of flavors of live entries; a profile may hold
// others, which are for uploaded files.
const liveParams = "KalturaLiveParams"

// smartOff is the permission of partners who want every optional flavor.
const smartOff = "FEATURE_KALTURA_LIVE_DISABLE_SMART_TRANSCODING"

// permissionActive is the status of a permission that counts.
const permissionActive = 1

// Load reads the conversion profile of an entry, in one round trip, or two for
// partner -5, which may not ask for the flavors of another partner's profile.
// Errors are those of the client: *client.Error or *client.Unavailable.
func Load(ctx context.Context, c *client.Client, partner int, e client.Entry) (Profile, error) {
	list := func(service, action string, params client.Params) client.Call {
		return client.Call{Service: service, Action: action, Partner: partner, Idempotent: true, Params: params}
	}
	pager := client.Params{"objectType": "KalturaFilterPager", "pageSize": pageSize, "pageIndex": 1}
	results, err := c.Batch(ctx,
		list("conversionProfileAssetParams", "list", client.Params{"pager": pager, "filter": client.Params{
			"objectType": "KalturaConversionProfileAssetParamsFilter", "conversionProfileIdEqual": int64(e.Profile)}}),
		list("flavorParams", "getByConversionProfileId", client.Params{"conversionProfileId": int64(e.Profile), "pager": pager}),
		list("flavorAsset", "list", client.Params{"pager": pager, "filter": client.Params{
			"objectType": "KalturaLiveAssetFilter", "entryIdEqual": string(e.ID)}}),
		list("permission", "get", client.Params{"permissionName": smartOff}))
	if err != nil {
		return Profile{}, fmt.Errorf("load conversion profile %d: %w", e.Profile, err)
	}
	var (
		members client.List[client.ProfileFlavor]
		flavors []flavorRow
		assets  client.List[assetRow]
		feature struct {
			Status client.Int `json:"status"`
		}
	)
	if err := results[0].Decode(&members); err != nil {
		return Profile{}, fmt.Errorf("load conversion profile %d: %w", e.Profile, err)
	}
	err = results[1].Decode(&flavors)
	if client.HasCode(err, codeForbidden) {
		flavors, err = listFlavors(ctx, c, partner, members.Objects)
	}
	if err := errors.Join(err, results[2].Decode(&assets)); err != nil {
		return Profile{}, fmt.Errorf("load conversion profile %d: %w", e.Profile, err)
	}
	p := Profile{ID: int(e.Profile), Flavors: join(members.Objects, flavors, assets.Objects), Loaded: time.Now()}
	// A partner without the permission, and a session that may not ask, are the rule.
	p.Everything = results[3].Decode(&feature) == nil && feature.Status == permissionActive
	if len(p.Flavors) == 0 {
		return Profile{}, fmt.Errorf("load conversion profile %d: it has no live flavor", e.Profile)
	}
	return p, nil
}

// codeForbidden: the session may not do this in the partner's name.
const codeForbidden = "SERVICE_FORBIDDEN"

// listFlavors reads the flavors of a profile, in its order, out of all that the
// partner may use. Partner -5 may list these in the name of others, but not ask
// for those of one profile.
func listFlavors(ctx context.Context, c *client.Client, partner int, members []client.ProfileFlavor) ([]flavorRow, error) {
	known := make(map[client.Int]flavorRow)
	for page, read := 1, 0; page <= maxPages; page++ {
		var l client.List[flavorRow]
		if err := c.Do(ctx, client.Call{Service: "flavorParams", Action: "list", Partner: partner, Idempotent: true, Params: client.Params{
			"pager": client.Params{"objectType": "KalturaFilterPager", "pageSize": pageSize, "pageIndex": page}}}, &l); err != nil {
			return nil, err
		}
		for _, r := range l.Objects {
			known[r.ID] = r
		}
		if read += len(l.Objects); len(l.Objects) == 0 || read >= int(l.Total) {
			break
		}
	}
	var rows []flavorRow
	for _, m := range members {
		if r, ok := known[m.Flavor]; ok {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// join makes flavors of the three lists.
func join(members []client.ProfileFlavor, rows []flavorRow, assets []assetRow) []Flavor {
	var out []Flavor
	for _, r := range rows {
		known := slices.ContainsFunc(out, func(f Flavor) bool { return f.ID == int(r.ID) })
		if r.ObjectType != "" && r.ObjectType != liveParams || within(r.ID, maxFlavorID) == 0 || known || len(out) == maxFlavors {
			continue
		}
		f := r.flavor()
		for _, m := range members {
			if m.Flavor == r.ID {
				f.Origin = client.Origin(m.Origin)
			}
		}
		for _, a := range assets {
			if a.Flavor == r.ID {
				f.Asset, f.Anchor, f.Language = string(a.ID), a.IsAnchor(), cut(a.Language)
				break
			}
		}
		out = append(out, f)
	}
	return out
}

// The bounds of numbers in flavors: far above what anybody encodes, far below
// what overflows.
const (
	maxFlavorID  = 1<<31 - 1
	maxKbps      = 1 << 20
	maxPixels    = 1 << 16
	maxRate      = 1 << 20 // Hz
	maxFrameRate = 1000
	maxIngest    = 9999
	maxChannels  = 64
	maxSkip      = 100
)

func (r *flavorRow) flavor() Flavor {
	f := Flavor{
		ID: within(r.ID, maxFlavorID), Ingest: within(r.Suffix, maxIngest), SystemName: cut(r.SystemName), Name: cut(r.Name),
		VideoCodec: strings.ToLower(cut(r.VideoCodec)), VideoKbps: within(r.VideoKbps, maxKbps),
		Width: within(r.Width, maxPixels), Height: within(r.Height, maxPixels),
		FrameRate: rate(r.FrameRate), MaxFrameRate: rate(r.MaxFrameRate),
		AudioCodec: strings.ToLower(cut(r.AudioCodec)), AudioKbps: within(r.AudioKbps, maxKbps),
		AudioChannels: within(r.AudioChannels, maxChannels), AudioRate: within(r.AudioRate, maxRate),
	}
	for tag := range strings.SplitSeq(cut(r.Tags), ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			f.Tags = append(f.Tags, tag)
		}
	}
	// For flavors of uploaded files the same field holds command lines: what is
	// no object of JSON says nothing here.
	var extra struct {
		Constant client.Bool `json:"constantBitrate"`
		Skip     client.Int  `json:"skipFrameCount"`
	}
	if json.Unmarshal([]byte(r.Extra), &extra) == nil {
		f.Constant, f.SkipFrames = bool(extra.Constant), within(extra.Skip, maxSkip)
	}
	return f
}

// within is a number of the backend that is believed; 0 when it is not.
func within(v client.Int, most int) int {
	if v < 0 || v > client.Int(most) {
		return 0
	}
	return int(v)
}

// rate is a frame rate that is believed; 0 when it is not.
func rate(v client.Float) float64 {
	if v > 0 && v <= maxFrameRate {
		return float64(v)
	}
	return 0
}

// cut bounds a text of the backend.
func cut(t client.Text) string {
	if len(t) > maxText {
		return strings.ToValidUTF8(string(t[:maxText]), "")
	}
	return string(t)
}

package kalturatest

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// The stock conversion profiles.
const (
	ProfilePassthrough = 5510 // source and two further ingests, nothing encoded
	ProfileTranscode   = 5511 // source and three encoded renditions
	ProfileHD          = 5512 // source, an SD and two HD renditions made only where the source is good enough, and an audio language
	ProfileMixed       = 5513 // source and flavors that need the rarer rules of the template
)

// The origins of a flavor in a profile.
const (
	originConvert = 0
	originIngest  = 1
)

// profileAsset is one flavor of a conversion profile.
type profileAsset struct{ params, origin int }

type profile struct {
	id         int
	systemName string
	assets     []profileAsset // the anchor of recordings first
}

var profiles = []profile{
	{ProfilePassthrough, "Passthrough_Live", []profileAsset{{32, originIngest}, {36, originIngest}, {37, originIngest}}},
	{ProfileTranscode, "Default_Live", []profileAsset{{32, originIngest}, {33, originConvert}, {34, originConvert}, {35, originConvert}}},
	{ProfileHD, "HD_Live", []profileAsset{{32, originIngest}, {35, originConvert}, {42, originConvert}, {44, originConvert}, {100, originIngest}}},
	{ProfileMixed, "Mixed_Live", []profileAsset{{201, originIngest}, {202, originConvert}, {203, originConvert}, {204, originConvert}, {205, originConvert},
		{206, originConvert}, {207, originConvert}, {208, originConvert}, {209, originConvert}, {36, originConvert}, {100, originConvert}, {101, originIngest}}},
}

func profileByID(id int) *profile {
	for i := range profiles {
		if profiles[i].id == id {
			return &profiles[i]
		}
	}
	return nil
}

// flavor is a live flavor params row.
type flavor struct {
	id                       int
	name, tags               string
	suffix                   int // 0: none
	videoCodec               string
	videoBitrate             int // kbit/s
	width, height            int
	audioCodec               string
	audioBitrate             int // kbit/s
	audioChannels, audioRate int
	constant                 bool
	language                 string
	frameRate, maxFrameRate  int
	skipFrames               int
}

// flavors are the stock live flavor params of partner 0, and some of the
// simulator's own from 201 on.
var flavors = []flavor{
	{id: 32, name: "Source", tags: "source,ingest", suffix: 1, videoBitrate: 900, width: 640, height: 480},
	{id: 33, name: "Basic_Small_400", tags: "mbr", videoCodec: "h264b", videoBitrate: 400, width: 480, audioCodec: "aac", audioBitrate: 64, audioChannels: 2, audioRate: 44100},
	{id: 34, name: "Basic_Small_600", tags: "mbr", videoCodec: "h264b", videoBitrate: 600, width: 640, audioCodec: "aac", audioBitrate: 64, audioChannels: 2, audioRate: 44100},
	{id: 35, name: "SD_Small_900", tags: "mbr", videoCodec: "h264m", videoBitrate: 900, width: 640, audioCodec: "aac", audioBitrate: 64, audioChannels: 2, audioRate: 44100},
	{id: 36, name: "Ingest_2", tags: "mbr,ingest", suffix: 2, videoBitrate: 400, width: 480, height: 360},
	{id: 37, name: "Ingest_3", tags: "mbr,ingest", suffix: 3, videoBitrate: 600, width: 640, height: 360},
	{id: 38, name: "Multicast", tags: "multicast_silverlight", suffix: 1, videoCodec: "h264b", videoBitrate: 360, width: 640, audioCodec: "aac", audioBitrate: 40},
	{id: 39, name: "Ingest_4", tags: "mbr,ingest", suffix: 4, videoBitrate: 900, height: 540},
	{id: 40, name: "Ingest_5", tags: "mbr,ingest", suffix: 5, videoBitrate: 1500, height: 720},
	{id: 41, name: "Ingest_6", tags: "mbr,ingest", suffix: 6, videoBitrate: 2500, height: 720},
	{id: 42, name: "HD/720 - WEB/MBL (H264/1700)", tags: "mbr,optional_flavor", videoCodec: "h264h", videoBitrate: 1700, height: 720, audioCodec: "aac", audioBitrate: 128, constant: true},
	{id: 43, name: "HD/720 - WEB/MBL (H264/2600)", tags: "mbr,optional_flavor", videoCodec: "h264h", videoBitrate: 2600, height: 720, audioCodec: "aac", audioBitrate: 128, constant: true},
	{id: 44, name: "HD/1080 - WEB/MBL (H264/4000)", tags: "mbr,optional_flavor", videoCodec: "h264h", videoBitrate: 4000, height: 1080, audioCodec: "aac", audioBitrate: 128, constant: true},
	{id: 47, name: "Ingest_7", tags: "mbr,ingest", suffix: 7, videoBitrate: 4000, height: 1080},
	{id: 100, name: "Audio_only_English", tags: "ingest,mbr,audio_only,alt_audio", suffix: 1000, audioCodec: "aac", audioBitrate: 64, audioChannels: 2, language: "eng"},
	{id: 101, name: "Audio_only_Spanish", tags: "ingest,mbr,audio_only,alt_audio", suffix: 1001, audioCodec: "aac", audioBitrate: 64, audioChannels: 2, language: "spa"},
	{id: 201, name: "Source_25", tags: "source,ingest", suffix: 1, frameRate: 25},
	{id: 202, name: "Half_rate", tags: "mbr", videoCodec: "h264m", videoBitrate: 500, width: 640, height: 360, maxFrameRate: 15, audioCodec: "aac", audioBitrate: 64},
	{id: 203, name: "Every_third", tags: "mbr", videoCodec: "h264", height: 240, skipFrames: 2, constant: true, audioCodec: "mp3", audioRate: 22050},
	{id: 204, name: "Copy", tags: "mbr", videoCodec: "copy", height: 720, audioCodec: "copy"},
	{id: 205, name: "Rate_alone", tags: "mbr", videoCodec: "h264b", videoBitrate: 300, frameRate: 10, audioCodec: "aache", audioBitrate: 32, audioChannels: 1},
	{id: 206, name: "", tags: "mbr", videoCodec: "h264m", videoBitrate: 800},
	{id: 207, name: "Sound_alone", tags: "audio_only", audioCodec: "aac", audioBitrate: 96, audioRate: 48000},
	{id: 208, name: "Sound_with_picture", tags: "audio_only", videoCodec: "h264b", width: 320, audioCodec: "aac"},
	{id: 209, name: "Wide_optional", tags: "mbr,optional_flavor", videoCodec: "h264h", videoBitrate: 2500, width: 1281, audioCodec: "aac"},
}

func flavorByID(id int) *flavor {
	for i := range flavors {
		if flavors[i].id == id {
			return &flavors[i]
		}
	}
	return nil
}

func (f *flavor) tagged(tag string) bool { return slices.Contains(strings.Split(f.tags, ","), tag) }

// extra is conversionEnginesExtraParams.
func (f *flavor) extra() string {
	if !f.constant && f.skipFrames == 0 {
		return ""
	}
	text, err := json.Marshal(struct {
		Constant bool `json:"constantBitrate,omitempty"`
		Skip     int  `json:"skipFrameCount,omitempty"`
	}{f.constant, f.skipFrames})
	if err != nil {
		return ""
	}
	return string(text)
}

func (f *flavor) show() object {
	o := object{"objectType": "KalturaLiveParams", "id": f.id, "partnerId": stockPartner, "name": f.name, "systemName": f.name, "tags": f.tags,
		"videoCodec": f.videoCodec, "videoBitrate": f.videoBitrate, "audioCodec": f.audioCodec, "audioBitrate": f.audioBitrate,
		"audioChannels": f.audioChannels, "audioSampleRate": f.audioRate, "width": f.width, "height": f.height, "frameRate": f.frameRate,
		"maxFrameRate": f.maxFrameRate, "conversionEnginesExtraParams": f.extra(), "isSystemDefault": 1}
	if f.suffix > 0 {
		o["streamSuffix"] = strconv.Itoa(f.suffix)
	}
	return o
}

// readProfile reads conversionProfileId, or the filter's.
func (c *call) readProfile(id int) (*profile, error) {
	p := profileByID(id)
	if p == nil {
		return nil, fail("CONVERSION_PROFILE_ID_NOT_FOUND", "ID", strconv.Itoa(id))
	}
	return p, nil
}

// listProfileAssets is conversionProfileAssetParams.list.
func listProfileAssets(c *call) (any, error) {
	p, err := c.readProfile(c.params.object("filter").number("conversionProfileIdEqual", 0))
	if err != nil {
		return nil, err
	}
	var all []any
	for _, a := range p.assets {
		f := flavorByID(a.params)
		all = append(all, object{"objectType": "KalturaConversionProfileAssetParams", "conversionProfileId": p.id, "assetParamsId": a.params,
			"readyBehavior": 0, "origin": a.origin, "systemName": f.name, "forceNoneComplied": 0, "deletePolicy": 0, "tags": nil})
	}
	return c.page("KalturaConversionProfileAssetParamsListResponse", all), nil
}

// profileFlavors is flavorParams.getByConversionProfileId.
func profileFlavors(c *call) (any, error) {
	p, err := c.readProfile(c.params.number("conversionProfileId", 0))
	if err != nil {
		return nil, err
	}
	all := []any{}
	for _, a := range p.assets {
		all = append(all, flavorByID(a.params).show())
	}
	return all, nil
}

func listFlavors(c *call) (any, error) {
	var all []any
	for i := range flavors {
		all = append(all, flavors[i].show())
	}
	return c.page("KalturaFlavorParamsListResponse", all), nil
}

func getFlavor(c *call) (any, error) {
	id := c.params.number("id", 0)
	f := flavorByID(id)
	if f == nil {
		return nil, fail("FLAVOR_PARAMS_ID_NOT_FOUND", "ID", strconv.Itoa(id))
	}
	return f.show(), nil
}

// listAssets is flavorAsset.list.
func listAssets(c *call) (any, error) {
	e, err := c.find(c.params.object("filter").str("entryIdEqual"))
	if err != nil {
		return nil, err
	}
	var all []any
	for _, a := range e.assets {
		f := flavorByID(a.params)
		tags := f.tags
		if a.anchor {
			tags += ",recording_anchor"
		}
		o := object{"objectType": "KalturaLiveAsset", "id": a.id, "entryId": e.ID, "flavorParamsId": f.id, "partnerId": e.Partner, "tags": tags,
			"bitrate": f.videoBitrate + f.audioBitrate, "width": f.width, "height": f.height, "frameRate": 0, "status": 2}
		if f.language != "" {
			o["language"] = f.language
		}
		all = append(all, o)
	}
	return c.page("KalturaFlavorAssetListResponse", all), nil
}

package kalturatest

import (
	"encoding/json"
	"encoding/xml"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// The transcoding template as the backend writes it, element by element.
type (
	templateRoot struct {
		XMLName   xml.Name          `xml:"Root"`
		Transcode templateTranscode `xml:"Transcode"`
	}
	templateTranscode struct {
		Encodes     []templateEncode `xml:"Encodes>Encode"`
		Deinterlace bool             `xml:"Decode>Video>Deinterlace"`
		Groups      []templateGroup  `xml:"StreamNameGroups>StreamNameGroup"`
		Properties  []templateExtra  `xml:"Properties>Property"`
	}
	templateEncode struct {
		Enable     bool
		Name       string
		StreamName string
		Video      templateVideo
		Audio      templateAudio
	}
	templateVideo struct {
		Transcoder  string              `xml:",omitempty"`
		GPUID       string              `xml:",omitempty"`
		FrameSize   *templateSize       `xml:",omitempty"`
		Codec       string              `xml:""`
		Profile     string              `xml:",omitempty"`
		Bitrate     int                 `xml:",omitempty"`
		KeyInterval *templateKey        `xml:"KeyFrameInterval,omitempty"`
		SkipFrames  *templateSkip       `xml:"SkipFrameCount,omitempty"`
		Parameters  *templateParameters `xml:",omitempty"`
	}
	templateSize struct {
		FitMode string
		Width   int `xml:",omitempty"`
		Height  int `xml:",omitempty"`
	}
	templateKey struct {
		FollowSource bool
		Interval     int
	}
	templateSkip       struct{ Value int }
	templateParameters struct {
		Parameter []templateExtra
	}
	templateExtra struct{ Name, Value, Type string }
	templateAudio struct {
		Codec   string
		Bitrate int `xml:",omitempty"`
	}
	templateGroup struct {
		Name       string
		StreamName string
		Members    []templateMember `xml:"Members>Member"`
	}
	templateMember struct{ EncodeName string }
)

// The defaults and constants of the template.
const (
	defaultVideoBitrate = 240_000
	defaultAudioBitrate = 96_000
	keyInterval         = 60
	bitrateGap          = 40   // per cent that an ingest must have more than the bitrate of an optional flavor
	leastSourceRate     = 12.5 // frames per second from which on the source flavor's say is taken
)

var ingestName = regexp.MustCompile(`^(\d_.{8})_(\d+)$`)

// ingestFacts is what is known of the incoming stream; 0 and "": unknown.
type ingestFacts struct {
	height, width, videoKbps int
	frameRate                float64
	audioCodec               string
	zeroHeight               bool // the text "0", which is below every height
}

// serveTemplate is wowza_liveConversionProfile.serve. It needs no session.
func serveTemplate(c *call) (any, error) {
	name := c.params.str("streamName")
	m := ingestName.FindStringSubmatch(name)
	if m == nil {
		return nil, fail("INVALID_STREAM_NAME", "NAME", name)
	}
	e := c.entries[m[1]]
	if e == nil || e.SourceType != sourceLive && e.SourceType != sourceLiveCaptions ||
		c.session != nil && !c.all && c.session.Partner != MediaServerPartner && c.session.Partner != e.Partner {
		return nil, fail("ENTRY_ID_NOT_FOUND", "ENTRY_ID", m[1])
	}
	facts := readFacts(c.params.str("extraParams"))
	chosen, err := c.choose(e, leadingInt(m[2]), name, facts)
	if err != nil {
		return nil, err
	}
	root := templateRoot{}
	if source := chosen.source(); source != nil && float64(source.frameRate) >= leastSourceRate {
		root.Transcode.Properties = []templateExtra{{"sourceStreamFrameRate", strconv.Itoa(source.frameRate), "Double"}}
		if facts.frameRate == 0 {
			facts.frameRate = float64(source.frameRate)
		}
	}
	group := templateGroup{Name: "all", StreamName: "${SourceStreamName}_all"}
	for _, f := range chosen {
		root.Transcode.Encodes = append(root.Transcode.Encodes, f.encode(e.ID, facts))
		group.Members = append(group.Members, templateMember{f.label()})
	}
	root.Transcode.Groups = []templateGroup{group}
	body, err := xml.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, err
	}
	return document{contentType: "text/xml", body: append([]byte("<?xml version=\"1.0\"?>\n"), body...)}, nil
}

func readFacts(text string) ingestFacts {
	var given map[string]any
	if json.Unmarshal([]byte(text), &given) != nil {
		return ingestFacts{}
	}
	word := func(name string) string { s, _ := given[name].(string); return s }
	rate, err := strconv.ParseFloat(word("framerate"), 64)
	if err != nil || !(rate > 0 && rate < 1000) {
		rate = 0
	}
	return ingestFacts{frameRate: rate, height: leadingInt(word("height")), width: leadingInt(word("width")), videoKbps: leadingInt(word("videodatarate")),
		audioCodec: word("audiocodecidstring"), zeroHeight: word("height") == "0"}
}

// ladder is what is made of an ingest.
type ladder []*flavor

// source is the flavor that the others are made of, or nil.
func (l ladder) source() *flavor {
	for _, f := range l {
		if f.tagged("source") {
			return f
		}
	}
	return nil
}

// choose picks the flavors for an ingest: a further ingest passes through
// alone; the source brings everything that does not arrive by itself and
// that it is good enough for.
func (c *call) choose(e *entry, suffix int, name string, facts ingestFacts) (ladder, error) {
	assets := profileByID(e.Profile).assets
	var hit *flavor
	for _, a := range assets {
		if f := flavorByID(a.params); f.suffix == suffix {
			hit = f
			break
		}
	}
	switch {
	case hit == nil:
		return nil, fail("INGEST_NOT_FOUND_IN_CONVERSION_PROFILE", "NAME", name)
	case !hit.tagged("source"):
		return ladder{hit}, nil
	}
	smart := !c.partners[e.Partner].has(FeatureNoSmartLadder)
	var chosen ladder
	for _, a := range assets {
		f := flavorByID(a.params)
		if a.origin == originIngest && !f.tagged("source") || smart && f.tooGood(facts) {
			continue
		}
		chosen = append(chosen, f)
	}
	return chosen, nil
}

// tooGood reports whether an optional flavor asks more than the ingest has.
func (f *flavor) tooGood(in ingestFacts) bool {
	if !f.tagged("optional_flavor") || f.tagged("ingest") {
		return false
	}
	height := float64(f.height)
	if f.height == 0 && in.width > 0 {
		height = float64(f.width) * float64(in.height) / float64(in.width)
	}
	return (in.height > 0 || in.zeroHeight) && float64(in.height) < height ||
		in.videoKbps > 0 && in.videoKbps*100 < f.videoBitrate*(100+bitrateGap)
}

// label is the flavor's name in the template.
func (f *flavor) label() string {
	if f.name == "" {
		return strconv.Itoa(f.id)
	}
	return f.name
}

// encode renders one flavor.
func (f *flavor) encode(entry string, in ingestFacts) templateEncode {
	out := templateEncode{Enable: true, Name: f.label(), StreamName: entry + "_" + strconv.Itoa(f.id)}
	audioRate := defaultAudioBitrate
	if f.audioBitrate > 0 {
		audioRate = f.audioBitrate * 1000
	}
	pass := in.audioCodec == "AAC"
	if f.tagged("ingest") {
		out.Video.Codec = "PassThru"
		if f.tagged("audio_only") {
			out.Video.Codec = "Disable"
		}
		out.Audio = templateAudio{Codec: "PassThru"}
		if !pass {
			out.Audio = templateAudio{Codec: "AAC", Bitrate: audioRate}
		}
		return out
	}
	out.Video = templateVideo{Transcoder: "default", GPUID: "-1", FrameSize: f.frameSize(),
		Bitrate: max(f.videoBitrate*1000, defaultVideoBitrate*boolInt(f.videoBitrate == 0)), KeyInterval: &templateKey{true, keyInterval}}
	out.Video.Codec, out.Video.Profile = f.videoCodecOut()
	if skip := f.skip(in); skip > 0 {
		out.Video.SkipFrames = &templateSkip{skip}
	}
	if f.constant {
		out.Video.Parameters = &templateParameters{[]templateExtra{{"mainconcept.bit_rate_mode", "0", "Long"}}}
	}
	out.Audio = templateAudio{Codec: "AAC", Bitrate: audioRate}
	wanted := (f.audioRate > 0 || f.audioChannels > 0) && strings.HasPrefix(f.audioCodec, "aac")
	if pass && !wanted {
		out.Audio.Codec = "PassThru"
	}
	return out
}

// videoCodecOut is the codec and its profile of a flavor that is encoded.
func (f *flavor) videoCodecOut() (codec, profile string) {
	sized := f.width > 0 || f.height > 0 || f.frameRate > 0
	if !sized && f.tagged("audio_only") {
		return "Disable", ""
	}
	if sized {
		switch f.videoCodec {
		case "flv", "vp6", "h263":
			return "H.263", "baseline"
		case "h264", "h264b":
			return "H.264", "baseline"
		case "h264m", "h264h":
			return "H.264", "main"
		}
	}
	return "PassThru", ""
}

// skip is how many frames are left out after each.
func (f *flavor) skip(in ingestFacts) int {
	if in.frameRate > 0 && f.maxFrameRate > 0 {
		return max(0, int(math.Ceil(in.frameRate/float64(f.maxFrameRate)-1.05)))
	}
	return f.skipFrames
}

func (f *flavor) frameSize() *templateSize {
	s := &templateSize{Width: f.width, Height: f.height}
	switch {
	case f.height > 0:
		s.FitMode = "fit-height"
	case f.width > 0:
		s.FitMode = "fit-width"
	default:
		s.FitMode = "match-source"
	}
	return s
}

// kbps rounds bits per second for playlists.
func kbps(bits float64) int { return int(math.Round(bits/1000)) * 1000 }

package kalturatest

import (
	"encoding/json"
	"encoding/xml"
	"math"
	"regexp"
	"strconv"
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
		Properties  struct{}         `xml:"Properties"`
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
	bitrateGap          = 1.40 // an optional flavor needs an ingest with so much more than its own bitrate
)

var ingestName = regexp.MustCompile(`^(\d_.{8})_(\d+)$`)

// ingestFacts is what is known of the incoming stream; 0 and "": unknown.
type ingestFacts struct {
	height, width, videoKbps int
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
	chosen, err := c.choose(e, leadingInt(m[2]), name, readFacts(c.params.str("extraParams")))
	if err != nil {
		return nil, err
	}
	facts := readFacts(c.params.str("extraParams"))
	root := templateRoot{}
	group := templateGroup{Name: "all", StreamName: "${SourceStreamName}_all"}
	for _, f := range chosen {
		root.Transcode.Encodes = append(root.Transcode.Encodes, f.encode(e.ID, facts))
		group.Members = append(group.Members, templateMember{f.name})
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
	return ingestFacts{height: leadingInt(word("height")), width: leadingInt(word("width")), videoKbps: leadingInt(word("videodatarate")),
		audioCodec: word("audiocodecidstring"), zeroHeight: word("height") == "0"}
}

// choose picks the flavors for an ingest: a further ingest passes through
// alone; the source brings everything that does not arrive by itself and
// that it is good enough for.
func (c *call) choose(e *entry, suffix int, name string, facts ingestFacts) ([]*flavor, error) {
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
		return []*flavor{hit}, nil
	}
	smart := !c.partners[e.Partner].has(FeatureNoSmartLadder)
	var chosen []*flavor
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
	height := f.height
	if height == 0 && in.width > 0 {
		height = f.width * in.height / in.width
	}
	return (in.height > 0 || in.zeroHeight) && in.height < height ||
		in.videoKbps > 0 && float64(in.videoKbps) < float64(f.videoBitrate)*bitrateGap
}

// encode renders one flavor.
func (f *flavor) encode(entry string, in ingestFacts) templateEncode {
	out := templateEncode{Enable: true, Name: f.name, StreamName: entry + "_" + strconv.Itoa(f.id)}
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
	out.Video = templateVideo{Transcoder: "default", GPUID: "-1", FrameSize: f.frameSize(), Codec: "PassThru",
		Bitrate: max(f.videoBitrate*1000, defaultVideoBitrate*boolInt(f.videoBitrate == 0)), KeyInterval: &templateKey{true, keyInterval}}
	if f.width > 0 || f.height > 0 {
		out.Video.Codec, out.Video.Profile = "H.264", "main"
		if f.videoCodec == "h264b" || f.videoCodec == "h264" {
			out.Video.Profile = "baseline"
		}
	}
	if f.constant {
		out.Video.Parameters = &templateParameters{[]templateExtra{{"mainconcept.bit_rate_mode", "0", "Long"}}}
	}
	out.Audio = templateAudio{Codec: "AAC", Bitrate: audioRate}
	if pass && f.audioRate == 0 && f.audioChannels == 0 {
		out.Audio.Codec = "PassThru"
	}
	return out
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

package profile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/transcode"
)

const templateEntry = "1_pk3x7q0a"

func read(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return text
}

func TestParseTemplateOfToday(t *testing.T) {
	l, err := ParseTemplate(read(t, "today.xml"), templateEntry)
	require.NoError(t, err)
	coded := transcode.VideoOut{Codec: media.H264, Profile: "main", KeyFrames: 60}
	small, hd := coded, coded
	small.Fit, small.Width, small.Bitrate = transcode.FitWidth, 640, 900_000
	hd.Fit, hd.Height, hd.Bitrate, hd.Constant = transcode.FitHeight, 720, 1_700_000, true
	require.Equal(t, transcode.Ladder{
		{ID: "32", Name: "Source", Video: &transcode.VideoOut{Copy: true}, Audio: &transcode.AudioOut{Copy: true}},
		{ID: "35", Name: "SD_Small_900", Video: &small, Audio: &transcode.AudioOut{Codec: media.AAC, Bitrate: 64_000}},
		{ID: "42", Name: "HD/720 - WEB/MBL (H264/1700)", Video: &hd, Audio: &transcode.AudioOut{Codec: media.AAC, Bitrate: 128_000}},
		{ID: "100", Name: "Audio_only_English", Audio: &transcode.AudioOut{Copy: true}},
	}, l)
}

func TestParseTemplateOfOld(t *testing.T) {
	l, err := ParseTemplate(read(t, "old.xml"), templateEntry)
	require.NoError(t, err)
	require.Equal(t, transcode.Ladder{
		{ID: "32", Name: "Source", Video: &transcode.VideoOut{Copy: true}, Audio: &transcode.AudioOut{Copy: true}},
		{ID: "33", Name: "Basic_Small_400", Tags: []string{"mbr", "mobile"}, Audio: &transcode.AudioOut{Codec: media.AAC, Bitrate: 65_536},
			Video: &transcode.VideoOut{Codec: media.H264, Profile: "baseline", Bitrate: 409_600, Fit: transcode.FitBox, Width: 480, Height: 270, KeyFrames: 60, SkipFrames: 1}},
		{ID: "60", Name: "Silent", Tags: []string{"mbr"}, Video: &transcode.VideoOut{Codec: media.H264, Profile: "baseline"}},
	}, l, "the second stream of a name and what is switched off are passed over")
}

// encodes is a template of the Encode elements given.
func encodes(inner ...string) string {
	return "<Root><Transcode><Encodes><Encode>" + strings.Join(inner, "</Encode><Encode>") + "</Encode></Encodes></Transcode></Root>"
}

const named = "<StreamName>" + templateEntry + "_7</StreamName>"

func TestParseTemplateIsLenient(t *testing.T) {
	copied := transcode.Rung{ID: "7", Name: "7", Video: &transcode.VideoOut{Copy: true}, Audio: &transcode.AudioOut{Copy: true}}
	for name, text := range map[string]string{
		"no codecs":       encodes(named),
		"any case":        strings.ReplaceAll(strings.ReplaceAll(encodes(named), "Encode", "encode"), "Root", "ROOT"),
		"spaces":          encodes("<StreamName>\n\t" + templateEntry + "_7\n</StreamName><Video><Codec> passthru </Codec></Video>"),
		"a byte order":    "\ufeff" + encodes(named),
		"CDATA":           encodes("<StreamName><![CDATA[" + templateEntry + "_7]]></StreamName>"),
		"another charset": `<?xml version="1.0" encoding="windows-1252"?>` + encodes(named),
		"a namespace":     strings.NewReplacer("<Root>", `<k:Root xmlns:k="urn:x">`, "</Root>", "</k:Root>").Replace(encodes(named)),
		"an entity":       encodes(named + "<Other>&nbsp;&unknown;</Other>"),
		"attributes":      strings.Replace(encodes(named), "<Encode>", "<Encode id=x checked>", 1),
	} {
		l, err := ParseTemplate([]byte(text), templateEntry)
		require.NoError(t, err, name)
		require.Equal(t, transcode.Ladder{copied}, l, name)
	}
	for codec, want := range map[string]media.Codec{"HEVC": media.HEVC, "H.265": media.HEVC, "VP8": media.VP8, "VP9": media.VP9, "AV1": media.AV1} {
		l, err := ParseTemplate([]byte(encodes(named+"<Video><Codec>"+codec+"</Codec><FrameSize><Width>640</Width></FrameSize></Video>")), templateEntry)
		require.NoError(t, err)
		require.Equal(t, want, l[0].Video.Codec)
	}
	for codec, want := range map[string]media.Codec{"aac": media.AAC, "AAC-HE": media.AAC, "Opus": media.Opus, "MP3": media.MP3} {
		l, err := ParseTemplate([]byte(encodes(named+"<Audio><Codec>"+codec+"</Codec></Audio>")), templateEntry)
		require.NoError(t, err)
		require.Equal(t, want, l[0].Audio.Codec)
	}
}

func TestParseTemplateFitModes(t *testing.T) {
	for size, want := range map[string]transcode.VideoOut{
		"":                                {},
		"<FitMode>match-source</FitMode>": {},
		"<FitMode>match-source</FitMode><Width>640</Width>":                   {},
		"<FitMode>fit-height</FitMode><Width>640</Width><Height>360</Height>": {Fit: transcode.FitHeight, Height: 360},
		"<FitMode>fit-height</FitMode>":                                       {},
		"<FitMode>fit-width</FitMode><Width>640</Width><Height>360</Height>":  {Fit: transcode.FitWidth, Width: 640},
		"<FitMode>stretch</FitMode><Width>640</Width><Height>360</Height>":    {Fit: transcode.FitBox, Width: 640, Height: 360},
		"<FitMode>crop</FitMode><Height>360</Height>":                         {Fit: transcode.FitHeight, Height: 360},
		"<FitMode>crop</FitMode><Width>640</Width>":                           {Fit: transcode.FitWidth, Width: 640},
		"<FitMode>fit-width</FitMode><Width>-640</Width>":                     {},
		"<FitMode>fit-width</FitMode><Width>999999</Width>":                   {},
	} {
		l, err := ParseTemplate([]byte(encodes(named+"<Video><Codec>H.264</Codec><FrameSize>"+size+"</FrameSize></Video>")), templateEntry)
		require.NoError(t, err)
		want.Codec = media.H264
		require.Equal(t, &want, l[0].Video, size)
	}
}

// refusedTemplates are documents that are no ladder, with a word of why.
var refusedTemplates = map[string]string{
	"":                         "empty",
	"   ":                      "empty",
	"no XML at all":            "empty",
	"<Root><Transcode>":        "no XML", // cut off
	"<Root/>":                  "no rendition",
	encodes():                  "looks like " + templateEntry,
	"<Ladder/>":                `root is "Ladder"`,
	"<html><body><h1>502<br>":  "HTML",
	"<!DOCTYPE html>\n<HTML>x": "HTML",
	"<xml><result><error><code>INVALID_KS</code><message>m</message></error></result></xml>": "INVALID_KS",
	"<xml><result>1</result></xml>":                                                           "document of the API",
	encodes("<StreamName>1_someother_7</StreamName>"):                                         "1_someother_7",
	encodes("<StreamName>" + templateEntry + "_a/../b</StreamName>"):                          "looks like",
	encodes("<StreamName>" + templateEntry + "_" + strings.Repeat("7", 65) + "</StreamName>"): "looks like",
	encodes(named + "<Video><Codec>Sorenson</Codec></Video>"):                                 "Sorenson",
	encodes(named + "<Audio><Codec>Speex</Codec></Audio>"):                                    "Speex",
	encodes("<Enable>false</Enable>" + named):                                                 "no rendition",
	strings.Repeat("<Root>", 40):                                                              "nests deeper",
	"<Root>" + strings.Repeat("<a/>", maxElements) + "</Root>":                                "20000 elements",
	"<Root>" + strings.Repeat(" ", maxTemplate) + "</Root>":                                   "longer than",
	`<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><Root>&b;</Root>`:                   "no rendition",
}

func TestParseTemplateRefuses(t *testing.T) {
	for text, why := range refusedTemplates {
		_, err := ParseTemplate([]byte(text), templateEntry)
		require.ErrorContains(t, err, why, "%.200s", text)
		require.ErrorContains(t, err, "transcoding template")
		require.Less(t, len(err.Error()), 400)
	}
	var many []string
	for i := range maxRungs + 1 {
		many = append(many, "<StreamName>"+templateEntry+"_"+strings.Repeat("x", 1+i/100)+string(rune('a'+i%10))+string(rune('a'+i/10%10))+"</StreamName>")
	}
	_, err := ParseTemplate([]byte(encodes(many...)), templateEntry)
	require.ErrorContains(t, err, "more than 500")
}

func FuzzParseTemplate(f *testing.F) {
	f.Add(read(f, "today.xml"))
	f.Add(read(f, "old.xml"))
	for text := range refusedTemplates {
		if len(text) < 1000 {
			f.Add([]byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := ParseTemplate(text, templateEntry)
		if err != nil {
			require.Empty(t, l)
			return
		}
		require.NotEmpty(t, l)
		seen := make(map[string]bool)
		for _, r := range l {
			require.True(t, isRendition(r.ID))
			require.False(t, seen[r.ID])
			seen[r.ID] = true
			require.NotContains(t, r.Tags, groupAll)
			if v := r.Video; v != nil {
				require.False(t, v.Copy && *v != transcode.VideoOut{Copy: true}, "a copy asks for nothing else")
				require.True(t, v.Copy || v.Codec.Kind() == media.Video)
				require.True(t, v.Width >= 0 && v.Height >= 0 && v.Bitrate >= 0 && v.SkipFrames >= 0 && v.KeyFrames >= 0)
				require.Equal(t, v.Fit == transcode.FitSource, v.Width == 0 && v.Height == 0)
			}
			if a := r.Audio; a != nil {
				require.True(t, a.Copy || a.Codec.Kind() == media.Audio)
			}
		}
	})
}

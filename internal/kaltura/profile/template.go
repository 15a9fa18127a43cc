package profile

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/transcode"
)

// Bounds of a transcoding template. A backend's largest are some tens of KiB.
const (
	maxTemplate = 1 << 20 // bytes
	maxElements = 20_000
	maxDepth    = 32
	maxRungs    = maxFlavors
	maxGroups   = 200
	maxID       = 64 // bytes of a rendition's name
)

// sourceName stands in a template for the name of the stream it is asked for.
const sourceName = "${SourceStreamName}"

// groupAll is the group that every rendition is in.
const groupAll = "all"

// ParseTemplate reads the transcoding template that the backend writes for an
// ingest stream of an entry: the ladder is what its Encode elements ask for.
// What it does not know it passes over; names of elements may have any case.
//
// A rendition's id is what follows "<entry>_" in the name of its stream. Its
// tags are the groups it is in, but for the group of all. No rung is marked as
// the ingest: the template does not say which is.
//
// Errors are about the whole document: it is none, it is an error document of
// the API or a page of HTML, it passes a bound, or it asks for nothing.
func ParseTemplate(text []byte, entry string) (transcode.Ladder, error) {
	root, err := readElements(text)
	if err != nil {
		return nil, fmt.Errorf("read the transcoding template: %w", err)
	}
	if err := root.mustBeRoot(); err != nil {
		return nil, fmt.Errorf("read the transcoding template: %w", err)
	}
	var ladder transcode.Ladder
	for _, e := range root.at("Transcode", "Encodes").all("Encode") {
		if strings.EqualFold(e.text("Enable"), "false") {
			continue
		}
		r, err := e.rung(entry)
		if err != nil {
			return nil, fmt.Errorf("read the transcoding template: %w", err)
		}
		if slices.ContainsFunc(ladder, func(o transcode.Rung) bool { return o.ID == r.ID }) {
			continue // one name can stand for one rendition only
		}
		if len(ladder) == maxRungs {
			return nil, fmt.Errorf("read the transcoding template: it asks for more than %d renditions", maxRungs)
		}
		ladder = append(ladder, r)
	}
	if len(ladder) == 0 {
		return nil, errors.New("read the transcoding template: it asks for no rendition")
	}
	root.tag(ladder)
	return ladder, nil
}

// mustBeRoot says what the document is when it is no template.
func (e *element) mustBeRoot() error {
	switch name := strings.ToLower(e.name); name {
	case "root":
		return nil
	case "html":
		return errors.New("it is a page of HTML")
	case "xml":
		if code := e.at("result", "error").text("code"); code != "" {
			return fmt.Errorf("it is an error of the API: %.100s", code)
		}
		return errors.New("it is a document of the API, not a template")
	default:
		return fmt.Errorf("its root is %.40q instead of Root", e.name)
	}
}

// rung reads one Encode.
func (e *element) rung(entry string) (transcode.Rung, error) {
	stream := strings.ReplaceAll(e.text("StreamName"), sourceName, entry)
	stream = strings.TrimPrefix(stream, "mp4:")
	id, ok := strings.CutPrefix(stream, entry+"_")
	if !ok || !isRendition(id) {
		return transcode.Rung{}, fmt.Errorf("a rendition's stream is called %.100q, but looks like %s_ID", stream, entry)
	}
	r := transcode.Rung{ID: id, Name: e.text("Name")}
	if r.Name == "" {
		r.Name = id
	}
	var err error
	if r.Video, err = e.at("Video").picture(); err == nil {
		r.Audio, err = e.at("Audio").sound()
	}
	if err != nil {
		return transcode.Rung{}, fmt.Errorf("rendition %s: %w", id, err)
	}
	return r, nil
}

// isRendition reports whether a name may stand in addresses.
func isRendition(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// The codecs of templates that are no codecs.
const (
	passThrough = "passthru"
	disabled    = "disable"
)

// plain is a codec's name without case and points.
func plain(codec string) string {
	return strings.NewReplacer(".", "", "-", "").Replace(strings.ToLower(codec))
}

// picture reads the Video of an Encode.
func (e *element) picture() (*transcode.VideoOut, error) {
	var out transcode.VideoOut
	switch codec := plain(e.text("Codec")); codec {
	case disabled:
		return nil, nil //nolint:nilnil // no picture is an answer
	case passThrough, "":
		return &transcode.VideoOut{Copy: true}, nil
	case "h264":
		out.Codec, out.Profile = media.H264, strings.ToLower(e.text("Profile"))
	case "h263": // nothing plays it any more
		out.Codec, out.Profile = media.H264, "baseline"
	case "h265", "hevc":
		out.Codec = media.HEVC
	case "vp8":
		out.Codec = media.VP8
	case "vp9":
		out.Codec = media.VP9
	case "av1":
		out.Codec = media.AV1
	default:
		return nil, fmt.Errorf("the picture's codec %.40q is not known", e.text("Codec"))
	}
	out.Bitrate = e.number("Bitrate", maxKbps*1000)
	out.KeyFrames = e.at("KeyFrameInterval").number("Interval", maxKeyFrames)
	out.SkipFrames = e.at("SkipFrameCount").number("Value", maxSkip)
	for _, p := range e.at("Parameters").all("Parameter") {
		if p.text("Name") == "mainconcept.bit_rate_mode" && p.text("Value") == "0" {
			out.Constant = true
		}
	}
	size := e.at("FrameSize")
	width, height := size.number("Width", maxPixels), size.number("Height", maxPixels)
	switch mode := strings.ToLower(size.text("FitMode")); {
	case mode == "fit-height" && height > 0:
		out.Fit, out.Height = transcode.FitHeight, height
	case mode == "fit-width" && width > 0:
		out.Fit, out.Width = transcode.FitWidth, width
	case mode == "match-source" || mode == "" || width == 0 && height == 0:
	case width > 0 && height > 0:
		out.Fit, out.Width, out.Height = transcode.FitBox, width, height
	case height > 0:
		out.Fit, out.Height = transcode.FitHeight, height
	default:
		out.Fit, out.Width = transcode.FitWidth, width
	}
	return &out, nil
}

// maxKeyFrames bounds the frames between key frames.
const maxKeyFrames = 100_000

// sound reads the Audio of an Encode.
func (e *element) sound() (*transcode.AudioOut, error) {
	var out transcode.AudioOut
	switch codec := plain(e.text("Codec")); codec {
	case disabled:
		return nil, nil //nolint:nilnil // no sound is an answer
	case passThrough, "":
		return &transcode.AudioOut{Copy: true}, nil
	case "aac", "aache", "heaac":
		out.Codec = media.AAC
	case "opus":
		out.Codec = media.Opus
	case "mp3":
		out.Codec = media.MP3
	default:
		return nil, fmt.Errorf("the sound's codec %.40q is not known", e.text("Codec"))
	}
	out.Bitrate = e.number("Bitrate", maxKbps*1000)
	return &out, nil
}

// tag gives the rungs the names of the groups they are in.
func (e *element) tag(ladder transcode.Ladder) {
	groups := e.at("Transcode", "StreamNameGroups").all("StreamNameGroup")
	for _, g := range groups[:min(len(groups), maxGroups)] {
		name := g.text("Name")
		if name == "" || name == groupAll || len(name) > maxText {
			continue
		}
		members := make(map[string]bool)
		for _, m := range g.at("Members").all("Member") {
			members[m.text("EncodeName")] = true
		}
		for i := range ladder {
			if members[ladder[i].Name] && !slices.Contains(ladder[i].Tags, name) {
				ladder[i].Tags = append(ladder[i].Tags, name)
			}
		}
	}
}

// element is an element of a document: its text, and the elements in it. The
// methods of a nil element are those of one that is empty.
type element struct {
	name  string
	chars []byte
	in    []*element
}

// at is the first element on the path below e, or nil.
func (e *element) at(path ...string) *element {
	for _, name := range path {
		if list := e.all(name); len(list) > 0 {
			e = list[0]
		} else {
			return nil
		}
	}
	return e
}

// all are the elements in e that are called name.
func (e *element) all(name string) []*element {
	var out []*element
	if e != nil {
		for _, in := range e.in {
			if strings.EqualFold(in.name, name) {
				out = append(out, in)
			}
		}
	}
	return out
}

// text is that of the element called name in e.
func (e *element) text(name string) string {
	if in := e.at(name); in != nil {
		return strings.TrimSpace(string(in.chars))
	}
	return ""
}

// number is the text as a whole number from 0 to most; 0 when it is none.
func (e *element) number(name string, most int) int {
	n, err := strconv.Atoi(e.text(name))
	if err != nil || n < 0 || n > most {
		return 0
	}
	return n
}

// readElements reads a document within the bounds. It is lenient as far as
// encoding/xml can be: of HTML it reads enough to know that it is.
func readElements(text []byte) (*element, error) {
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("it is longer than %d bytes", maxTemplate)
	}
	d := xml.NewDecoder(bytes.NewReader(text))
	d.Strict = false
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil } // names and numbers are ASCII
	var open []*element
	for count := 0; ; {
		token, err := d.Token()
		switch {
		case errors.Is(err, io.EOF):
			return nil, errors.New("it is empty or ends early")
		case err != nil:
			return nil, fmt.Errorf("it is no XML: %w", err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			if count++; count > maxElements || len(open) == maxDepth {
				return nil, fmt.Errorf("it has more than %d elements or nests deeper than %d", maxElements, maxDepth)
			}
			e := &element{name: t.Name.Local}
			if len(open) == 0 && strings.EqualFold(e.name, "html") {
				return e, nil
			}
			if len(open) > 0 {
				parent := open[len(open)-1]
				parent.in = append(parent.in, e)
			}
			open = append(open, e)
		case xml.CharData:
			if len(open) > 0 {
				e := open[len(open)-1]
				e.chars = append(e.chars, t...)
			}
		case xml.EndElement:
			e := open[len(open)-1] // the decoder lets none end that did not begin
			if open = open[:len(open)-1]; len(open) == 0 {
				return e, nil
			}
		}
	}
}

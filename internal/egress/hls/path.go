package hls

import (
	"strings"

	"github.com/klive-media/klive/internal/media"
)

// class says what an address names; it is also the class a request is counted
// under.
type class uint8

const (
	classNone         class = iota
	classMultivariant       // index.m3u8, playlist.m3u8
	classMedia              // a row's playlist
	classChunklist          // a playlist of segments with picture and sound in one
	classInit               // an init section
	classSegment            // a closed segment
	classPart               // a part
	classPage               // the player page
	classAsset              // what the player page loads
	classRedirect           // the player page without its last slash
	classCount
)

// String is the word metrics use for the class.
func (c class) String() string {
	return [classCount]string{"none", "multivariant", "media_playlist", "chunklist", "init", "segment", "part",
		"page", "asset", "redirect"}[c]
}

const (
	// maxPath bounds the path of a request in bytes; longer ones name nothing.
	maxPath = 1024
	// assets is the folder of the player's files. No stream id begins with "-".
	assets = "-"
	// whole is the part number of a whole segment.
	whole = -1
)

// address is what a path names. Strings are parts of the path.
type address struct {
	class  class
	stream string // stream id; with name, still to be found
	// name is the smil:… or {id}_{flavor} of Kaltura's layout, "" elsewhere.
	name      string
	rendition string
	kind      media.Kind // UnknownKind: picture and sound in one
	server    int        // server index of the media
	run       string
	number    uint64 // of the segment
	part      int    // or whole
	init      int    // number of the init section; of the picture's or missing, in a chunklist
	initSound int    // number of the sound's init section or missing, in a chunklist
	file      string // asset
}

// parsePath reads a decoded path. Grammar, R = rendition, K = video or audio:
//
//	/live/{id}/                          player page
//	/live/-/{file}                       what the page loads
//	/live/{id}/index.m3u8                multivariant playlist
//	/live/{id}/R/K/index.m3u8            media playlist
//	/live/{id}/R/K/{i}/{run}/{n}.m4s     segment, {n}.{p}.m4s part, init{k}.mp4
//	/kLive[/_definst_]/{name}/playlist.m3u8
//	/kLive[/_definst_]/{name}/R/chunklist.m3u8
//	/kLive[/_definst_]/{name}/R/{i}/{run}/{n}.m4s  or init{v}-{a}.mp4
//
// ok is false for a path that can name nothing.
func parsePath(path string) (a address, ok bool) {
	if len(path) > maxPath {
		return a, false
	}
	if rest, found := strings.CutPrefix(path, "/live/"); found {
		return parseLive(rest)
	}
	if rest, found := strings.CutPrefix(path, "/kLive/"); found {
		rest = strings.TrimPrefix(rest, "_definst_/")
		return parseKaltura(rest)
	}
	return a, false
}

func parseLive(rest string) (a address, ok bool) {
	id, rest, slash := strings.Cut(rest, "/")
	if id == assets {
		a.class, a.file = classAsset, rest
		return a, slash && rest != ""
	}
	if !isStreamID(id) {
		return a, false
	}
	a.stream = id
	switch {
	case !slash:
		a.class = classRedirect
		return a, true
	case rest == "":
		a.class = classPage
		return a, true
	case rest == "index.m3u8":
		a.class = classMultivariant
		return a, true
	}
	var kind string
	a.rendition, rest, _ = strings.Cut(rest, "/")
	kind, rest, slash = strings.Cut(rest, "/")
	switch kind {
	case "video":
		a.kind = media.Video
	case "audio":
		a.kind = media.Audio
	default:
		return a, false
	}
	if !slash || a.rendition == "" {
		return a, false
	}
	if rest == "index.m3u8" {
		a.class = classMedia
		return a, true
	}
	return a, a.parseFile(rest)
}

func parseKaltura(rest string) (a address, ok bool) {
	var slash bool
	a.name, rest, slash = strings.Cut(rest, "/")
	if a.name == "" || a.name[0] == '_' || !slash {
		return a, false
	}
	if rest == "playlist.m3u8" {
		a.class = classMultivariant
		return a, true
	}
	a.rendition, rest, slash = strings.Cut(rest, "/")
	if !slash || a.rendition == "" {
		return a, false
	}
	if rest == "chunklist.m3u8" {
		a.class = classChunklist
		return a, true
	}
	return a, a.parseFile(rest)
}

// parseFile reads {i}/{run}/{file}.
func (a *address) parseFile(rest string) bool {
	server, rest, _ := strings.Cut(rest, "/")
	run, file, _ := strings.Cut(rest, "/")
	switch server {
	case "0":
		a.server = 0
	case "1":
		a.server = 1
	default:
		return false
	}
	if run == "" {
		return false
	}
	a.run, a.part = run, whole
	if name, ok := strings.CutSuffix(file, ".m4s"); ok {
		return a.parseMedia(name)
	}
	name, ok := strings.CutSuffix(file, ".mp4")
	if !ok {
		return false
	}
	if name, ok = strings.CutPrefix(name, "init"); !ok {
		return false
	}
	a.class = classInit
	if a.kind != media.UnknownKind {
		a.init, ok = parseSmall(name)
		return ok
	}
	picture, sound, ok := strings.Cut(name, "-")
	if !ok {
		return false
	}
	var ok1, ok2 bool
	a.init, ok1 = parseOrX(picture)
	a.initSound, ok2 = parseOrX(sound)
	return ok1 && ok2 && (a.init != missing || a.initSound != missing)
}

// parseOrX reads a number, or x for missing.
func parseOrX(s string) (int, bool) {
	if s == "x" {
		return missing, true
	}
	return parseSmall(s)
}

func (a *address) parseMedia(name string) (ok bool) {
	number, part, dotted := strings.Cut(name, ".")
	if a.number, ok = parseNumber(number); !ok {
		return false
	}
	a.class = classSegment
	if dotted {
		// Parts are low-latency only, so they stand in no chunklist.
		if a.part, ok = parseSmall(part); !ok || a.kind == media.UnknownKind {
			return false
		}
		a.class = classPart
	}
	return true
}

// isStreamID holds the id to the grammar of streams, so that it may be shown
// in an answer: [0-9A-Za-z][0-9A-Za-z_-]{0,62}.
func isStreamID(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[0] == '_' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// parseNumber reads a decimal number the only way it can be written, so that
// no two addresses name one thing.
func parseNumber(s string) (n uint64, ok bool) {
	if s == "" || len(s) > 19 || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + uint64(c)
	}
	return n, true
}

// parseSmall is parseNumber for numbers of at most nine digits.
func parseSmall(s string) (n int, ok bool) {
	if len(s) > 9 {
		return 0, false
	}
	v, ok := parseNumber(s)
	return int(v), ok
}

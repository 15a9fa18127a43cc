package record

import (
	"crypto/rand"
	"encoding/base32"
	"net/url"
	"strconv"
	"strings"
)

// What is in the folder of a recording:
//
//	recording.json                                          the sidecar
//	<stream>.<rendition>.<server index>.<number>.mp4        a finished piece
//	<stream>.<rendition>.<server index>.<number>.work       a piece that grows or waits to be finished
//	<stream>.<rendition>.<server index>.<number>.mp4.new    one that is being finished
//	….damaged                                               what could not be read, kept for a person to look at
const (
	sidecarName = "recording.json"
	extPiece    = ".mp4"
	extWork     = ".work"
	extNew      = ".mp4.new"
	extDamaged  = ".damaged"
)

// newID makes the id of a recording: 128 random bits.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// idLength is the length of a recording's id.
const idLength = 26

// validID reports whether a string can be a recording's id; it names a folder.
func validID(id string) bool {
	if len(id) != idLength {
		return false
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// escapeName makes one path element of any string; "." and ".." too.
func escapeName(s string) string {
	s = url.PathEscape(s)
	if strings.Trim(s, ".") == "" {
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return s
}

// pieceName is the name of a piece's file without its extension.
func pieceName(stream, rendition string, serverIndex, number int) string {
	return escapeName(stream) + "." + escapeName(rendition) + "." + strconv.Itoa(serverIndex) + "." + strconv.Itoa(number)
}

// parsePieceName reads what pieceName wrote; stream and server index are known.
func parsePieceName(name, stream string, serverIndex int) (rendition string, number int, ok bool) {
	rest, ok := strings.CutPrefix(name, escapeName(stream)+".")
	if !ok {
		return "", 0, false
	}
	i := strings.LastIndexByte(rest, '.')
	if i < 0 {
		return "", 0, false
	}
	number, err := strconv.Atoi(rest[i+1:])
	if err != nil || number < 1 || strconv.Itoa(number) != rest[i+1:] {
		return "", 0, false
	}
	escaped, ok := strings.CutSuffix(rest[:i], "."+strconv.Itoa(serverIndex))
	if !ok {
		return "", 0, false
	}
	rendition, err = url.PathUnescape(escaped)
	return rendition, number, err == nil && rendition != "" && escapeName(rendition) == escaped
}

// compareRenditions orders ingest indexes and flavor ids by number and
// everything else by name.
func compareRenditions(a, b string) int {
	if len(a) != len(b) && strings.Trim(a, "0123456789") == "" && strings.Trim(b, "0123456789") == "" {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

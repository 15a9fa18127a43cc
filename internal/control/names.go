package control

import (
	"regexp"
	"strings"

	"github.com/klive-media/klive/internal/fault"
)

// Resource names (AIP-122).
const (
	streamsCollection  = "streams/"
	sessionsCollection = "/sessions/"
	recordsCollection  = "/recordings/"
	nodeName           = "node"
	bridgeName         = "kalturaBridge"
	anyStream          = "-" // AIP-159: all parents
)

// resourceID is what may stand between the slashes of a resource name: wider
// than any stream's grammar, which is the catalog's business, narrow enough to
// need no escapes. `*` stands in the ids of templates.
var resourceID = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._~*-]{0,127}$`)

func streamName(stream string) string { return streamsCollection + stream }

func sessionName(stream, session string) string {
	return streamsCollection + stream + sessionsCollection + session
}

func recordingName(stream, recording string) string {
	return streamsCollection + stream + recordsCollection + recording
}

// parseStreamName reads `streams/{stream}`.
func parseStreamName(field, name string) (string, error) {
	stream, ok := strings.CutPrefix(name, streamsCollection)
	if !ok || !resourceID.MatchString(stream) {
		return "", badName(field, name, "streams/{stream}")
	}
	return stream, nil
}

// parseParent reads `streams/{stream}`; "" stands for `streams/-`.
func parseParent(name string) (string, error) {
	if name == streamsCollection+anyStream {
		return "", nil
	}
	return parseStreamName("parent", name)
}

// parseSessionName reads `streams/{stream}/sessions/{session}`; the stream may
// be `-`, as session ids are unique among all streams.
func parseSessionName(name string) (stream, session string, err error) {
	return parseChildName(name, sessionsCollection, "streams/{stream}/sessions/{session}")
}

// parseRecordingName reads `streams/{stream}/recordings/{recording}`; the
// stream may be `-`, as recording ids are unique among all streams.
func parseRecordingName(name string) (stream, recording string, err error) {
	return parseChildName(name, recordsCollection, "streams/{stream}/recordings/{recording}")
}

// parseChildName reads the name of what belongs to a stream; the stream may be
// `-`.
func parseChildName(name, collection, pattern string) (stream, child string, err error) {
	rest, ok := strings.CutPrefix(name, streamsCollection)
	stream, child, cut := strings.Cut(rest, collection)
	if !ok || !cut || stream != anyStream && !resourceID.MatchString(stream) || !resourceID.MatchString(child) {
		return "", "", badName("name", name, pattern)
	}
	return stream, child, nil
}

// checkSingleton accepts the name of a resource of which there is one (AIP-156),
// and the empty name.
func checkSingleton(name, want string) error {
	if name != "" && name != want {
		return badName("name", name, want)
	}
	return nil
}

func badName(field, name, pattern string) error {
	return fault.New(fault.InvalidField, "%s is %q; it must look like %s", field, shorten(name), pattern).With("field", field)
}

// shorten keeps what a caller sent from filling a message or a log line.
func shorten(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

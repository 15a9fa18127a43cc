package hls

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/klive-media/klive/internal/fault"
)

// Header values are shared by all responses and never written; a slice costs
// an allocation per header otherwise.
var (
	typePlaylist = []string{"application/vnd.apple.mpegurl"}
	typeVideo    = []string{"video/mp4"}
	typeAudio    = []string{"audio/mp4"}
	typeText     = []string{"text/plain; charset=utf-8"}
	encodingGzip = []string{"gzip"}
	varyEncoding = []string{"Accept-Encoding"}
	rangesBytes  = []string{"bytes"}
	nosniff      = []string{"nosniff"}
	retrySoon    = []string{"1"}

	// How long caches may keep what (RFC 8216bis appendix B.1): a playlist that
	// was waited for names its parts in the request, so it may be kept for six
	// target durations; one that was not, for less than half of one. Media never
	// changes under its address.
	cacheForever = []string{"public, max-age=31536000, immutable"}
	cacheSecond  = []string{"public, max-age=1"}
	cacheNever   = []string{"no-store"}
	// What is sent of a restricted stream.
	cachePrivate = []string{"private, no-store"}
)

// refusal is an answer that is not what was asked for. sentence is for the
// person at the other end.
type refusal struct {
	status   int
	sentence string
}

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status: status, sentence: fmt.Sprintf(format, args...)}
}

// Refusals without a stream in them.
func refuseAddress() *refusal {
	return refuse(http.StatusNotFound, "Nothing is at this address; a stream is at /live/{id}/index.m3u8 and its player page at /live/{id}/.")
}

func refuseStream(id string) *refusal {
	return refuse(http.StatusNotFound, "The stream %q has nothing to play now; try again when it is on air.", id)
}

// refuseFault turns an error from below into a refusal.
func refuseFault(err error) *refusal {
	f := fault.From(err)
	status := http.StatusInternalServerError
	switch f.Code {
	case fault.InvalidArgument:
		status = http.StatusBadRequest
	case fault.NotFound, fault.FailedPrecondition:
		status = http.StatusNotFound
	case fault.PermissionDenied:
		status = http.StatusForbidden
	case fault.Unauthenticated:
		status = http.StatusUnauthorized
	case fault.ResourceExhausted, fault.Unavailable, fault.DeadlineExceeded, fault.Aborted:
		status = http.StatusServiceUnavailable
	}
	return &refusal{status: status, sentence: f.Message}
}

// write sends the refusal.
func (f *refusal) write(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Content-Type"] = typeText
	h["X-Content-Type-Options"] = nosniff
	cache := cacheNever
	body := f.sentence + "\n"
	switch f.status {
	case http.StatusNotFound, http.StatusGone:
		// Short, so that a stream that comes on air is seen at once, but not
		// nothing: a thousand players that wait ask through one cache.
		cache = cacheSecond
	case http.StatusServiceUnavailable:
		h["Retry-After"] = retrySoon
	case http.StatusUnauthorized:
		h["Www-Authenticate"] = []string{"Bearer"}
	case http.StatusMethodNotAllowed:
		h["Allow"] = []string{"GET, HEAD"}
	}
	cacheAs(h, cache)
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(f.status)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, body)
	}
}

// cacheAs says how long caches may keep the answer, unless it is one that no
// shared cache may keep.
func cacheAs(head http.Header, how []string) {
	if head["Cache-Control"] == nil {
		head["Cache-Control"] = how
	}
}

// acceptsGzip reads Accept-Encoding (RFC 9110 §12.5.3): gzip or * with a
// quality above 0.
func acceptsGzip(h http.Header) bool {
	for _, v := range h["Accept-Encoding"] {
		for v != "" {
			var coding string
			coding, v, _ = strings.Cut(v, ",")
			coding, params, _ := strings.Cut(coding, ";")
			coding = strings.TrimSpace(coding)
			if !strings.EqualFold(coding, "gzip") && coding != "*" {
				continue
			}
			_, q, found := strings.Cut(params, "=")
			q = strings.TrimSpace(q)
			return !found || strings.Trim(q, "0.") != ""
		}
	}
	return false
}

// varyByEncoding adds to Vary, which may name the origin already.
func varyByEncoding(head http.Header) {
	if other := head["Vary"]; other != nil {
		head["Vary"] = append(other[:len(other):len(other)], varyEncoding...)
		return
	}
	head["Vary"] = varyEncoding
}

// writeText sends a playlist, compressed when the viewer takes that.
func (h *Handler) writeText(w http.ResponseWriter, r *http.Request, t *text, cache []string) {
	head := w.Header()
	head["Content-Type"] = typePlaylist
	cacheAs(head, cache)
	varyByEncoding(head)
	body, length := t.body, t.length
	if acceptsGzip(r.Header) {
		body, length = t.compressed(&h.stats)
		head["Content-Encoding"] = encodingGzip
	}
	head["Content-Length"] = length
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		n, _ := w.Write(body)
		h.stats.bytes.Add(uint64(n))
	}
}

// cacheSixTargets is the Cache-Control of a playlist that was waited for.
func cacheSixTargets(target time.Duration) []string {
	return cacheTable[min(wholeSeconds(target), uint64(len(cacheTable)-1))]
}

// cacheTable holds Cache-Control for six times the index in seconds.
var cacheTable = func() (table [31][]string) {
	for i := range table {
		table[i] = []string{"public, max-age=" + strconv.Itoa(skipBeyond*i)}
	}
	return table
}()

// sentence begins an error's text with a capital, unless it begins with the
// name of a parameter.
func sentence(err error) string {
	s := err.Error()
	if s[0] >= 'a' && s[0] <= 'z' {
		return string(s[0]-'a'+'A') + s[1:]
	}
	return s
}

package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// minWindowSegments is how many segments a live playlist must be able to hold: a playlist is never
// shorter than three target durations (RFC 8216, section 6.2.2).
const minWindowSegments = 3

// maxToken bounds a token; a longer one would not survive the addresses encoders are given.
const maxToken = 256

var (
	streamID      = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_-]{0,62}$`)
	templateID    = regexp.MustCompile(`^([0-9A-Za-z][0-9A-Za-z_-]{0,61})?\*$`)
	ingestIndex   = regexp.MustCompile(`_[0-9]{1,4}$`)
	tokenName     = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._@-]{0,62}$`)
	visibleASCII  = regexp.MustCompile(`^[!-~]+$`)
	printableText = regexp.MustCompile(`^[\pL\pM\pN\pP\pS ]+$`)
)

// ValidateStreamID checks the id of a stream in catalog mode and says in one sentence what is wrong.
func ValidateStreamID(id string) error {
	switch {
	case !streamID.MatchString(id):
		return fmt.Errorf("stream id %s must begin with a letter or digit and hold only letters, digits, _ and -, at most 63", quoted(id))
	case ingestIndex.MatchString(id):
		return fmt.Errorf("stream id %s ends in _ and 1 to 4 digits, which is how a stream name gives its ingest index; choose another ending", quoted(id))
	}
	return nil
}

// Validate checks every rule of the configuration and returns all that are broken as Problems, or nil.
func (c Config) Validate() error {
	if p := validate(c, newDecoder()); len(p) > 0 {
		return p
	}
	return nil
}

// checker collects broken rules and adds where each value came from.
type checker struct {
	origins  map[string]origin
	reported map[string]bool // paths the decoder already complained about
	problems Problems
}

func validate(c Config, d *decoder) Problems {
	v := &checker{origins: d.origins, reported: make(map[string]bool)}
	for _, p := range d.problems {
		v.reported[p.Path] = true
	}
	v.bounds(reflect.ValueOf(c), "")
	v.listeners(c)
	v.srt(c.SRT)
	v.certificates(c)
	v.controlAccess(c)
	v.tokens(c.Auth.Tokens)
	v.streams(c.Streams)
	v.kaltura(c)
	v.corsOrigins(c.MediaHTTP.CORSOrigins)
	v.durations(c)
	return v.problems
}

// fail records a broken rule of the value at path, unless the decoder had something to say about it.
func (v *checker) fail(path, format string, args ...any) {
	entry := entryOf(path)
	if v.reported[path] || entry != "" && v.reported[entry] {
		return
	}
	o, ok := v.origins[path]
	if !ok && entry != "" { // a key that is missing has no line; the list entry it is missing from has one
		o = v.origins[entry]
	}
	v.problems = append(v.problems, Problem{Source: o.source, Line: o.line, Path: path, Message: fmt.Sprintf(format, args...)})
}

// entryOf returns the list entry a path leads through: streams[1] for streams[1].id; empty when there is none.
func entryOf(path string) string {
	return path[:strings.LastIndexByte(path, ']')+1]
}

// bounds holds every value to the min, max and enum of its tags.
func (v *checker) bounds(s reflect.Value, prefix string) {
	for _, field := range reflect.VisibleFields(s.Type()) {
		path, value := prefix+field.Tag.Get("key"), s.FieldByIndex(field.Index)
		switch value.Kind() {
		case reflect.Struct:
			v.bounds(value, path+".")
		case reflect.Slice:
			for i := range value.Len() {
				if value.Type().Elem().Kind() == reflect.Struct {
					v.bounds(value.Index(i), path+"["+strconv.Itoa(i)+"].")
				}
			}
		case reflect.String:
			if err := checkEnum(value.String(), field); err != nil {
				v.fail(path, "%v, not %s", err, quoted(value.String()))
			}
		case reflect.Int, reflect.Int64:
			low, high := bound(value.Type(), field.Tag.Get("min")), bound(value.Type(), field.Tag.Get("max"))
			if n := value.Int(); field.Tag.Get("min") != "" && (n < low || n > high) {
				v.fail(path, "must be between %s and %s, not %s", field.Tag.Get("min"), field.Tag.Get("max"), inline(value))
			}
		}
	}
}

// bound reads a min or max tag as the type of its field. The tags are constants held by a test.
func bound(t reflect.Type, text string) int64 {
	switch t {
	case reflect.TypeFor[time.Duration]():
		d, _ := parseDuration(text)
		return int64(d)
	case reflect.TypeFor[Size]():
		s, _ := parseSize(text)
		return int64(s)
	}
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

func (v *checker) listeners(c Config) {
	if c.DataDir == "" {
		v.fail("data_dir", "is empty; name a directory, such as ./data")
	}
	seen := make(map[string]string)
	for _, l := range []struct{ path, address string }{
		{"rtmp.listen", c.RTMP.Listen},
		{"rtmp.tls.listen", c.RTMP.TLS.Listen},
		{"media_http.listen", c.MediaHTTP.Listen},
		{"control.grpc_listen", c.Control.GRPCListen},
		{"control.http_listen", c.Control.HTTPListen},
	} {
		if port, ok := v.address(l.path, l.address); !ok || port == 0 {
			continue
		}
		if other, taken := seen[l.address]; taken {
			v.fail(l.path, "is the same address as %s; give each listener its own", other)
		}
		seen[l.address] = l.path
	}
}

// address checks the address of a listener and gives its port.
func (v *checker) address(path, text string) (port uint64, ok bool) {
	_, digits, err := net.SplitHostPort(text)
	port, portErr := strconv.ParseUint(digits, 10, 16)
	if err != nil || portErr != nil {
		v.fail(path, "must be an address with a port, such as \":8080\" or \"127.0.0.1:8080\", not %s", quoted(text))
		return 0, false
	}
	return port, true
}

func (v *checker) certificates(c Config) {
	pair := func(section, cert, key string) {
		switch {
		case cert != "" && key == "":
			v.fail(section+".cert", "has no key; set %s.key to the certificate's private key", section)
		case cert == "" && key != "":
			v.fail(section+".key", "has no certificate; set %s.cert", section)
		}
	}
	pair("rtmp.tls", c.RTMP.TLS.Cert, c.RTMP.TLS.Key)
	pair("media_http.tls", c.MediaHTTP.TLS.Cert, c.MediaHTTP.TLS.Key)
	pair("control.tls", c.Control.TLS.Cert, c.Control.TLS.Key)
	if c.Control.TLS.ClientCA != "" && c.Control.TLS.Cert == "" {
		v.fail("control.tls.client_ca", "needs a server certificate; set control.tls.cert and control.tls.key")
	}
}

// Authenticated reports whether callers of the control API have something to prove who they are: a token, a
// client certificate, or an admin KS of the Kaltura partner.
func (c Config) Authenticated() bool {
	return len(c.Auth.Tokens) > 0 || c.Control.TLS.ClientCA != "" || c.Kaltura.Enabled()
}

// ControlExposed reports whether a listener of the control API can be reached from other machines.
func (c Config) ControlExposed() bool {
	for _, address := range []string{c.Control.GRPCListen, c.Control.HTTPListen} {
		if host, _, err := net.SplitHostPort(address); err == nil && !isLoopback(host) {
			return true
		}
	}
	return false
}

func (v *checker) controlAccess(c Config) {
	if c.Authenticated() {
		return
	}
	for _, l := range []struct{ path, address string }{
		{"control.grpc_listen", c.Control.GRPCListen},
		{"control.http_listen", c.Control.HTTPListen},
	} {
		host, _, err := net.SplitHostPort(l.address)
		if err == nil && !isLoopback(host) {
			v.fail(l.path, "%s can be reached from other machines and no authentication is configured; "+
				"set auth.tokens (or control.tls with client_ca), or listen on 127.0.0.1", quoted(l.address))
		}
	}
}

// isLoopback reports whether a listener on host is reached only from this machine. An empty host is
// every address.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// secret checks a token without ever repeating it.
func (v *checker) secret(path string, s Secret, allowed *regexp.Regexp, words string) {
	switch text := s.Reveal(); {
	case text == "":
		v.fail(path, "is missing; set a long random token")
	case text == mask:
		v.fail(path, "is the mask that a printed configuration shows, not a token; set the token itself")
	case len(text) > maxToken:
		v.fail(path, "is longer than %d bytes", maxToken)
	case !allowed.MatchString(text):
		v.fail(path, "may hold only %s", words)
	}
}

func (v *checker) tokens(tokens []Token) {
	names, secrets := make(map[string]bool), make(map[Secret]bool)
	for i, t := range tokens {
		path := "auth.tokens[" + strconv.Itoa(i) + "]"
		switch {
		case !tokenName.MatchString(t.Name):
			v.fail(path+".name", "must begin with a letter or digit and hold only letters, digits, . _ @ and -, at most 63")
		case names[t.Name]:
			v.fail(path+".name", "%s names two tokens; give each its own name", quoted(t.Name))
		}
		v.secret(path+".token", t.Token, visibleASCII, "visible ASCII characters without spaces (it travels in an HTTP header)")
		if t.Token != "" && secrets[t.Token] {
			v.fail(path+".token", "is the same as another token's; give each caller its own")
		}
		names[t.Name], secrets[t.Token] = true, true
	}
}

func (v *checker) streams(streams []Stream) {
	seen := make(map[string]bool)
	for i, s := range streams {
		path := "streams[" + strconv.Itoa(i) + "]"
		idPath := path + ".id"
		switch {
		case s.ID == "":
			v.fail(idPath, "is missing; set one, such as lobby")
		case s.IsTemplate():
			if !templateID.MatchString(s.ID) {
				v.fail(idPath, "template %s must be letters, digits, _ and -, with one * at the end", quoted(s.ID))
			}
		case strings.Contains(s.ID, "*"):
			v.fail(idPath, "template %s must be letters, digits, _ and -, with one * at the end", quoted(s.ID))
		default:
			if err := ValidateStreamID(s.ID); err != nil {
				v.fail(idPath, "%v", err)
			}
		}
		if s.ID != "" && seen[s.ID] {
			v.fail(idPath, "stream %s is declared twice; keep one", quoted(s.ID))
		}
		seen[s.ID] = true
		v.secret(path+".token", s.Token, printableText, "printable characters")
		v.passphrase(path+".srt_passphrase", s.SRTPassphrase)
	}
}

func (v *checker) corsOrigins(origins []string) {
	for i, o := range origins {
		if o == "*" {
			if len(origins) > 1 {
				v.fail("media_http.cors_origins", "* allows every origin; remove the others or the *")
			}
			continue
		}
		u, err := url.Parse(o)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Scheme+"://"+u.Host != o {
			v.fail("media_http.cors_origins["+strconv.Itoa(i)+"]", "must be * or an origin such as https://www.example.com, without a path, not %s", quoted(o))
		}
	}
}

// durations holds the durations that bound each other.
func (v *checker) durations(c Config) {
	h, l := c.HLS, c.Limits
	if h.PartDuration > h.SegmentDuration/2 {
		v.fail("hls.part_duration", "must be at most half of hls.segment_duration (%s), not %s", formatDuration(h.SegmentDuration), formatDuration(h.PartDuration))
	}
	if h.Window < minWindowSegments*h.SegmentDuration {
		v.fail("hls.window", "must be at least %d times hls.segment_duration (%s), not %s", minWindowSegments, formatDuration(minWindowSegments*h.SegmentDuration), formatDuration(h.Window))
	}
	if l.IdleTimeout < l.TakeoverAfter {
		v.fail("limits.idle_timeout", "must not be shorter than limits.takeover_after (%s), not %s", formatDuration(l.TakeoverAfter), formatDuration(l.IdleTimeout))
	}
}

package control

import (
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/fault"
)

// The bounds of a request over HTTP.
const (
	maxRequestBody  = 1 << 20
	maxHeaderBytes  = 32 << 10
	headerTimeout   = 10 * time.Second
	bodyTimeout     = callTimeout // a deadline that passes during a call would end the call
	keepAliveIdle   = 2 * time.Minute
	jsonContentType = "application/json"
)

// guard keeps web pages that an operator happens to have open from steering
// the server. It never sends CORS headers, so no page of another origin reads
// an answer; it refuses what such a page could send without asking first; and
// where callers prove nothing it answers loopback names only, so that a name
// an attacker's DNS points at us (DNS rebinding) leads nowhere.
type guard struct {
	authenticator auth.Authenticator
	next          http.Handler
}

func (g guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-store")
	if err := g.check(r); err != nil {
		writeError(w, r, err)
		return
	}
	principal, err := g.authenticator.Authenticate(r.Context(), r.Header.Get("Authorization"), r.TLS)
	if err != nil {
		// Probes and the page of links need no credential; whatever needs one
		// asks for its role and finds this reason.
		r = r.WithContext(newDenied(r.Context(), err))
	} else {
		r = r.WithContext(auth.NewContext(r.Context(), principal))
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = http.MaxBytesReader(w, r.Body, maxRequestBody)
		// A watch lives for hours, so the server has no read timeout; a body has.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // not every writer can
	}
	g.next.ServeHTTP(w, r)
}

// check applies the rules that hold before anybody asks who calls.
func (g guard) check(r *http.Request) error {
	open := !g.authenticator.Configured()
	if open && !isLoopbackHost(r.Host) {
		return fault.New(fault.ForeignOrigin, "without auth.tokens this listener answers only to a loopback name: open it as http://localhost, or configure auth.tokens").
			With("host", shorten(r.Host))
	}
	// A bearer token is never sent by a browser on its own; a cookie-like
	// credential (loopback itself, a client certificate) is.
	_, bearer := auth.BearerToken(r.Header.Get("Authorization"))
	if open || !bearer {
		if strings.EqualFold(r.Header.Get("Sec-Fetch-Site"), "cross-site") && !isNavigation(r) {
			return fault.New(fault.ForeignOrigin, "requests from web pages of other sites are refused")
		}
		if origin := r.Header.Get("Origin"); origin != "" && !sameOrigin(origin, r) {
			return fault.New(fault.ForeignOrigin, "requests from web pages of other origins are refused").With("origin", shorten(origin))
		}
	}
	if mutates(r) && !isJSON(r.Header.Get("Content-Type")) {
		return fault.New(fault.InvalidField, "send the header Content-Type: application/json with this call").With("field", "Content-Type")
	}
	return nil
}

// isNavigation reports whether a person followed a link to the page of links:
// that shows nothing to the page they came from.
func isNavigation(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Path == "/" && r.Header.Get("Sec-Fetch-Mode") == "navigate" &&
		r.Header.Get("Sec-Fetch-Dest") == "document"
}

func mutates(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	case http.MethodDelete:
		// No form or image sends a DELETE, and a page's script may not without
		// the CORS headers we do not send; only a body must say what it is.
		return r.ContentLength != 0 || r.Header.Get("Content-Type") != ""
	}
	return true
}

func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && media == jsonContentType
}

// sameOrigin compares an Origin header with the host that was asked (RFC 6454
// section 4). "null" and anything that does not parse is foreign.
func sameOrigin(origin string, r *http.Request) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return u.Scheme == scheme && strings.EqualFold(u.Host, r.Host)
}

// isLoopbackHost reports whether a Host header names this machine from inside:
// localhost, a name below it (RFC 6761 section 6.3), or a loopback address.
func isLoopbackHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSuffix(host, "]"), "["), ".")
	if strings.EqualFold(host, "localhost") || strings.HasSuffix(strings.ToLower(host), ".localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// isLoopbackAddress reports whether a listen address is reached from this
// machine only. An empty host listens on every address.
func isLoopbackAddress(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	return err == nil && host != "" && isLoopbackHost(host)
}

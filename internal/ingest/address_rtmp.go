package ingest

import (
	"net"
	"strings"

	"github.com/klive-media/klive/internal/fault"
)

// RTMPAddress is what an RTMP peer says of where it wants to go: app and tcUrl
// of connect, name of publish. They are used as they stand on the wire.
type RTMPAddress struct{ App, TCURL, Name string }

// RTMP reads a broadcast address. Encoders put the query behind the
// application, behind the stream name or only into tcUrl, each with or without
// a "/" before the "?":
//
//   - The query of tcUrl counts only when app has none: tcUrl repeats app, and
//     some clients cut it off.
//   - Queries of app and name are taken together. Where both give the same
//     argument the values must be equal.
//   - The host form, rtmp://ENTRY.p.….HOST/APP with p for the primary and b for
//     the backup, gives e and i; then p is not required.
//
// Errors are *fault.Error with UnknownApplication, MissingArgument,
// BadStreamName or BadAddress; none holds the token. Remote, Encoder and
// Counters of the Request are left to the door.
func (g Grammar) RTMP(a RTMPAddress) (Request, error) {
	for _, part := range [...]struct{ what, text string }{
		{"application", a.App}, {"tcUrl", a.TCURL}, {"stream name", a.Name},
	} {
		if err := checkPart(part.what, part.text); err != nil {
			return Request{}, err
		}
	}
	app, appQuery := cutQuery(a.App)
	name, nameQuery := cutQuery(a.Name)
	host, tcQuery := splitTCURL(a.TCURL)
	if name == "" { // ffmpeg splits .../kLive/lobby_1/?t=… in front of the "?"
		app, name, _ = strings.Cut(app, "/")
	}
	if app != g.Application && (g.Captions == "" || app != g.Captions) {
		return Request{}, fault.New(fault.UnknownApplication,
			"this server has no application %q; use rtmp://HOST/%s", shown(app), g.Application)
	}
	if appQuery == "" {
		appQuery = tcQuery
	}
	var args arguments
	required := g.Require
	if entry, server, ok := splitHost(host); ok {
		required = []string{ArgToken}
		args.entry, args.server = entry, server
	}
	for _, query := range [...]string{appQuery, nameQuery} {
		if err := args.addQuery(query); err != nil {
			return Request{}, err
		}
	}
	if err := args.require(required, g.rtmpExample(required, name, args)); err != nil {
		return Request{}, err
	}
	r, err := g.request("rtmp", name, args)
	if err != nil {
		return Request{}, err
	}
	r.Application, r.Hostname = app, host
	return r, nil
}

// rtmpExample shows the right form with what is known put in. Without a token
// in the address the name is repeated only when it is one: it may be the
// token, typed in the wrong place.
func (g Grammar) rtmpExample(required []string, name string, a arguments) string {
	if id, _, ok := SplitName(name); !ok || !g.IsID(id) {
		name = g.rightName("", 1, a)
	}
	query := "?t=TOKEN"
	if len(required) > 1 {
		query = "/?p=PARTNER&e=ENTRY&i=0&t=TOKEN"
	}
	return "the server rtmp://HOST/" + g.Application + query + " with the stream key " + name
}

// cutQuery splits at the first "?" and takes slashes and blanks, which come
// with copying and pasting, from both ends of what stands before it.
func cutQuery(s string) (path, query string) {
	path, query, _ = strings.Cut(strings.TrimSpace(s), "?")
	return strings.Trim(path, "/ "), query
}

// splitTCURL finds host and query in scheme://[user@]host[:port]/path?query.
// Nothing else of it is believed, so it is not refused for its form.
func splitTCURL(s string) (host, query string) {
	_, rest, ok := strings.Cut(s, "://")
	if !ok {
		return "", ""
	}
	rest, query, _ = strings.Cut(rest, "?")
	host, _, _ = strings.Cut(rest, "/")
	host = host[strings.LastIndexByte(host, '@')+1:]
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.Trim(host, "[]"), query
}

// splitHost finds entry and server index in the host form. Host names have no
// underscore, so an entry in front of a "p" or "b" is no accident.
func splitHost(host string) (entry, server string, ok bool) {
	entry, rest, _ := strings.Cut(host, ".")
	role, domain, _ := strings.Cut(rest, ".")
	if !IsEntryID(entry) || domain == "" {
		return "", "", false
	}
	switch role {
	case "p":
		return entry, "0", true
	case "b":
		return entry, "1", true
	}
	return "", "", false
}

// RTMPPaste is a broadcast address in the forms that users paste. All hold the
// token.
type RTMPPaste struct {
	// Server and Key are the two fields of OBS and its like. The token stands in
	// the key, which encoders hide on the screen.
	Server, Key string
	// URL is the address in one piece, for ffmpeg and its like. A shell wants it
	// in quotes.
	URL string
}

// RTMPPaste builds the addresses that RTMP reads back as r: Stream, Index,
// ServerIndex, Partner and Token of r are used. scheme is "rtmp" or "rtmps",
// host a host name or address with a port where it is not the scheme's own.
func (g Grammar) RTMPPaste(scheme, host string, r Request) RTMPPaste {
	server := scheme + "://" + host + "/" + g.Application
	key := r.Name() + g.query(r)
	return RTMPPaste{Server: server, Key: key, URL: server + "/" + key}
}

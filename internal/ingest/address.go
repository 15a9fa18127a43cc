package ingest

import (
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/klive-media/klive/internal/fault"
)

// What an address may be at most.
const (
	// MaxAddressPart bounds each part of an address as it stands on the wire:
	// application, tcUrl, name.
	MaxAddressPart = 2 << 10
	// maxArguments bounds the arguments of one query, unknown ones included.
	maxArguments = 32
	// maxShown bounds what a message repeats of what the peer sent.
	maxShown = 64
)

// The arguments of a broadcast address, in the order in which the first
// missing one is named.
const (
	ArgEntry   = "e" // the stream id
	ArgToken   = "t" // the stream's secret
	ArgPartner = "p" // the partner, a number
	ArgServer  = "i" // the server index: 0 primary, 1 backup
)

// Grammar reads and builds broadcast addresses. Every protocol has its method;
// what the arguments mean and which must be there is the same for all. Make it
// with CatalogGrammar or KalturaGrammar.
type Grammar struct {
	// Application is the RTMP application served, such as "kLive".
	Application string
	// Captions is another name of it, which is in the addresses of streams whose
	// captions travel as onTextData; "": none.
	Captions string
	// Require lists the arguments that RTMP's query form must have; the first
	// that is missing is named.
	Require []string
	// IsID reports whether s can be a stream id.
	IsID func(s string) bool
}

// CatalogGrammar is the grammar of a server with its own catalog: only the
// token is required; the entry comes from the stream name.
func CatalogGrammar(application string) Grammar {
	return Grammar{Application: application, Require: []string{ArgToken}, IsID: IsCatalogID}
}

// KalturaGrammar is the grammar of a server behind a Kaltura backend, whose
// RTMP query form has all four arguments.
func KalturaGrammar(application string) Grammar {
	return Grammar{
		Application: application,
		Captions:    application + "OTD",
		Require:     []string{ArgEntry, ArgToken, ArgPartner, ArgServer},
		IsID:        IsEntryID,
	}
}

// IsCatalogID reports whether s has the form of a catalog's stream id:
// ^[0-9A-Za-z][0-9A-Za-z_-]{0,62}$.
func IsCatalogID(s string) bool {
	if len(s) < 1 || len(s) > 63 || !isAlphanumeric(s[0]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// IsEntryID reports whether s has the form of a Kaltura live entry's id:
// ^[01]_[0-9A-Za-z_]{8}$.
func IsEntryID(s string) bool {
	if len(s) != 10 || s[0] != '0' && s[0] != '1' || s[1] != '_' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '_' {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// arguments are the values an address gives; "" is not given.
type arguments struct{ entry, token, partner, server string }

func (a *arguments) field(key string) *string {
	switch key {
	case ArgEntry:
		return &a.entry
	case ArgToken:
		return &a.token
	case ArgPartner:
		return &a.partner
	case ArgServer:
		return &a.server
	}
	return nil
}

// set gives an argument its value. An address may say the same thing in two
// places, but not two things.
func (a *arguments) set(key, value string) error {
	f := a.field(key)
	switch {
	case f == nil || value == "" || *f == value:
		return nil
	case *f != "":
		return fault.New(fault.BadAddress,
			"the address gives %q twice with different values; give it once", key).With("argument", key)
	}
	*f = value
	return nil
}

// addQuery reads a query of key=value pairs joined by "&". Unknown keys are
// left to whoever put them there. A "+" stays one: tokens are often base64
// typed as it is, and none holds a space.
func (a *arguments) addQuery(query string) error {
	for n := 0; query != ""; n++ {
		if n == maxArguments {
			return fault.New(fault.BadAddress, "the address has more than %d arguments", maxArguments)
		}
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, raw, _ := strings.Cut(pair, "=")
		if a.field(key) == nil {
			continue
		}
		value, err := url.PathUnescape(raw)
		if err != nil { // the error repeats the value, which may be the token
			return fault.New(fault.BadAddress,
				"the value of %q in the address has a %% that is not followed by two hex digits; write %% as %%25", key).
				With("argument", key)
		}
		if !printable(value) {
			return fault.New(fault.BadAddress,
				"the value of %q in the address holds characters that cannot be printed", key).With("argument", key)
		}
		if err := a.set(key, value); err != nil {
			return err
		}
	}
	return nil
}

// argumentNames say what a missing argument is in a user's words.
var argumentNames = map[string]string{
	ArgEntry:   "entry (e)",
	ArgToken:   "token (t)",
	ArgPartner: "partner (p)",
	ArgServer:  "server index (i)",
}

// require names the first of keys that a lacks; example is the right form.
func (a *arguments) require(keys []string, example string) error {
	for _, key := range keys {
		if f := a.field(key); f == nil || *f == "" {
			return fault.New(fault.MissingArgument,
				"the %s is missing in the address; use %s", argumentNames[key], example).With("argument", key)
		}
	}
	return nil
}

// request checks that the arguments and the stream name fit and makes the
// Request of them.
func (g Grammar) request(protocol, name string, a arguments) (Request, error) {
	r := Request{Protocol: protocol, Token: a.token}
	if a.entry != "" && !g.IsID(a.entry) {
		return Request{}, fault.New(fault.BadAddress,
			"%q is not a stream id; check %q in the address", shown(a.entry), ArgEntry).With("argument", ArgEntry)
	}
	var err error
	if r.Stream, r.Index, err = g.streamName(name, a); err != nil {
		return Request{}, err
	}
	switch a.server {
	case "", "0":
	case "1":
		r.ServerIndex = 1
	default:
		return Request{}, fault.New(fault.BadAddress,
			"the server index (i) must be 0 for the primary or 1 for the backup").With("argument", ArgServer)
	}
	if a.partner != "" {
		n, err := strconv.ParseUint(a.partner, 10, 31)
		if err != nil { // the error repeats the value, which may be a token in the wrong place
			return Request{}, fault.New(fault.BadAddress,
				"the partner (p) must be a number, such as p=102").With("argument", ArgPartner)
		}
		r.Partner = int(n)
	}
	return r, nil
}

// streamName splits the stream name and holds it against the entry.
func (g Grammar) streamName(name string, a arguments) (id string, index int, err error) {
	id, index, ok := SplitName(name)
	ok = ok && g.IsID(id)
	switch {
	case ok && (a.entry == "" || a.entry == id):
		return id, index, nil
	case name == "":
		return "", 0, badName("the stream name is missing; use %s", g.rightName(name, 1, a))
	case !ok:
		return "", 0, badName(
			"the stream name must be the stream id, an underscore and a number, 1 for the source; use %s",
			g.rightName(name, 1, a))
	}
	return "", 0, fault.New(fault.BadStreamName,
		"the stream name %q does not fit the entry %q of the address; use %s", shown(name), a.entry,
		g.rightName(name, index, a)).With("use", g.rightName(name, index, a))
}

func badName(format, use string) error {
	return fault.New(fault.BadStreamName, format, use).With("use", use)
}

// rightName is the name the peer should have used, as far as it can be told.
func (g Grammar) rightName(name string, index int, a arguments) string {
	switch {
	case a.entry != "":
		return StreamName(a.entry, index)
	case g.IsID(name) && name != a.token: // a token typed where the name belongs is not repeated
		return StreamName(name, index)
	case !g.IsID(exampleID):
		return StreamName(exampleEntry, index)
	}
	return StreamName(exampleID, index)
}

const (
	exampleID    = "lobby"
	exampleEntry = "0_rkij47dr"
)

// checkPart holds what the wire gave against the limits.
func checkPart(what, s string) error {
	if len(s) > MaxAddressPart {
		return fault.New(fault.BadAddress, "the %s is longer than %d bytes", what, MaxAddressPart)
	}
	if !printable(s) {
		return fault.New(fault.BadAddress, "the %s holds characters that cannot be printed", what)
	}
	return nil
}

// printable reports whether s is UTF-8 without control characters.
func printable(s string) bool {
	for _, r := range s {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return false
		}
	}
	return true
}

// shown is s, cut so that a message stays readable.
func shown(s string) string {
	if len(s) <= maxShown {
		return s
	}
	cut := maxShown
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

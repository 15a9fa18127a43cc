// Package ks signs and verifies Kaltura session tokens ("KS"), versions 1
// and 2.
//
// A KS is a string that says who calls, until when and with which privileges,
// authenticated by the admin secret of a partner. Either side can make one
// from the secret alone; nothing is stored. Version 2 is encrypted and starts
// with "djJ8"; version 1 is readable by anybody. A backend takes both,
// whatever version its partner is set to.
//
// Session is the type to read first; Sign and Verify turn it into a token and
// back.
package ks

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
)

// MaxToken bounds the text of a token before anything is decoded. A token
// with a long list of privileges has some hundred bytes.
const MaxToken = 8 << 10

// Type says what the bearer of a token is.
type Type int

// The types a token may have. Everything from Widget up counts as an
// administrator for the backend.
const (
	User   Type = 0
	Widget Type = 1
	Admin  Type = 2
)

// Privilege is one right of a token. Value is empty for a bare name; several
// values of one name are joined with "/", because a name occurs only once.
type Privilege struct {
	Name  string
	Value string
}

// allPrivileges is written "*" in a list of privileges and all=* on the wire.
var allPrivileges = Privilege{Name: "all", Value: "*"}

// Session is what a token says.
type Session struct {
	Partner    int
	Type       Type
	Expires    time.Time // whole seconds; a token is valid while this lies in the future
	User       string
	Privileges []Privilege
	Data       string // additional data, opaque; usually empty
}

// IsAdmin reports whether the backend treats the bearer as an administrator.
func (s Session) IsAdmin() bool { return s.Type >= Widget }

// Has reports whether the session has the privilege, by itself or through "*".
func (s Session) Has(name string) bool {
	for _, p := range s.Privileges {
		if p.Name == name || p == allPrivileges {
			return true
		}
	}
	return false
}

// ParsePrivileges reads the list form "name:value,name,*". Empty elements are
// skipped.
func ParsePrivileges(list string) []Privilege {
	var out []Privilege
	for item := range strings.SplitSeq(list, ",") {
		switch name, value, _ := strings.Cut(item, ":"); {
		case item == "*":
			out = append(out, allPrivileges)
		case name != "":
			out = append(out, Privilege{Name: name, Value: value})
		}
	}
	return out
}

// FormatPrivileges is the inverse of ParsePrivileges.
func FormatPrivileges(list []Privilege) string {
	items := make([]string, 0, len(list))
	for _, p := range list {
		switch {
		case p == allPrivileges:
			items = append(items, "*")
		case p.Value == "":
			items = append(items, p.Name)
		default:
			items = append(items, p.Name+":"+p.Value)
		}
	}
	return strings.Join(items, ",")
}

// Secret is a text that no log, error or dump shows: an admin secret, or a
// token, which is as good as the secret while it lives.
type Secret string

// Reveal is the text itself, for the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

// hidden is what is seen of a secret.
const hidden = "[secret]"

// Format shows that there is a secret, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText keeps the secret out of JSON, YAML and flags.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue keeps the secret out of slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// The reasons why a token is refused. Their texts are the words the backend
// uses for them.
var (
	ErrMalformed = errors.New("INVALID_STR")     // it cannot be read, or the signature does not fit
	ErrPartner   = errors.New("INVALID_PARTNER") // no secret is known for the partner it names
	ErrExpired   = errors.New("EXPIRED")         // it was good once
)

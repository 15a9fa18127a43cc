package observe

import (
	"log/slog"
	"regexp"
	"strconv"
	"strings"
)

// mask stands wherever a secret would be shown.
const mask = "********"

// Secret is a text that formats, logs and marshals as a mask. Only Reveal gives the text.
type Secret string

var _ slog.LogValuer = Secret("")

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns the mask, or nothing when the secret is empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// GoString is what %#v prints.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// LogValue is what slog writes.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is what encoders such as encoding/json write.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// secretParameter matches the arguments of a broadcast or playback address that carry a secret, in a
// query (?t=…&token=…) or in an SRT stream id (…,token=…). SRT's p=TOKEN is told from RTMP's p=PARTNER
// by its comma or its place behind "#:::".
var secretParameter = regexp.MustCompile(`(?i)((?:^|[?&;,/\s"'])(?:t|token|access_token|ks|passphrase|ep)=|(?:,|#:::)p=)([^&;,\s"']+)`)

// bearer matches credentials of an HTTP Authorization header.
var bearer = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[^\s"',]+`)

// Redact masks the secrets of addresses and Authorization headers inside a text.
func Redact(text string) string {
	if strings.IndexByte(text, '=') >= 0 {
		text = secretParameter.ReplaceAllString(text, "${1}"+mask)
	}
	if len(text) > len("basic ") && strings.IndexByte(text, ' ') >= 0 {
		text = bearer.ReplaceAllString(text, "$1 "+mask)
	}
	return text
}

// secretNames are attribute names whose values are never logged.
var secretNames = map[string]bool{
	"token": true, "access_token": true, "password": true, "passphrase": true, "secret": true, "admin_secret": true,
	"authorization": true, "cookie": true, "ks": true, "stream_key": true,
}

// redactAttr is the last net of the log: code that logs a secret should log a Secret.
func redactAttr(_ []string, a slog.Attr) slog.Attr {
	if secretNames[strings.ToLower(a.Key)] && a.Value.Kind() != slog.KindGroup {
		return slog.String(a.Key, mask)
	}
	switch a.Value.Kind() {
	case slog.KindString:
		if s := a.Value.String(); s != "" {
			a.Value = slog.StringValue(Redact(s))
		}
	case slog.KindAny:
		if err, ok := a.Value.Any().(error); ok && err != nil {
			a.Value = slog.StringValue(Redact(err.Error()))
		}
	}
	return a
}

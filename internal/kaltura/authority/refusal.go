package authority

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/profile"
)

// saying is what a publisher is told for a code of the backend.
type saying struct {
	reason fault.Reason
	// text is the sentence; {entry}, {partner} and {host} stand for the
	// publisher's entry, " of partner N" when the address names one, and this
	// server's name.
	text string
	// quote: the backend's own sentence says more, and follows.
	quote bool
}

// sayings are the codes of the API and what they mean to a publisher.
//
//	code of the backend                               reason
//	ENTRY_ID_NOT_FOUND, INVALID_ENTRY_TYPE            STREAM_NOT_FOUND
//	LIVE_STREAM_INVALID_TOKEN, INVALID_PARAMETER_CHAR BAD_TOKEN
//	LIVE_STREAM_EXCEEDED_MAX_PASSTHRU                 QUOTA_EXCEEDED
//	LIVE_STREAM_EXCEEDED_MAX_TRANSCODED               QUOTA_EXCEEDED
//	LIVE_STREAM_EXCEEDED_MAX_CONCURRENT_BY_ADMIN_TAG  QUOTA_EXCEEDED
//	LIVE_STREAM_EXCEEDED_MAX_RTC_STREAMS              QUOTA_EXCEEDED
//	any other LIVE_STREAM_EXCEEDED_MAX_…              QUOTA_EXCEEDED
//	LIVE_STREAM_ALREADY_BROADCASTING                  ON_AIR_ELSEWHERE
//	MEDIA_SERVER_NOT_FOUND, SERVER_NODE_NOT_FOUND     NODE_NOT_REGISTERED
//	SERVICE_FORBIDDEN_CONTENT_BLOCKED                 PARTNER_BLOCKED
//	SERVICE_FORBIDDEN                                 BACKEND_REFUSED
//	SERVICE_ACCESS_CONTROL_RESTRICTED                 BACKEND_REFUSED
//	ACCESS_UNAUTHORIZED                               BACKEND_REFUSED
//	INVALID_KS, MISSING_KS, START_SESSION_ERROR       BACKEND_REFUSED
//	SERVICE_DOES_NOT_EXISTS, ACTION_DOES_NOT_EXISTS,
//	SERVICE_NOT_SPECIFIED                             BACKEND_REFUSED
//	ACTION_BLOCKED                                    BACKEND_UNAVAILABLE
//	INTERNAL_SERVERL_ERROR (the backend's spelling),
//	INTERNAL_DATABASE_ERROR, LOCK_TIMED_OUT           BACKEND_UNAVAILABLE
//	MISSING_MANDATORY_PARAMETER, INVALID_ENUM_VALUE,
//	OBJECT_TYPE_ABSTRACT, PROPERTY_VALIDATION_…       BACKEND_REFUSED
//	every other code                                  BACKEND_REFUSED
//	no answer: refused connection, timeout, an HTTP
//	status, HTML, empty, too many failures in a row   BACKEND_UNAVAILABLE
//
// The code stands in the metadata as "code"; for no answer, why, as "cause".
var sayings = map[string]saying{
	"ENTRY_ID_NOT_FOUND": {reason: fault.StreamNotFound,
		text: "the backend knows no live entry {entry}{partner}; check the entry id and the partner in the address, or copy the address again from the entry's page"},
	"INVALID_ENTRY_TYPE": {reason: fault.StreamNotFound,
		text: "entry {entry} is no live entry; copy the address again from the page of a live entry"},

	"LIVE_STREAM_INVALID_TOKEN": {reason: fault.BadToken,
		text: "the token is not the one of entry {entry}; copy the address, or the SRT passphrase, again from the entry's page"},
	"INVALID_PARAMETER_CHAR": {reason: fault.BadToken,
		text: "the token has characters that the token of entry {entry} cannot have; copy the address again from the entry's page"},

	"LIVE_STREAM_EXCEEDED_MAX_PASSTHRU": {reason: fault.QuotaExceeded,
		text: "the account has as many live streams without transcoding on air as it may; stop another one, or ask the account manager for more, then start {entry} again"},
	"LIVE_STREAM_EXCEEDED_MAX_TRANSCODED": {reason: fault.QuotaExceeded,
		text: "the account has as many transcoded live streams on air as it may; stop another one, use a pass-through profile, or ask the account manager for more, then start {entry} again"},
	"LIVE_STREAM_EXCEEDED_MAX_CONCURRENT_BY_ADMIN_TAG": {reason: fault.QuotaExceeded, quote: true,
		text: "the account has as many live streams with this admin tag on air as it may; stop another one, or ask the account manager for more, then start {entry} again"},
	"LIVE_STREAM_EXCEEDED_MAX_RTC_STREAMS": {reason: fault.QuotaExceeded,
		text: "the account has as many WebRTC live streams on air as it may; stop another one, or ask the account manager for more, then start {entry} again"},

	"LIVE_STREAM_ALREADY_BROADCASTING": {reason: fault.OnAirElsewhere, quote: true,
		text: "entry {entry} is on air at a server of another environment; stop the encoder that publishes there, or publish as backup, then start again"},

	"MEDIA_SERVER_NOT_FOUND": {reason: fault.NodeNotRegistered,
		text: "the backend does not know this server as {host}, or it is disabled there; the operator should compare kaltura.hostname with the server node in the backend and enable it"},
	"SERVER_NODE_NOT_FOUND": {reason: fault.NodeNotRegistered,
		text: "the backend does not know this server as {host}, or it is disabled there; the operator should compare kaltura.hostname with the server node in the backend and enable it"},

	"SERVICE_FORBIDDEN_CONTENT_BLOCKED": {reason: fault.PartnerBlocked,
		text: "the account of entry {entry} is blocked; ask the account manager to have it unblocked"},
	"SERVICE_FORBIDDEN": {reason: fault.BackendRefused, quote: true,
		text: "the account of entry {entry} may not stream live, or this server may not act for it; ask the account manager for the live streaming feature, and the operator for the server's permissions"},
	"SERVICE_ACCESS_CONTROL_RESTRICTED": {reason: fault.BackendRefused, quote: true,
		text: "the access control of the account refuses this server; ask the account manager to allow it for entry {entry}"},
	"ACCESS_UNAUTHORIZED": {reason: fault.BackendRefused, quote: true,
		text: "the backend does not take calls from this server's address; the operator should add it to internal_partner_access_allowed_ips in the backend"},

	client.CodeInvalidSession: {reason: fault.BackendRefused,
		text: "the backend does not accept this server's session; the operator should check kaltura.partner_id, kaltura.admin_secret and the server's clock"},
	"MISSING_KS": {reason: fault.BackendRefused,
		text: "the backend did not see this server's session; the operator should check kaltura.url and what stands between this server and the backend"},
	"START_SESSION_ERROR": {reason: fault.BackendRefused,
		text: "the backend gives this server no session; the operator should check kaltura.partner_id and kaltura.admin_secret"},

	"SERVICE_DOES_NOT_EXISTS": {reason: fault.BackendRefused, text: wrongURL},
	"ACTION_DOES_NOT_EXISTS":  {reason: fault.BackendRefused, text: wrongURL},
	"SERVICE_NOT_SPECIFIED":   {reason: fault.BackendRefused, text: wrongURL},

	"ACTION_BLOCKED": {reason: fault.BackendUnavailable,
		text: "the backend takes no more calls of this kind at the moment; the encoder should try {entry} again in a few seconds"},
	"INTERNAL_SERVERL_ERROR":  {reason: fault.BackendUnavailable, text: backendBroke},
	"INTERNAL_DATABASE_ERROR": {reason: fault.BackendUnavailable, text: backendBroke},
	"LOCK_TIMED_OUT":          {reason: fault.BackendUnavailable, text: backendBroke},
}

const (
	wrongURL      = "the backend does not know how to authenticate live streams; the operator should check kaltura.url and the backend's version"
	backendBroke  = "the backend met an error of its own; the encoder should try {entry} again in a few seconds"
	backendAway   = "the backend that decides about entry {entry} does not answer; the encoder should try again in a few seconds"
	backendOdd    = "the backend refused entry {entry} with the code {code}; ask the operator what it means"
	quotaUnnamed  = "the account has as many live streams on air as it may; stop another one, or ask the account manager for more, then start {entry} again"
	quotaPrefix   = "LIVE_STREAM_EXCEEDED_MAX_"
	maxQuote      = 200 // bytes of the backend's sentence that are passed on
	maxCode       = 64  // bytes of a code
	hiddenToken   = "[token]"
	shortestToken = 4 // a shorter one is no secret, and stands in any sentence
)

// refusal is what a publisher is told for an error of a call, in one sentence
// and without secrets. The error itself is for the log.
func (a *Authority) refusal(r ingest.Request, err error) *fault.Error {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f // the store's
	}
	if away, ok := errors.AsType[*client.Unavailable](err); ok {
		return fault.New(fault.BackendUnavailable, "%s", a.fill(backendAway, r, "")).With("cause", string(away.Cause)).Because(err)
	}
	answered, ok := errors.AsType[*client.Error](err)
	if !ok { // an answer that is none, a session that could not be made
		return fault.New(fault.BackendUnavailable, "%s", a.fill(backendAway, r, "")).Because(err)
	}
	code := word(answered.Code)
	say, ok := sayings[code]
	switch {
	case ok:
	case strings.HasPrefix(code, quotaPrefix):
		say = saying{reason: fault.QuotaExceeded, text: quotaUnnamed, quote: true}
	default:
		say = saying{reason: fault.BackendRefused, text: backendOdd, quote: true}
	}
	text := a.fill(say.text, r, code)
	if say.quote {
		if quoted := quote(answered.Message, r.Token); quoted != "" {
			text += fmt.Sprintf(" (it says: %s)", quoted)
		}
	}
	return fault.New(say.reason, "%s", text).With("code", code).Because(errors.New(clean(err.Error(), r.Token)))
}

// fill puts the publisher's facts into a sentence.
func (a *Authority) fill(text string, r ingest.Request, code string) string {
	partner := ""
	if r.Partner > 0 {
		partner = fmt.Sprintf(" of partner %d", r.Partner)
	}
	return strings.NewReplacer("{entry}", r.Stream, "{partner}", partner, "{host}", a.o.Host, "{code}", code).Replace(text)
}

// word is a code as it may be shown: codes are upper-case words, and what else
// a backend sends as one is not passed on.
func word(code string) string {
	out := strings.Map(func(c rune) rune {
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '-', c == '.':
			return c
		}
		return -1
	}, code)
	if out = out[:min(len(out), maxCode)]; out == "" {
		return "UNKNOWN"
	}
	return out
}

// quote is the backend's sentence as it may be passed on.
func quote(message, token string) string {
	message = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || c == unicode.ReplacementChar {
			return ' '
		}
		return c
	}, clean(message, token))
	message = strings.Join(strings.Fields(message), " ")
	if len(message) > maxQuote {
		message = strings.ToValidUTF8(message[:maxQuote], "") + "…"
	}
	return message
}

// clean takes the token out of a sentence: the backend may quote it.
func clean(text, token string) string {
	if len(token) < shortestToken {
		return text
	}
	return strings.NewReplacer(token, hiddenToken, url.QueryEscape(token), hiddenToken).Replace(text)
}

// inProfile refuses an ingest index that a loaded profile does not have, and
// names those that it has. A profile that names none says nothing.
func inProfile(r ingest.Request, p profile.Profile) error {
	if _, ok := p.ByIngest(r.Index); ok || p.Loaded.IsZero() {
		return nil
	}
	named := make(map[int]string)
	for _, f := range p.Flavors {
		if f.Ingest > 0 && named[f.Ingest] == "" {
			named[f.Ingest] = f.Name
		}
	}
	if len(named) == 0 {
		return nil
	}
	var list []string
	for _, n := range slices.Sorted(maps.Keys(named)) {
		one := ingest.StreamName(r.Stream, n)
		if named[n] != "" {
			one += fmt.Sprintf(" (%.60s)", named[n])
		}
		list = append(list, one)
	}
	return fault.New(fault.NotInProfile, "the conversion profile of entry %s has no ingest %d; publish as %s", r.Stream, r.Index, strings.Join(list, ", "))
}

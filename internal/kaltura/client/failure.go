package client

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/klive-media/klive/internal/kaltura/ks"
)

// The codes that the client itself acts on.
const (
	CodeInvalidSession = "INVALID_KS"
	codeInternal       = "INTERNAL_SERVERL_ERROR" // the backend's own spelling
	codeDatabase       = "INTERNAL_DATABASE_ERROR"
	codeLock           = "LOCK_TIMED_OUT"
)

// Error is what the backend answered instead of a result.
type Error struct {
	Service, Action string
	Code            string // LIVE_STREAM_INVALID_TOKEN, …
	Message         string // the backend's sentence; never holds the session
	Args            map[string]string
}

// Error names the action, the code and the backend's sentence.
func (e *Error) Error() string {
	return fmt.Sprintf("%s.%s: %s: %s", e.Service, e.Action, e.Code, e.Message)
}

// without takes the session out of the backend's sentences: it may quote it.
func (e *Error) without(token ks.Secret) *Error {
	if token == "" {
		return e
	}
	clean := *e
	clean.Message = strings.ReplaceAll(e.Message, token.Reveal(), "[session]")
	clean.Args = make(map[string]string, len(e.Args))
	for k, v := range e.Args {
		clean.Args[k] = strings.ReplaceAll(v, token.Reveal(), "[session]")
	}
	return &clean
}

// HasCode reports whether err is an answer of the backend with the code.
func HasCode(err error, code string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

// Cause is why there is no answer.
type Cause string

// The causes.
const (
	CauseNetwork    Cause = "network"    // no connection, or it broke
	CauseTimeout    Cause = "timeout"    // no answer in time
	CauseStatus     Cause = "status"     // an HTTP status other than 200
	CauseUnreadable Cause = "unreadable" // an answer that is none: HTML, empty, too long
	CauseBreaker    Cause = "breaker"    // not tried: the backend has been away
)

// Unavailable says that the backend gave no answer that can be read.
type Unavailable struct {
	Service, Action string
	Cause           Cause
	Status          int // HTTP status of CauseStatus
	// Doubt: the request was on its way, so the action may have been carried
	// out. Without doubt it was not.
	Doubt bool
	err   error
}

// Error names the action, the cause and what is known of it.
func (u *Unavailable) Error() string {
	text := fmt.Sprintf("%s.%s: no answer from the backend (%s)", u.Service, u.Action, u.Cause)
	if u.Status != 0 {
		text += fmt.Sprintf(": status %d", u.Status)
	}
	if u.err != nil {
		text += ": " + u.err.Error()
	}
	return text
}

// Unwrap is the cause below, or nil.
func (u *Unavailable) Unwrap() error { return u.err }

// passing reports whether the same call may succeed a little later.
func passing(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return slices.Contains([]string{codeInternal, codeDatabase, codeLock}, e.Code)
	}
	u, ok := errors.AsType[*Unavailable](err)
	return ok && u.Cause != CauseBreaker && (u.Cause != CauseStatus || u.Status >= 500)
}

// Package fault is the one error type a caller can act on.
//
// An Error has a Code (what class of answer a protocol should give), a Reason
// (a stable word from one table, see reasons.go), a Message (one sentence for
// the person at the other end) and Metadata (facts, never secrets). Doors turn
// it into their own protocol's refusal; the control API turns it into a gRPC
// status with google.rpc.ErrorInfo.
package fault

import (
	"errors"
	"fmt"
	"maps"
)

// Code is the class of an error. The values follow the meaning, not the
// numbers, of the canonical gRPC codes.
type Code uint8

// The classes of errors.
const (
	Unknown Code = iota
	InvalidArgument
	NotFound
	AlreadyExists
	PermissionDenied
	Unauthenticated
	ResourceExhausted
	FailedPrecondition
	Aborted
	Unavailable
	DeadlineExceeded
	Internal
)

var codeNames = [...]string{
	"unknown", "invalid argument", "not found", "already exists", "permission denied",
	"unauthenticated", "resource exhausted", "failed precondition", "aborted",
	"unavailable", "deadline exceeded", "internal",
}

// String names the code in lower-case words.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "unknown"
}

// Error is an error with a stable reason. It is immutable; With and Because
// return copies.
type Error struct {
	Code     Code
	Reason   Reason
	Message  string            // one sentence for a person; no secret
	Metadata map[string]string // facts for a program; no secret
	cause    error
}

// New makes an Error with the code that the table of reasons gives for r.
// The message is formatted as by fmt.Sprintf.
func New(r Reason, format string, args ...any) *Error {
	return &Error{Code: r.Code(), Reason: r, Message: fmt.Sprintf(format, args...)}
}

// With returns a copy that carries one more fact.
func (e *Error) With(key, value string) *Error {
	c := *e
	c.Metadata = maps.Clone(e.Metadata)
	if c.Metadata == nil {
		c.Metadata = make(map[string]string, 1)
	}
	c.Metadata[key] = value
	return &c
}

// Because returns a copy that wraps the cause; the cause is for logs, it is
// not shown to the other end.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// Error gives reason and message, and the cause where there is one.
func (e *Error) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Reason, e.Message, e.cause)
	}
	return fmt.Sprintf("%s: %s", e.Reason, e.Message)
}

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is an Error with the same reason, so that
// errors.Is(err, fault.New(fault.StreamBusy, "")) works on wrapped errors.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason == e.Reason
}

// From finds the Error inside err. An err that holds none becomes Internal
// with a message that tells nothing of our insides; nil stays nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return New(InternalError, "the server met an error of its own; its log says more").Because(err)
}

// ReasonOf is the reason inside err, or "" when err holds no Error.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ""
}

package srt

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
)

// The rejection codes of the handshake (SRT Access Control Guidelines). A
// caller's log shows them as they are, or with 1000 added as on the wire. The
// codes below 1000 are the wire's: 10 for a wrong passphrase, 11 for one that is
// missing or not wanted.
const (
	CodeBadStreamID  = 1400 // the stream id cannot be read, or lacks something
	CodeUnauthorized = 1401 // the token is wrong
	CodeOverloaded   = 1402 // a limit of the server or the account
	CodeForbidden    = 1403
	CodeNotFound     = 1404 // no such stream
	CodeBadMode      = 1405 // the caller wants to read
	CodeUnacceptable = 1406
	CodeBusy         = 1409 // another encoder publishes it
	CodeLocked       = 1423 // stopped by an operator
	CodeInternal     = 1500
	CodeBackend      = 1502 // the backend refuses
	CodeUnavailable  = 1503 // try again: the server starts or stops, or something it needs is away
)

// reasonCodes gives the code for a reason; what is not here goes by
// classCodes.
var reasonCodes = map[fault.Reason]int{
	fault.MissingArgument:    CodeBadStreamID,
	fault.BadAddress:         CodeBadStreamID,
	fault.BadStreamName:      CodeBadStreamID,
	fault.UnknownApplication: CodeBadStreamID,
	fault.StreamStopped:      CodeLocked,
	fault.BackendRefused:     CodeBackend,
	fault.NodeNotRegistered:  CodeBackend,
}

var classCodes = map[fault.Code]int{
	fault.InvalidArgument:    CodeUnacceptable,
	fault.Unauthenticated:    CodeUnauthorized,
	fault.PermissionDenied:   CodeForbidden,
	fault.NotFound:           CodeNotFound,
	fault.AlreadyExists:      CodeBusy,
	fault.ResourceExhausted:  CodeOverloaded,
	fault.Unavailable:        CodeUnavailable,
	fault.DeadlineExceeded:   CodeUnavailable,
	fault.FailedPrecondition: CodeForbidden,
}

// Code is the rejection code for a reason.
func Code(e *fault.Error) int {
	if e.Reason == fault.BadAddress && e.Metadata["argument"] == ingest.ArgMode {
		return CodeBadMode
	}
	if code, ok := reasonCodes[e.Reason]; ok {
		return code
	}
	if code, ok := classCodes[e.Code]; ok {
		return code
	}
	return CodeInternal
}

// How long a refusal that came after the handshake is told to the same caller
// in the next handshake, and how many are kept. A place may be free again in a
// moment: that is not held against the encoder that returns to it.
const (
	keptFor     = 3 * time.Second
	maxRefusals = 1024
)

// refusals remembers who was turned away behind the handshake, where SRT has
// no words for it. Encoders try again by themselves: then they get the code.
type refusals struct {
	seed maphash.Seed

	mu   sync.Mutex // guards kept
	kept map[caller]refusal
}

// caller is who asked for what.
type caller struct {
	addr     netip.Addr
	streamID uint64 // a hash: it holds the token
}

type refusal struct {
	err   *fault.Error
	until time.Time
}

func newRefusals() *refusals {
	return &refusals{seed: maphash.MakeSeed(), kept: make(map[caller]refusal)}
}

func (r *refusals) caller(addr netip.Addr, streamID string) caller {
	return caller{addr, maphash.String(r.seed, streamID)}
}

// keep remembers a refusal.
func (r *refusals) keep(addr netip.Addr, streamID string, e *fault.Error, now time.Time) {
	if e.Reason == fault.StreamBusy {
		return
	}
	c := r.caller(addr, streamID)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.kept) >= maxRefusals {
		for k, v := range r.kept {
			if now.After(v.until) {
				delete(r.kept, k)
			}
		}
		if len(r.kept) >= maxRefusals {
			return // a flood: it gets no words
		}
	}
	r.kept[c] = refusal{e, now.Add(keptFor)}
}

// find gives the refusal that a caller is to be told; nil when there is none.
func (r *refusals) find(addr netip.Addr, streamID string, now time.Time) *fault.Error {
	c := r.caller(addr, streamID)
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.kept[c]
	switch {
	case !ok:
		return nil
	case now.After(v.until):
		delete(r.kept, c)
		return nil
	}
	return v.err
}

// Package auth says who may call the control API and who may play.
//
// Read Authenticator first: it turns what a caller shows — a bearer token or a
// client certificate — into a Principal with a Role. What a call needs is the
// business of whoever serves it.
package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/klive-media/klive/internal/fault"
)

// Role is what a principal may do. Higher roles may do all that lower ones do.
type Role uint8

// The roles.
const (
	None   Role = iota // may do nothing
	Viewer             // may read
	Admin              // may do everything
)

var roleNames = [...]string{"none", "viewer", "admin"}

// String is the role's name in the configuration.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return roleNames[None]
}

// Allows reports whether a principal of role r may make a call that needs the
// role need.
func (r Role) Allows(need Role) bool { return r >= need }

// ParseRole reads a role's name; the empty name and "none" are errors.
func ParseRole(name string) (Role, error) {
	for r := Viewer; int(r) < len(roleNames); r++ {
		if name == roleNames[r] {
			return r, nil
		}
	}
	return None, fmt.Errorf("read role %q: it must be one of admin, viewer", name)
}

// Principal is who makes a call.
type Principal struct {
	Name   string // for logs and events: the token's name, the certificate's subject; never a secret
	Role   Role
	Method string // how it was known: "token", "certificate", "open", or what a Verifier says
}

// Anonymous is everybody, where no authentication is configured. Whoever
// serves it must make sure that only this machine can call.
func Anonymous() Principal { return Principal{Name: "anonymous", Role: Admin, Method: "open"} }

// ErrUnknownToken says that a Verifier does not know the token; another one of
// the chain may.
var ErrUnknownToken = errors.New("token is not known")

// Verifier knows tokens. It is implemented here for configured tokens, and by
// the Kaltura bridge for its sessions.
type Verifier interface {
	// Verify returns whose token it is; ErrUnknownToken when it is not one of
	// its kind, a *fault.Error when it is but does not count (expired, for
	// example). It keeps neither the token nor parts of it.
	Verify(ctx context.Context, token string) (Principal, error)
}

// Chain asks each verifier in order until one knows the token.
type Chain []Verifier

var _ Verifier = Chain{}

// Verify returns the answer of the first verifier that knows the token.
func (c Chain) Verify(ctx context.Context, token string) (Principal, error) {
	for _, v := range c {
		p, err := v.Verify(ctx, token)
		if err == nil || !errors.Is(err, ErrUnknownToken) {
			return p, err
		}
	}
	return Principal{}, ErrUnknownToken
}

// maxHeader bounds the Authorization header; a Kaltura session stays below 4 KiB.
const maxHeader = 8 << 10

// BearerToken takes the token out of an Authorization header; false when the
// header holds none (RFC 6750 section 2.1; the scheme's case does not count,
// RFC 9110 section 11.1).
func BearerToken(header string) (string, bool) {
	const scheme = "bearer "
	if len(header) > maxHeader || len(header) <= len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) {
		return "", false
	}
	token := strings.TrimSpace(header[len(scheme):])
	return token, token != ""
}

// errNoCredential and errBadCredential are two sentences of one reason: the
// caller must know which, a program need not.
func errNoCredential() error {
	return fault.New(fault.NotAuthenticated, "this call needs a credential: send the header Authorization: Bearer TOKEN, or a client certificate")
}

func errBadCredential() error {
	return fault.New(fault.NotAuthenticated, "the credential is not valid: use a token of auth.tokens in the server's configuration")
}

type contextKey struct{}

// NewContext returns a context that carries the principal.
func NewContext(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// FromContext is the principal the context carries; the zero Principal, which
// may do nothing, when there is none.
func FromContext(ctx context.Context) Principal {
	p, _ := ctx.Value(contextKey{}).(Principal)
	return p
}

// Require returns nil when the context's principal has the role, else a
// *fault.Error with the reason NOT_ALLOWED.
func Require(ctx context.Context, need Role) error {
	p := FromContext(ctx)
	if p.Role.Allows(need) {
		return nil
	}
	return fault.New(fault.NotAllowed, "this call needs the role %s, and %s has the role %s", need, p.Name, p.Role).
		With("role", p.Role.String()).With("needs", need.String())
}

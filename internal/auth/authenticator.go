package auth

import (
	"context"
	"crypto/tls"
	"errors"
)

// Authenticator turns what a caller shows into a Principal. The zero value
// has nothing configured and lets everybody in as Anonymous.
type Authenticator struct {
	Tokens       Verifier      // nil: no bearer token counts
	Certificates *Certificates // nil: no client certificate counts
}

// Configured reports whether callers must show something.
func (a Authenticator) Configured() bool { return a.Tokens != nil || a.Certificates != nil }

// Authenticate returns who calls. A bearer token goes before a certificate: a
// caller that shows a wrong token is refused even when its certificate is
// good, so that a mistake never runs under another name. Errors are
// *fault.Error, most with the reason NOT_AUTHENTICATED. state may be nil.
func (a Authenticator) Authenticate(ctx context.Context, header string, state *tls.ConnectionState) (Principal, error) {
	if !a.Configured() {
		return Anonymous(), nil
	}
	if header != "" && a.Tokens != nil {
		token, ok := BearerToken(header)
		if !ok {
			return Principal{}, errNoCredential()
		}
		p, err := a.Tokens.Verify(ctx, token)
		if errors.Is(err, ErrUnknownToken) {
			return Principal{}, errBadCredential()
		}
		return p, err
	}
	if a.Certificates != nil {
		if p, ok := a.Certificates.Verify(state); ok {
			return p, nil
		}
	}
	return Principal{}, errNoCredential()
}

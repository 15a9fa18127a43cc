package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
)

func TestRoles(t *testing.T) {
	require.True(t, Admin.Allows(Viewer))
	require.True(t, Viewer.Allows(Viewer))
	require.False(t, Viewer.Allows(Admin))
	require.False(t, None.Allows(Viewer))
	for _, r := range []Role{Viewer, Admin} {
		got, err := ParseRole(r.String())
		require.NoError(t, err)
		require.Equal(t, r, got)
	}
	for _, name := range []string{"", "none", "Admin", "root"} {
		_, err := ParseRole(name)
		require.Error(t, err, name)
	}
	require.Equal(t, "none", Role(99).String())
}

func TestBearerToken(t *testing.T) {
	for _, c := range []struct {
		header, token string
		ok            bool
	}{
		{"Bearer abc", "abc", true},
		{"bearer  abc ", "abc", true},
		{"BEARER abc", "abc", true},
		{"Bearer ", "", false},
		{"Bearer", "", false},
		{"Basic abc", "", false},
		{"", "", false},
		{"Bearer " + strings.Repeat("x", maxHeader), "", false},
	} {
		token, ok := BearerToken(c.header)
		require.Equal(t, c.ok, ok, c.header)
		require.Equal(t, c.token, token, c.header)
	}
}

func TestNewTokensRefuses(t *testing.T) {
	for name, tokens := range map[string][]Token{
		"empty":   {{Name: "a", Role: Admin}},
		"no role": {{Name: "a", Secret: "s"}},
		"twice":   {{Name: "a", Secret: "s", Role: Admin}, {Name: "b", Secret: "s", Role: Viewer}},
	} {
		_, err := NewTokens(tokens)
		require.ErrorContains(t, err, "token", name)
	}
}

// session is a verifier of another kind, as the Kaltura bridge has one.
type session struct{}

func (session) Verify(_ context.Context, token string) (Principal, error) {
	switch {
	case token == "ks:good":
		return Principal{Name: "partner 102", Role: Admin, Method: "ks"}, nil
	case strings.HasPrefix(token, "ks:"):
		return Principal{}, fault.New(fault.NotAuthenticated, "the Kaltura session is expired")
	}
	return Principal{}, ErrUnknownToken
}

func TestAuthenticate(t *testing.T) {
	tokens, err := NewTokens([]Token{{"ops", "s3cret", Admin}, {"wall", "look", Viewer}})
	require.NoError(t, err)
	cert := func(cn string, dns ...string) *tls.ConnectionState {
		uri, _ := url.Parse("spiffe://here/wall")
		leaf := &x509.Certificate{Subject: pkix.Name{CommonName: cn}, DNSNames: dns, URIs: []*url.URL{uri}}
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf}}}
	}
	unverified := cert("ops")
	unverified.VerifiedChains = nil
	both := Authenticator{
		Tokens:       Chain{tokens, session{}},
		Certificates: &Certificates{Roles: map[string]Role{"wall": Viewer, "gone": None}},
	}
	require.False(t, Authenticator{}.Configured())
	require.True(t, both.Configured())

	for _, c := range []struct {
		name   string
		auth   Authenticator
		header string
		state  *tls.ConnectionState
		want   Principal
		fails  string
	}{
		{name: "nothing configured", want: Principal{"anonymous", Admin, "open"}},
		{name: "nothing configured, token sent", header: "Bearer x", want: Principal{"anonymous", Admin, "open"}},
		{name: "admin token", auth: both, header: "Bearer s3cret", want: Principal{"ops", Admin, "token"}},
		{name: "viewer token", auth: both, header: "Bearer look", want: Principal{"wall", Viewer, "token"}},
		{name: "session", auth: both, header: "Bearer ks:good", want: Principal{"partner 102", Admin, "ks"}},
		{name: "expired session", auth: both, header: "Bearer ks:old", fails: "expired"},
		{name: "wrong token", auth: both, header: "Bearer nope", fails: "not valid"},
		{name: "prefix of a token", auth: both, header: "Bearer s3cre", fails: "not valid"},
		{name: "wrong token, good certificate", auth: both, header: "Bearer nope", state: cert("ops"), fails: "not valid"},
		{name: "other scheme", auth: both, header: "Basic b3BzOnMzY3JldA==", fails: "needs a credential"},
		{name: "nothing shown", auth: both, fails: "needs a credential"},
		{name: "certificate", auth: both, state: cert("ops"), want: Principal{"ops", Admin, "certificate"}},
		{name: "certificate with a role", auth: both, state: cert("", "wall"), want: Principal{"wall", Viewer, "certificate"}},
		{name: "certificate that is shut out", auth: both, state: cert("gone"), want: Principal{"gone", None, "certificate"}},
		{name: "certificate without a common name", auth: both, state: cert(""), want: Principal{"spiffe://here/wall", Admin, "certificate"}},
		{name: "certificate not verified", auth: both, state: unverified, fails: "needs a credential"},
		{name: "only certificates, token sent", auth: Authenticator{Certificates: &Certificates{}}, header: "Bearer x", state: cert("a"), want: Principal{"a", Admin, "certificate"}},
		{name: "only tokens, certificate sent", auth: Authenticator{Tokens: tokens}, state: cert("a"), fails: "needs a credential"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.auth.Authenticate(t.Context(), c.header, c.state)
			if c.fails != "" {
				require.ErrorContains(t, err, c.fails)
				require.Equal(t, fault.NotAuthenticated, fault.ReasonOf(err))
				require.NotContains(t, err.Error(), "nope")
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestRequire(t *testing.T) {
	require.Equal(t, fault.NotAllowed, fault.ReasonOf(Require(t.Context(), Viewer)))
	ctx := NewContext(t.Context(), Principal{Name: "wall", Role: Viewer})
	require.NoError(t, Require(ctx, Viewer))
	err := Require(ctx, Admin)
	require.ErrorContains(t, err, "needs the role admin, and wall has the role viewer")
	require.Equal(t, fault.PermissionDenied, fault.From(err).Code)
}

func TestOpenPlayback(t *testing.T) {
	require.NoError(t, OpenPlayback{}.MayPlay(t.Context(), PlayRequest{Stream: "lobby"}))
	require.False(t, OpenPlayback{}.Restricted("lobby"))
}

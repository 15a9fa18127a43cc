package authority

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/ks"
)

// methodKS is Principal.Method of bearers of a Kaltura session.
const methodKS = "ks"

// maxUserName bounds what is shown of a session's user.
const maxUserName = 64

// restricting are the privileges that narrow what a session may do. What they
// allow is for the backend to say: a session with one of them is no admin's
// here.
var restricting = []string{"iprestrict", "urirestrict", "actionslimit", "setrole"}

// NewVerifier makes a verifier that takes an admin session (KS) of the partner
// for an administrator's credential. It checks the session by itself: the
// signature, the partner, the type and the end. A session that the backend ended
// before its time still counts here until then. Secret may be several, joined
// with commas.
func NewVerifier(partner int, secret ks.Secret) auth.Verifier {
	var secrets []ks.Secret
	for s := range strings.SplitSeq(secret.Reveal(), ",") {
		if s = strings.TrimSpace(s); s != "" {
			secrets = append(secrets, ks.Secret(s))
		}
	}
	return &verifier{partner, secrets}
}

type verifier struct {
	partner int
	secrets []ks.Secret
}

// Verify implements auth.Verifier.
func (v *verifier) Verify(_ context.Context, token string) (auth.Principal, error) {
	s, err := ks.Verify(token, time.Now(), func(partner int) []ks.Secret {
		if partner == v.partner {
			return v.secrets
		}
		return nil
	})
	switch {
	case err != nil && !looksLikeSession(token): // also what another kind of token is by chance
		return auth.Principal{}, auth.ErrUnknownToken
	case errors.Is(err, ks.ErrPartner):
		return auth.Principal{}, notCounting("it is of another partner than the configured one")
	case errors.Is(err, ks.ErrExpired):
		return auth.Principal{}, notCounting("it is expired")
	case err != nil:
		return auth.Principal{}, notCounting("its signature does not fit the partner's admin secret")
	case s.Type != ks.Admin:
		return auth.Principal{}, notCounting("it is a user's; make one of type 2 (admin)")
	}
	for _, p := range s.Privileges {
		for _, name := range restricting {
			if strings.EqualFold(p.Name, name) {
				return auth.Principal{}, notCounting("it is restricted by the privilege " + name)
			}
		}
	}
	return auth.Principal{Name: "ks:" + userOf(s), Role: auth.Admin, Method: methodKS}, nil
}

func notCounting(why string) error {
	return fault.New(fault.NotAuthenticated, "the Kaltura session does not count here: %s", why)
}

// userOf is who made a session, for logs.
func userOf(s ks.Session) string {
	name := strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) && c != unicode.ReplacementChar {
			return c
		}
		return -1
	}, s.User)
	if len(name) > maxUserName {
		name = strings.ToValidUTF8(name[:maxUserName], "")
	}
	if name == "" {
		return fmt.Sprint(s.Partner)
	}
	return name
}

// looksLikeSession reports whether a token has the form of a session, so that
// its bearer is told what is wrong with it.
func looksLikeSession(token string) bool {
	if len(token) > ks.MaxToken {
		return false
	}
	raw, err := base64.StdEncoding.DecodeString(strings.NewReplacer("-", "+", "_", "/").Replace(token))
	if err != nil {
		return false
	}
	if bytes.HasPrefix(raw, []byte("v2|")) {
		return true
	}
	const signature = 40 // hexadecimal digits of a SHA-1
	return len(raw) > signature && raw[signature] == '|' && bytes.Count(raw[signature:], []byte{';'}) >= 2
}

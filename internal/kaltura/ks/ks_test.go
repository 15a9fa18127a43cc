package ks

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	secretA = Secret("0123456789abcdef0123456789abcdef")
	secretB = Secret("s3cr3t-eCDN")
	rights  = "disableentitlement,sessionkey:kalturaWowzaPermanentSessionKey"
)

func session(partner int, typ Type, expiry int64, user, privileges string) Session {
	return Session{Partner: partner, Type: typ, Expires: time.Unix(expiry, 0), User: user, Privileges: ParsePrivileges(privileges)}
}

// vectors were computed outside this package by two independent programs.
var vectors = []struct {
	name    string
	secret  Secret
	session Session
	salt    string // hexadecimal for version 2, text for version 1
	v1      bool
	token   string
}{
	{"A", secretA, session(-5, Admin, 1700086400, "MediaServer", rights), "000102030405060708090a0b0c0d0e0f", false,
		"djJ8LTV8ehIQUAvS1Me_UdQw40Qa_B55uWZMgZOkKrOb0vfwuUdBglewMTr726utivKVhV8E0ADHzv3ff6XzC86TkZxRvUgg-rsnk9yt2qGE1cOuEEgDYaczQBBViLbHyNgM5RRkzkjLRQeE9VO_LyFbeZ5lKdtZUQtaV9r7tr8EayPOOiBkXYSgTZzqf5o3s-4VlNnI"},
	{"B", secretB, session(102, Admin, 2000000000, "MediaServer", rights), "ffeeddccbbaa99887766554433221100", false,
		"djJ8MTAyfAtXda-fMaQ8rxbkeKyJmnWNv6C30PJ4giV4n05XiC7ojUvHcQiwJb_H2Y27ZlgVxLpvo6t6AB0hSXwJQ7ffP4x5wxUgGOV9MdXDROtiI8jlB-05wI4d20dxbFukUQlbPw6Ww_f6LEauOFRY8xmtyXj3WCS9_sU2Jn1JlGZSUy6fwiXyXcY3o5RHnXhHD0DO7g=="},
	{"C", secretA, session(102, User, 1893456000, "user one@example.com", "sview:0_abcd1234/1_efgh5678,*"), strings.Repeat("a5", 16), false,
		"djJ8MTAyfEZhH7CzmrfzMUJJNZU8zbABw7A8w5TLTCnc68tCBinxYhZryxKHgG3aJQRgY7qqxmkLKObRE-CTmfnuoH6v_pwkayWZHKxH2PNo7KzJU9VZw_sXEE1y8qetvL3Y3kJ0EKKM4oY3bnGBgq2ReLsIAD7hhQ61lxNQq1LpRmP6ron8"},
	{"D", secretA, session(-5, Admin, 1700086400, "MediaServer", rights), "12345", true,
		"NTg4YmQ5YjI1ZWFiNTIyNzBlYTJkMDI2ZmU5YzNkZDE1YzlmYWJjZnwtNTstNTsxNzAwMDg2NDAwOzI7MTIzNDU7TWVkaWFTZXJ2ZXI7ZGlzYWJsZWVudGl0bGVtZW50LHNlc3Npb25rZXk6a2FsdHVyYVdvd3phUGVybWFuZW50U2Vzc2lvbktleQ=="},
	{"E", secretB, session(102, Admin, 2000000000, "MediaServer", rights), "31999", true,
		"YzdjZDIyZjg5Y2JjMmMwZDE5MWJlM2MyMjAwOTg4ODk5ODNiZjQyYnwxMDI7MTAyOzIwMDAwMDAwMDA7MjszMTk5OTtNZWRpYVNlcnZlcjtkaXNhYmxlZW50aXRsZW1lbnQsc2Vzc2lvbmtleTprYWx0dXJhV293emFQZXJtYW5lbnRTZXNzaW9uS2V5"},
}

// only answers one secret for one partner.
func only(partner int, secrets ...Secret) func(int) []Secret {
	return func(p int) []Secret {
		if p == partner {
			return secrets
		}
		return nil
	}
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			var token Secret
			if v.v1 {
				token = SignV1(v.secret, v.session, v.salt)
			} else {
				salt, err := hex.DecodeString(v.salt)
				require.NoError(t, err)
				token = SignV2(v.secret, v.session, [saltSize]byte(salt))
			}
			require.Equal(t, v.token, token.Reveal())

			got, err := Verify(v.token, v.session.Expires.Add(-time.Second), only(v.session.Partner, "another", v.secret))
			require.NoError(t, err)
			require.Equal(t, v.session, got)

			_, err = Verify(v.token, v.session.Expires, only(v.session.Partner, v.secret))
			require.ErrorIs(t, err, ErrExpired)
			_, err = Verify(v.token, time.Unix(0, 0), only(v.session.Partner, "another"))
			require.ErrorIs(t, err, ErrMalformed)
			_, err = Verify(v.token, time.Unix(0, 0), only(1))
			require.ErrorIs(t, err, ErrPartner)
		})
	}
}

func TestStandardAlphabetIsReadToo(t *testing.T) {
	v := vectors[0]
	standard := strings.NewReplacer("-", "+", "_", "/").Replace(v.token)
	require.NotEqual(t, v.token, standard)
	got, err := Verify(standard, time.Unix(0, 0), only(-5, v.secret))
	require.NoError(t, err)
	require.Equal(t, v.session, got)
}

func TestPrivileges(t *testing.T) {
	s := vectors[2].session
	require.True(t, s.Has("anything"), "* stands for all")
	require.False(t, s.IsAdmin())
	s = vectors[0].session
	require.True(t, s.Has("sessionkey"))
	require.False(t, s.Has("sview"))
	require.True(t, s.IsAdmin())
	require.Equal(t, "sview:0_a,*,bare", FormatPrivileges(ParsePrivileges("sview:0_a,,*,bare")))
}

func TestFreshTokensDiffer(t *testing.T) {
	s := vectors[1].session
	s.Data = "more; of it"
	a, b := Sign(secretB, s), Sign(secretB, s)
	require.NotEqual(t, a.Reveal(), b.Reveal())
	got, err := Verify(a.Reveal(), time.Unix(0, 0), only(102, secretB))
	require.NoError(t, err)
	require.Equal(t, s, got)

	got, err = Verify(SignV1(secretB, session(102, User, 9, "", ""), "x").Reveal(), time.Unix(0, 0), only(102, secretB))
	require.NoError(t, err)
	require.Empty(t, got.Privileges)
	s.Data = "d"
	got, err = Verify(SignV1(secretB, s, "x").Reveal(), time.Unix(0, 0), only(102, secretB))
	require.NoError(t, err)
	require.Equal(t, s, got)
}

// broken are tokens that no verifier may take.
func broken() []string {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	flipped := []byte(vectors[0].token)
	flipped[60] ^= 1
	signed := func(info string) string { return b64(signatureV1(secretA, info) + "|" + info) }
	return []string{
		"", "!", "djJ8", b64("v2|"), b64("v2|-5"), b64("v2|-5|"), b64("v2|-5|short"), b64("v2|x|" + strings.Repeat("a", 32)),
		b64("v2|-5|" + strings.Repeat("a", 16)), b64("v2|-5|" + strings.Repeat("a", 64)), string(flipped),
		b64("no separator"), b64("|"), b64("|-5;-5"), b64("deadbeef|-5;-5;9"), b64("deadbeef|x;-5;9"),
		signed("-5;-5;never"), signed("-5;-5;9;admin"), signed("-5;-5"),
		strings.Repeat("A", MaxToken+4),
	}
}

func TestBrokenTokensAreRefused(t *testing.T) {
	for i, token := range broken() {
		_, err := Verify(token, time.Unix(0, 0), only(-5, secretA))
		require.ErrorIs(t, err, ErrMalformed, "%d %q", i, token)
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	held := struct {
		Secret Secret
		In     []Secret
	}{"hush", []Secret{"hush"}}
	asJSON, err := json.Marshal(held)
	require.NoError(t, err)
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "secret", held.Secret, "held", held)
	seen := fmt.Sprintf("%v %+v %#v %s %q %x %d", held, held, held, held.Secret, held.Secret, held.Secret, held.Secret) + string(asJSON) + logged.String()
	require.NotContains(t, seen, "hush")
	require.NotContains(t, seen, hex.EncodeToString([]byte("hush")))
	require.Contains(t, seen, hidden)
}

func FuzzVerify(f *testing.F) {
	for _, v := range vectors {
		f.Add(v.token)
	}
	for _, token := range broken() {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		s, err := Verify(token, time.Unix(0, 0), func(int) []Secret { return []Secret{secretA, secretB} })
		if err != nil {
			return
		}
		again, err := Verify(SignV2(secretA, s, [saltSize]byte{}).Reveal(), time.Unix(0, 0), only(s.Partner, secretA))
		require.NoError(t, err)
		require.Equal(t, s, again)
	})
}

func FuzzSign(f *testing.F) {
	f.Add(-5, 2, int64(1700086400), "MediaServer", rights, "")
	f.Add(102, 0, int64(1), "user one@example.com", "sview:0_a/0_b,*", "x\x00y&=%")
	f.Fuzz(func(t *testing.T, partner, typ int, expiry int64, user, privileges, data string) {
		if expiry <= 0 || expiry > 1<<40 || len(user)+len(privileges)+len(data) > 1000 {
			return
		}
		s := session(partner, Type(typ), expiry, user, privileges)
		for _, p := range s.Privileges {
			if strings.HasPrefix(p.Name, "_") {
				return // names that begin so are the format's own
			}
		}
		s.Data = data
		got, err := Verify(SignV2(secretA, s, [saltSize]byte{7}).Reveal(), time.Unix(0, 0), only(partner, secretA))
		require.NoError(t, err)
		require.Equal(t, s, got)
	})
}

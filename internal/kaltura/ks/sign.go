package ks

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha1" // weak, but the token format prescribes it
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"
)

// Sign makes a version 2 token with fresh random bytes.
func Sign(secret Secret, s Session) Secret {
	var salt [saltSize]byte
	_, _ = rand.Read(salt[:]) // never fails: crypto/rand ends the process instead
	return SignV2(secret, s, salt)
}

const (
	prefixV2 = "v2|"
	saltSize = 16 // random bytes in front of the fields of a version 2 token
	separate = "|"
)

// encodeURL is the base64 alphabet safe in addresses; the padding stays, as
// the backend's own tokens keep it.
var encodeURL = strings.NewReplacer("+", "-", "/", "_")

// SignV2 makes a version 2 token: the fields as a query string behind the
// salt, a SHA-1 of both in front, all of it AES-128-CBC encrypted with a key
// made of the secret. The vector is zero, so equal salts of equal sessions
// give equal tokens.
func SignV2(secret Secret, s Session, salt [saltSize]byte) Secret {
	body := append(salt[:], s.query()...)
	sum := sha1.Sum(body)
	plain := append(sum[:], body...)
	for len(plain)%aes.BlockSize != 0 { // zeros, not PKCS #7
		plain = append(plain, 0)
	}
	var vector [aes.BlockSize]byte
	cipher.NewCBCEncrypter(blockCipher(secret), vector[:]).CryptBlocks(plain, plain)
	token := append([]byte(prefixV2+strconv.Itoa(s.Partner)+separate), plain...)
	return Secret(encodeURL.Replace(base64.StdEncoding.EncodeToString(token)))
}

// blockCipher is AES-128 under the first half of the secret's SHA-1.
func blockCipher(secret Secret) cipher.Block {
	key := sha1.Sum([]byte(secret))
	block, err := aes.NewCipher(key[:aes.BlockSize]) // 16 bytes: cannot fail
	if err != nil {
		panic(err)
	}
	return block
}

// query renders the fields of version 2, privileges first.
func (s Session) query() string {
	var b strings.Builder
	field := func(name, value string) {
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(name))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(value))
	}
	for _, p := range s.Privileges {
		field(p.Name, p.Value)
	}
	field("_e", strconv.FormatInt(s.Expires.Unix(), 10))
	field("_t", strconv.Itoa(int(s.Type)))
	field("_u", s.User)
	if s.Data != "" {
		field("_d", s.Data)
	}
	return b.String()
}

// SignV1 makes a version 1 token: readable fields behind a SHA-1 over the
// secret and the fields. The salt is any text without ";". Neither the user
// nor the privileges may hold a ";": it parts the fields.
func SignV1(secret Secret, s Session, salt string) Secret {
	partner := strconv.Itoa(s.Partner)
	fields := []string{partner, partner, strconv.FormatInt(s.Expires.Unix(), 10), strconv.Itoa(int(s.Type)), salt,
		s.User, FormatPrivileges(s.Privileges)}
	if s.Data != "" {
		fields = append(fields, "", s.Data)
	}
	info := strings.Join(fields, ";")
	return Secret(base64.StdEncoding.EncodeToString([]byte(signatureV1(secret, info) + separate + info)))
}

func signatureV1(secret Secret, info string) string {
	sum := sha1.Sum([]byte(string(secret) + info))
	return hex.EncodeToString(sum[:])
}

package ks

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1" // weak, but the token format prescribes it
	"crypto/subtle"
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"time"
)

var decodeURL = strings.NewReplacer("-", "+", "_", "/")

// Verify reads a token of either version and checks its signature against
// each secret that secrets gives for the partner it names, in constant time,
// and then its end against now. An expired token comes back with its session
// beside ErrExpired. No error holds anything of the token.
func Verify(token string, now time.Time, secrets func(partner int) []Secret) (Session, error) {
	if len(token) > MaxToken {
		return Session{}, ErrMalformed
	}
	raw, err := base64.StdEncoding.DecodeString(decodeURL.Replace(token))
	if err != nil {
		return Session{}, ErrMalformed
	}
	var s Session
	if rest, ok := bytes.CutPrefix(raw, []byte(prefixV2)); ok {
		s, err = verifyV2(rest, secrets)
	} else {
		s, err = verifyV1(string(raw), secrets)
	}
	if err == nil && !s.Expires.After(now) {
		err = ErrExpired
	}
	return s, err
}

func verifyV2(raw []byte, secrets func(int) []Secret) (Session, error) {
	name, sealed, ok := bytes.Cut(raw, []byte(separate))
	partner, err := strconv.Atoi(string(name))
	if !ok || err != nil || len(sealed) == 0 || len(sealed)%aes.BlockSize != 0 {
		return Session{}, ErrMalformed
	}
	known := secrets(partner)
	if len(known) == 0 {
		return Session{}, ErrPartner
	}
	plain := make([]byte, len(sealed))
	for _, secret := range known {
		var vector [aes.BlockSize]byte
		cipher.NewCBCDecrypter(blockCipher(secret), vector[:]).CryptBlocks(plain, sealed)
		// The padding is zeros, and a query string ends in none.
		body := bytes.TrimRight(plain, "\x00")
		if len(body) < sha1.Size+saltSize {
			continue
		}
		sum := sha1.Sum(body[sha1.Size:])
		if subtle.ConstantTimeCompare(sum[:], body[:sha1.Size]) == 1 {
			s, err := parseQuery(string(body[sha1.Size+saltSize:]))
			s.Partner = partner
			return s, err
		}
	}
	return Session{}, ErrMalformed
}

// parseQuery reads the fields of version 2; the order does not matter.
func parseQuery(query string) (Session, error) {
	var s Session
	for field := range strings.SplitSeq(query, "&") {
		if field == "" {
			continue
		}
		name, value, _ := strings.Cut(field, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return Session{}, ErrMalformed
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return Session{}, ErrMalformed
		}
		switch name {
		case "_e":
			s.Expires, err = parseExpiry(value)
		case "_t":
			s.Type, err = parseType(value)
		case "_u":
			s.User = value
		case "_d":
			s.Data = value
		case "_m": // the master partner: nothing here depends on it
		default:
			s.Privileges = append(s.Privileges, Privilege{Name: name, Value: value})
		}
		if err != nil {
			return Session{}, err
		}
	}
	return s, nil
}

func verifyV1(raw string, secrets func(int) []Secret) (Session, error) {
	signature, info, ok := strings.Cut(raw, separate)
	fields := strings.Split(info, ";")
	if !ok || len(fields) < 3 {
		return Session{}, ErrMalformed
	}
	partner, err := strconv.Atoi(fields[0])
	if err != nil {
		return Session{}, ErrMalformed
	}
	known := secrets(partner)
	if len(known) == 0 {
		return Session{}, ErrPartner
	}
	for _, secret := range known {
		if subtle.ConstantTimeCompare([]byte(signatureV1(secret, info)), []byte(signature)) == 1 {
			return parseFields(partner, fields)
		}
	}
	return Session{}, ErrMalformed
}

// parseFields reads the fields of version 1; those behind the third may be
// missing.
func parseFields(partner int, fields []string) (Session, error) {
	s := Session{Partner: partner}
	var err error
	if s.Expires, err = parseExpiry(fields[2]); err != nil {
		return Session{}, err
	}
	at := func(i int) string {
		if i < len(fields) {
			return fields[i]
		}
		return ""
	}
	if t := at(3); t != "" {
		if s.Type, err = parseType(t); err != nil {
			return Session{}, err
		}
	}
	s.User, s.Privileges, s.Data = at(5), ParsePrivileges(at(6)), at(8)
	return s, nil
}

func parseExpiry(text string) (time.Time, error) {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, ErrMalformed
	}
	return time.Unix(seconds, 0), nil
}

func parseType(text string) (Type, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, ErrMalformed
	}
	return Type(n), nil
}

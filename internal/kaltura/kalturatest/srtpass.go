package kalturatest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/base64"

	"github.com/klive-media/klive/internal/kaltura/ks"
)

// srtKey is the backend's default live_security_key.
const srtKey = "klive"

// SealPassphrase is the form of an SRT passphrase that stands in a stream id
// (ep=) and that authenticate takes as a token: AES-256-CBC under the key
// padded with zeros, with a zero vector, in base64url without padding.
func SealPassphrase(passphrase ks.Secret) string {
	key := make([]byte, 32)
	copy(key, srtKey)
	block, err := aes.NewCipher(key) // 32 bytes: cannot fail
	if err != nil {
		return ""
	}
	plain := []byte(passphrase)
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	plain = append(plain, bytes.Repeat([]byte{byte(pad)}, pad)...)
	var vector [aes.BlockSize]byte
	cipher.NewCBCEncrypter(block, vector[:]).CryptBlocks(plain, plain)
	return base64.RawURLEncoding.EncodeToString(plain)
}

// lets reports whether a token opens the entry: it is the stream password, or
// the sealed SRT passphrase.
func (e *Entry) lets(token string) bool {
	same := func(want string) bool { return subtle.ConstantTimeCompare([]byte(token), []byte(want)) == 1 }
	return e.Token != "" && same(e.Token.Reveal()) || e.SRTPassphrase != "" && same(SealPassphrase(e.SRTPassphrase))
}

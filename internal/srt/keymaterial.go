package srt

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // the key derivation of SRT (§6.1.4)
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

// Fields of a key material message (§3.2.2).
const (
	kmVersionType = 0x12   // version 1, packet type 2
	kmSign        = 0x2029 // "HAI"
	kmHeader      = 16
	cipherCTR     = 2
	kmSalt        = 16 // the only length that libsrt sends
	wrapBlock     = 8  // of RFC 3394
	maxKM         = kmHeader + kmSalt + 2*32 + wrapBlock
	iterations    = 2048 // of PBKDF2 (§6.1.4)
)

// The lengths of a passphrase, in bytes (libsrt, SRTO_PASSPHRASE).
const (
	MinPassphrase = 10
	MaxPassphrase = 79
)

// The keys that a message brings and packets name (§3.1, KK).
const (
	keyEven = 1
	keyOdd  = 2
)

var (
	errKeyMaterial = errors.New("srt: unreadable key material")
	errCipher      = errors.New("srt: a cipher other than AES-CTR")
	errWrongSecret = errors.New("srt: the key material was made with another passphrase")
	errPassphrase  = fmt.Errorf("srt: a passphrase has %d to %d bytes", MinPassphrase, MaxPassphrase)
)

// keyMaterial is a message that brings the keys of a stream, wrapped with one
// that is derived from the passphrase.
type keyMaterial struct {
	keys    int // KK: keyEven, keyOdd or both
	length  int // of a key: 16, 24 or 32
	salt    [kmSalt]byte
	wrapped []byte // part of what was read
}

// readKeyMaterial reads a message. What it gives points into b.
func readKeyMaterial(b []byte) (m keyMaterial, err error) {
	if len(b) < kmHeader+kmSalt || len(b) > maxKM || b[0] != kmVersionType || binary.BigEndian.Uint16(b[1:]) != kmSign {
		return m, errKeyMaterial
	}
	m.keys = int(b[3] & keyMask)
	m.length = int(b[15]) * 4
	if b[8] != cipherCTR || b[9] != 0 {
		return m, errCipher
	}
	if m.keys == 0 || int(b[14])*4 != kmSalt || m.length != 16 && m.length != 24 && m.length != 32 {
		return m, errKeyMaterial
	}
	copy(m.salt[:], b[kmHeader:])
	m.wrapped = b[kmHeader+kmSalt:]
	count := 1
	if m.keys == keyEven|keyOdd {
		count = 2
	}
	if len(m.wrapped) != count*m.length+wrapBlock {
		return m, errKeyMaterial
	}
	return m, nil
}

// unlocker opens key material with a passphrase. It remembers the last key it
// derived, as that is slow on purpose and the salt seldom changes.
type unlocker struct {
	passphrase string
	salt       [kmSalt]byte
	length     int
	block      cipher.Block // nil: nothing derived yet
}

// newUnlocker gives nil for no passphrase.
func newUnlocker(passphrase string) (*unlocker, error) {
	if passphrase == "" {
		return nil, nil //nolint:nilnil // says so
	}
	if len(passphrase) < MinPassphrase || len(passphrase) > MaxPassphrase {
		return nil, errPassphrase
	}
	return &unlocker{passphrase: passphrase}, nil
}

// open puts the keys of a message into a keyring; errWrongSecret when the
// passphrase is not the one it was made with.
func (u *unlocker) open(m keyMaterial, r *keyring) error {
	if u.block == nil || u.salt != m.salt || u.length != m.length {
		kek, err := pbkdf2.Key(sha1.New, u.passphrase, m.salt[kmSalt-8:], iterations, m.length)
		if err != nil {
			return err
		}
		block, err := aes.NewCipher(kek)
		if err != nil {
			return err
		}
		u.block, u.salt, u.length = block, m.salt, m.length
	}
	keys := unwrap(u.block, m.wrapped)
	if keys == nil {
		return errWrongSecret
	}
	for _, which := range []int{keyEven, keyOdd} {
		if m.keys&which == 0 {
			continue
		}
		block, err := aes.NewCipher(keys[:m.length])
		if err != nil {
			return err
		}
		r.blocks[which] = block
		keys = keys[m.length:]
	}
	r.salt = m.salt
	return nil
}

// unwrap undoes the AES key wrap of RFC 3394 §2.2.2; nil when the integrity
// check fails. wrapped holds at least two blocks of eight bytes.
func unwrap(block cipher.Block, wrapped []byte) []byte {
	n := len(wrapped)/wrapBlock - 1
	r := bytes.Clone(wrapped[wrapBlock:])
	var b [aes.BlockSize]byte
	copy(b[:], wrapped[:wrapBlock])
	for j := 5; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			t := uint64(n*j + i) //nolint:gosec // at most 54
			binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:])^t)
			copy(b[wrapBlock:], r[(i-1)*wrapBlock:])
			block.Decrypt(b[:], b[:])
			copy(r[(i-1)*wrapBlock:i*wrapBlock], b[wrapBlock:])
		}
	}
	want := [wrapBlock]byte{0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6}
	if subtle.ConstantTimeCompare(b[:wrapBlock], want[:]) != 1 {
		return nil
	}
	return r
}

// keyring decrypts payloads. It belongs to one goroutine.
type keyring struct {
	blocks [keyOdd + 1]cipher.Block // by KK
	salt   [kmSalt]byte
	count  [aes.BlockSize]byte
	stream [(MaxMessage + aes.BlockSize - 1) / aes.BlockSize * aes.BlockSize]byte
}

// decrypt writes the plain text of a payload to dst, which is as long as src.
// It reports whether the key is known.
//
// The counter is the salt's first 112 bits XORed with the sequence number, and
// 16 bits that count blocks (§6.1.2). The blocks of the standard library's CTR
// would cost an allocation a packet.
func (r *keyring) decrypt(dst, src []byte, key int, sequence uint32) bool {
	block := r.blocks[min(key, keyOdd)]
	if key > keyOdd || block == nil || len(src) > len(r.stream) {
		return false
	}
	copy(r.count[:], r.salt[:14])
	at := binary.BigEndian.Uint32(r.count[10:])
	binary.BigEndian.PutUint32(r.count[10:], at^sequence)
	for i := 0; i*aes.BlockSize < len(src); i++ {
		binary.BigEndian.PutUint16(r.count[14:], uint16(i)) //nolint:gosec // at most 91
		block.Encrypt(r.stream[i*aes.BlockSize:], r.count[:])
	}
	subtle.XORBytes(dst, src, r.stream[:len(src)])
	return true
}

package srt

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// TestUnwrap: the vectors of RFC 3394 §4.
func TestUnwrap(t *testing.T) {
	for _, c := range []struct{ about, kek, wrapped, key string }{
		{
			"4.1", "000102030405060708090A0B0C0D0E0F",
			"1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5", "00112233445566778899AABBCCDDEEFF",
		},
		{
			"4.3", "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
			"64E8C3F9CE0F5BA263E9777905818A2A93C8191E7D6E8AE7", "00112233445566778899AABBCCDDEEFF",
		},
		{
			"4.6", "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
			"28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21",
			"00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F",
		},
	} {
		t.Run(c.about, func(t *testing.T) {
			block, err := aes.NewCipher(unhex(t, c.kek))
			require.NoError(t, err)
			wrapped := unhex(t, c.wrapped)
			require.Equal(t, unhex(t, c.key), unwrap(block, wrapped))
			wrapped[3] ^= 1
			require.Nil(t, unwrap(block, wrapped), "damage shows")
		})
	}
}

// wrap is the other direction of RFC 3394, §2.2.1.
func wrap(block cipher.Block, key []byte) []byte {
	n := len(key) / wrapBlock
	r := bytes.Clone(key)
	var b [aes.BlockSize]byte
	for i := range wrapBlock {
		b[i] = 0xa6
	}
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(b[wrapBlock:], r[(i-1)*wrapBlock:])
			block.Encrypt(b[:], b[:])
			binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:])^uint64(n*j+i))
			copy(r[(i-1)*wrapBlock:], b[wrapBlock:])
		}
	}
	return append(bytes.Clone(b[:wrapBlock]), r...)
}

// material makes a message; keys are those it brings, one behind the other.
func material(t testing.TB, passphrase string, which, length int, keys []byte) []byte {
	t.Helper()
	b := []byte{kmVersionType, 0x20, 0x29, byte(which), 0, 0, 0, 0, cipherCTR, 0, 2, 0, 0, 0, kmSalt / 4, byte(length / 4)}
	salt := unhex(t, "000102030405060708090a0b0c0d0e0f")
	b = append(b, salt...)
	u, err := newUnlocker(passphrase)
	require.NoError(t, err)
	m := keyMaterial{keys: keyEven, length: length, wrapped: make([]byte, length+wrapBlock)}
	copy(m.salt[:], salt)
	require.ErrorIs(t, u.open(m, new(keyring)), errWrongSecret) // derives the key
	return append(b, wrap(u.block, keys)...)
}

func TestKeyMaterial(t *testing.T) {
	const pass = "correct horse battery"
	even, odd := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	for _, length := range []int{16, 24, 32} {
		both := append(bytes.Clone(even[:length]), odd[:length]...)
		m, err := readKeyMaterial(material(t, pass, keyEven|keyOdd, length, both))
		require.NoError(t, err)
		u, err := newUnlocker(pass)
		require.NoError(t, err)
		var r keyring
		require.NoError(t, u.open(m, &r))
		for which, key := range map[int][]byte{keyEven: even[:length], keyOdd: odd[:length]} {
			for _, size := range []int{1, 15, 16, 17, 1316, MaxMessage} {
				const sequence = 0x01020304
				plain := bytes.Repeat([]byte("kLive!"), size)[:size]
				block, err := aes.NewCipher(key)
				require.NoError(t, err)
				// §6.1.2, by the standard library's counter mode.
				counter := make([]byte, aes.BlockSize)
				binary.BigEndian.PutUint32(counter[10:], sequence)
				for i := range 14 {
					counter[i] ^= m.salt[i]
				}
				coded := make([]byte, size)
				cipher.NewCTR(block, counter).XORKeyStream(coded, plain)
				got := make([]byte, size)
				require.True(t, r.decrypt(got, coded, which, sequence))
				require.Equal(t, plain, got)
			}
		}
		require.False(t, r.decrypt(make([]byte, 4), make([]byte, 4), 0, 1))
		require.False(t, r.decrypt(make([]byte, 4), make([]byte, 4), 3, 1))
		other, err := newUnlocker(pass + "!")
		require.NoError(t, err)
		require.ErrorIs(t, other.open(m, &r), errWrongSecret)
	}
	for _, p := range []string{"123456789", string(bytes.Repeat([]byte("x"), 80))} {
		_, err := newUnlocker(p)
		require.ErrorIs(t, err, errPassphrase)
	}
}

// damagedMaterial are messages that are not to be read, by what is wrong.
func damagedMaterial(t testing.TB) map[string][]byte {
	good := func() []byte { return material(t, "0123456789", keyEven, 16, make([]byte, 16)) }
	with := func(at int, v byte) []byte {
		b := good()
		b[at] = v
		return b
	}
	return map[string][]byte{
		"empty": nil, "short": good()[:20], "long": append(good(), make([]byte, 80)...), "version": with(0, 0x22), "sign": with(1, 0),
		"no key": with(3, 0), "cipher": with(8, 1), "authentication": with(9, 1), "salt": with(14, 2), "key length": with(15, 5),
		"two keys, one there": with(3, 3), "no length": with(15, 0),
	}
}

func TestDamagedKeyMaterial(t *testing.T) {
	for about, b := range damagedMaterial(t) {
		_, err := readKeyMaterial(b)
		require.Error(t, err, about)
	}
}

func FuzzKeyMaterial(f *testing.F) {
	f.Add(material(f, "0123456789", keyEven, 16, make([]byte, 16)))
	f.Add(material(f, "0123456789", keyEven|keyOdd, 32, make([]byte, 64)))
	for _, b := range damagedMaterial(f) {
		f.Add(b)
	}
	u, err := newUnlocker("0123456789")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readKeyMaterial(b)
		if err != nil {
			return
		}
		var r keyring
		m.salt = [kmSalt]byte{} // deriving keys is slow on purpose
		if u.open(m, &r) == nil {
			require.True(t, r.blocks[keyEven] != nil || r.blocks[keyOdd] != nil)
		}
	})
}

func BenchmarkDecrypt(b *testing.B) {
	m, err := readKeyMaterial(material(b, "0123456789", keyEven, 16, make([]byte, 16)))
	require.NoError(b, err)
	u, err := newUnlocker("0123456789")
	require.NoError(b, err)
	var r keyring
	require.NoError(b, u.open(m, &r))
	buf := make([]byte, 1316)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for i := range b.N {
		r.decrypt(buf, buf, keyEven, uint32(i)) //nolint:gosec // a test
	}
}

package book

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/profile"
)

// Key names a grant: an entry at a server index.
type Key struct {
	Entry string
	Index int // server index: 0 primary, 1 backup
}

// String is the key in the store: 0_rkij47dr_0.
func (k Key) String() string { return k.Entry + "_" + strconv.Itoa(k.Index) }

// parseKey is the inverse of String.
func parseKey(text string) (Key, error) {
	i := strings.LastIndexByte(text, '_')
	n, err := strconv.Atoi(text[i+1:])
	if i < 1 || err != nil || n < 0 {
		return Key{}, fmt.Errorf("%.60q names no entry and server index", text)
	}
	return Key{Entry: text[:i], Index: n}, nil
}

// Grant is what the backend granted: this entry may be published at this
// server index by whoever has one of the tokens. What its fields point to is
// shared between copies; replace slices, never write into them.
type Grant struct {
	Entry   string `json:"entry"`
	Index   int    `json:"index"` // server index
	Partner int    `json:"partner"`
	// Snapshot is the entry as the backend answered last.
	Snapshot client.Entry `json:"snapshot"`
	// Plain says that the entry had no SRT passphrase when it was looked at
	// last; false is not known. The passphrase itself is kept nowhere.
	Plain bool `json:"plain,omitempty"`
	// Profile is zero when it could not be loaded.
	Profile profile.Profile `json:"profile,omitzero"`
	// Tokens are the accepted ones, oldest first, at most MaxTokens.
	Tokens        []TokenHash `json:"tokens,omitempty"`
	Authenticated time.Time   `json:"authenticated,omitzero"` // by liveStream.authenticate, at this index
	// Seen is the last moment at which the entry was known to be on air here, or
	// a publisher of it connected.
	Seen time.Time `json:"seen,omitzero"`
	// Ended is when the broadcast ended; zero while the grant counts.
	Ended time.Time `json:"ended,omitzero"`
}

// Key is the grant's key.
func (g Grant) Key() Key { return Key{Entry: g.Entry, Index: g.Index} }

// Last is the last moment at which the grant was known to be in use.
func (g Grant) Last() time.Time {
	if g.Seen.After(g.Authenticated) {
		return g.Seen
	}
	return g.Authenticated
}

// MaxTokens is how many tokens one grant accepts: the stream password, the
// encrypted SRT passphrase, and one of each from before they were changed.
const MaxTokens = 4

// Accepts reports whether the token is one of the accepted ones. How long it
// takes tells nothing of which, or of how much of it is right.
func (g Grant) Accepts(token string) bool {
	found := 0
	for _, h := range g.Tokens {
		found |= h.matches(token)
	}
	return found == 1
}

// Accept adds a token; the oldest goes when there are too many.
func (g *Grant) Accept(token string) {
	if g.Accepts(token) {
		return
	}
	kept := g.Tokens[max(0, len(g.Tokens)-MaxTokens+1):]
	g.Tokens = append(append(make([]TokenHash, 0, len(kept)+1), kept...), HashToken(token))
}

// saltSize is of the random salt of each hash, in bytes.
const saltSize = 16

// TokenHash is what is kept of a token: a random salt and the SHA-256 of salt
// and token. It keeps tokens out of backups, dumps and the eyes of whoever
// looks at the store. It is not meant to resist whoever steals the store and
// tries all tokens: those that the backend makes have 32 bits.
type TokenHash struct {
	Salt []byte `json:"salt"`
	Sum  []byte `json:"sum"`
}

// HashToken hashes a token with a salt of its own.
func HashToken(token string) TokenHash {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails
	return TokenHash{Salt: salt, Sum: sum(salt, token)}
}

func (h TokenHash) matches(token string) int {
	return subtle.ConstantTimeCompare(sum(h.Salt, token), h.Sum)
}

func sum(salt []byte, token string) []byte {
	h := sha256.New()
	h.Write(salt)
	h.Write([]byte(token))
	return h.Sum(nil)
}

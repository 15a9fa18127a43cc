package srt

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// How long a rejection is repeated to a caller who did not get it.
const rejectionKept = 3 * time.Second

// callKey tells callers apart who wait for an answer or have one.
type callKey struct {
	remote           netip.AddrPort
	socket, sequence uint32
}

// Call is a caller who waits for an answer: Accept or Reject it. He gives up
// after some time, mostly three seconds. Unlock is for one goroutine, the rest
// for any.
type Call struct {
	l          *Listener
	key        callKey
	hello      handshake
	extensions extensions
	at         int64

	keys   keyring
	unlock *unlocker

	answer atomic.Pointer[answer] // nil: not yet
}

// answer is what a caller was told.
type answer struct {
	text []byte
	at   int64
	conn *Conn // nil: he was turned away
}

var (
	errAnswered = errors.New("srt: the call was answered already")
	errUnsecure = errors.New("srt: a passphrase is needed, or none is wanted")
)

// Rejection is an error that has a code of the handshake.
type Rejection struct {
	Code int
	err  error
}

func (r *Rejection) Error() string { return r.err.Error() }
func (r *Rejection) Unwrap() error { return r.err }

// Remote is the caller's address.
func (c *Call) Remote() netip.AddrPort { return c.key.remote }

// StreamID is what the caller asks for; untrusted, at most MaxStreamID bytes.
func (c *Call) StreamID() string { return c.extensions.streamID }

// Encrypted reports whether the caller encrypts.
func (c *Call) Encrypted() bool { return c.extensions.keyMaterial != nil }

// Peer is what the caller calls itself: SRT has but a version, such as
// "SRT 1.5.1".
func (c *Call) Peer() string { return versionText(c.extensions.version) }

// Unlock checks that the caller has the passphrase, "" for none, as he must
// when the connection is to be encrypted. It answers nothing. The error is a
// *Rejection where the caller is to be told, else it says that the passphrase
// cannot be one.
func (c *Call) Unlock(passphrase string) error {
	u, err := newUnlocker(passphrase)
	switch {
	case err != nil:
		return err
	case u == nil != (c.extensions.keyMaterial == nil):
		return &Rejection{CodeUnsecure, errUnsecure}
	case u == nil:
		return nil
	}
	m, err := readKeyMaterial(c.extensions.keyMaterial)
	if err == nil {
		err = u.open(m, &c.keys)
	}
	switch {
	case errors.Is(err, errWrongSecret):
		return &Rejection{CodeBadSecret, err}
	case errors.Is(err, errCipher):
		return &Rejection{CodeCrypto, err}
	case errors.Is(err, errKeyMaterial):
		return &Rejection{CodeRogue, err}
	case err != nil:
		return err
	}
	c.unlock = u
	return nil
}

// Reject turns the caller away with a code, which reaches him as it is. It
// does nothing when he has an answer, and reports whether it did.
func (c *Call) Reject(code int) bool {
	kind := handshakeFailure + uint32(code) //nolint:gosec // a code
	a := &answer{
		text: c.reply(kind, c.hello.socket, 0).append(c.head(), c.key.remote.Addr()),
		at:   c.l.now(),
	}
	if !c.answer.CompareAndSwap(nil, a) {
		return false
	}
	c.l.send(a.text, c.key.remote)
	return true
}

// Accept lets the caller in, after Unlock where he encrypts. The connection
// is his who calls first.
func (c *Call) Accept() (*Conn, error) {
	now := c.l.now()
	x := &c.extensions
	n := &Conn{
		l: c.l, peer: c.hello.socket, remote: c.key.remote, latency: max(c.l.o.Latency, min(x.latency, MaxLatency)),
		secured: c.unlock != nil, unlock: c.unlock, keys: c.keys,
		ready: make(chan struct{}, 1), heard: now, sent: now, acked: c.hello.sequence, ackedAt: now,
	}
	n.buf = newBuffer(c.hello.sequence, n.latency)
	n.trip.answered = c.hello.sequence
	n.rate.began = now
	if err := c.l.admit(n); err != nil {
		return nil, err
	}
	brings := uint32(bringsHS)
	if c.unlock != nil {
		brings |= bringsKM
	}
	b := c.reply(handshakeConclusion, n.id, brings).append(c.head(), c.key.remote.Addr())
	b = appendExtension(b, extHSResponse, hsResponse(ourVersion, ourFlags, n.latency, 0))
	if c.unlock != nil {
		b = appendExtension(b, extKMResponse, x.keyMaterial)
	}
	if !c.answer.CompareAndSwap(nil, &answer{text: b, at: now, conn: n}) {
		c.l.drop(n)
		return nil, errAnswered
	}
	c.l.send(b, c.key.remote)
	return n, nil
}

func (c *Call) head() []byte {
	return control{kind: typeHandshake, timestamp: microseconds(c.l.now()), destination: c.hello.socket}.append(nil)
}

// reply is the answer to a conclusion. A rejection repeats the caller's own
// socket id.
func (c *Call) reply(kind, socket, brings uint32) handshake {
	h := c.hello
	h.version, h.extension, h.kind, h.socket = versionFive, brings, kind, socket
	h.mtu, h.window = min(h.mtu, mtu), window
	if brings&bringsKM == 0 {
		h.encryption = 0
	}
	return h
}

// conclude takes the second message of a caller whose cookie fits.
func (l *Listener) conclude(h handshake, p *packet, from netip.AddrPort) {
	key := callKey{from, h.socket, h.sequence}
	l.mu.RLock()
	known := l.calls[key]
	l.mu.RUnlock()
	if known != nil { // he says it until he has an answer
		if a := known.answer.Load(); a != nil {
			l.send(a.text, from)
		}
		return
	}
	c := &Call{l: l, key: key, hello: h, at: p.at}
	code := c.read(p.payload()[handshakeSize:])
	if code == 0 {
		code = int(l.refusing.Load())
	}
	l.mu.Lock()
	if len(l.calls) >= maxCalls {
		l.mu.Unlock()
		c.Reject(CodeBacklog) // and is forgotten
		l.stats.Rejected.Add(1)
		return
	}
	l.calls[key] = c
	l.mu.Unlock()
	l.stir()
	if code == 0 {
		select {
		case l.queue <- c:
			return
		default:
			code = CodeBacklog
		}
	}
	l.stats.Rejected.Add(1)
	c.Reject(code)
}

// read reads what the caller brings, and gives the code with which he is turned
// away; 0: he is not.
func (c *Call) read(b []byte) int {
	if c.hello.version != versionFive {
		return CodeVersion
	}
	x, err := readExtensions(slices.Clone(b)) // the key material stays
	if err != nil {
		return CodeRogue
	}
	c.extensions = x
	return x.refusal()
}

// over reports whether nobody will ask for the answer again.
func (c *Call) over(now int64) bool {
	a := c.answer.Load()
	switch {
	case a == nil:
		return false
	case a.conn != nil:
		return a.conn.gone.Load()
	}
	return now-a.at >= int64(rejectionKept)
}

// admit gives a connection its socket id and makes it known.
func (l *Listener) admit(c *Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrListenerClosed
	}
	for c.id == 0 || l.conns[c.id] != nil {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		c.id = binary.BigEndian.Uint32(b[:]) & (1<<30 - 1)
	}
	l.conns[c.id] = c
	l.stirLocked()
	return nil
}

// drop forgets a connection that nobody was told of.
func (l *Listener) drop(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c.id)
}

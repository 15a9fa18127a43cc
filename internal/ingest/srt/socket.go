//go:build srt

package srt

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/haivision/srtgo"

	"github.com/klive-media/klive/internal/ingest"
)

// socket is an accepted connection. Read is for one goroutine, the rest for
// any.
type socket struct {
	owner  *srtgo.SrtSocket // kept, as its finalizer closes it; used only to close
	handle srtgo.SrtSocket  // the same, for reading: Close of srtgo writes to what it closes
	remote netip.AddrPort
	once   sync.Once

	// use is held by whoever is inside libsrt with this socket. libsrt frees a
	// socket a second after it was closed, also under the feet of a thread that
	// is still inside and does not get to run: so it is closed only when nobody
	// is.
	use  sync.RWMutex
	gone bool // guarded by use
}

// readTurn is how long a read waits before it looks whether the socket is to
// be closed.
const readTurn = 200 * time.Millisecond

func newSocket(s *srtgo.SrtSocket, remote netip.AddrPort) *socket {
	// Should it fail the read waits for the peer, as long as libsrt lets it.
	_ = s.SetSockOptInt(optionReadTimeout, int(readTurn/time.Millisecond))
	return &socket{owner: s, handle: *s, remote: remote}
}

// Read waits for the next message and copies it into b, which must hold
// maxMessage bytes. Close ends it.
func (s *socket) Read(b []byte) (int, error) {
	for {
		n, err := s.readOnce(b)
		if !errors.Is(err, srtgo.ETimeout) && !errors.Is(err, srtgo.EAsyncRCV) {
			return n, err
		}
	}
}

func (s *socket) readOnce(b []byte) (int, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	if s.gone {
		return 0, srtgo.EInvSock
	}
	return s.handle.Read(b)
}

// Close says goodbye to the peer and wakes Read within readTurn. It may be
// called again.
func (s *socket) Close() {
	s.once.Do(func() {
		s.use.Lock() // who reads leaves at the end of its turn, and comes back to a closed socket
		defer s.use.Unlock()
		s.gone = true
		s.owner.Close()
	})
}

// option reads an option of the socket.
func (s *socket) option(name int) (int, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	if s.gone {
		return 0, srtgo.EInvSock
	}
	return s.handle.GetSockOptInt(name)
}

// streamID is what the caller sent in the handshake.
func (s *socket) streamID() (string, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	if s.gone {
		return "", srtgo.EInvSock
	}
	return streamIDOf(int(s.handle.GetSocket()))
}

// secured reports whether the peer encrypts and the keys fit.
func (s *socket) secured() bool {
	state, err := s.option(optionReceiveKM)
	return err == nil && state == keyMaterialSecured
}

// peer is what the peer calls itself: SRT has but a version.
func (s *socket) peer() string {
	v, err := s.option(optionPeerVersion)
	if err != nil || v == 0 {
		return ""
	}
	return fmt.Sprintf("SRT %d.%d.%d", v>>16&0xff, v>>8&0xff, v&0xff)
}

// sample keeps the statistics of the connection in a Link. They cannot be had
// any more once it broke; then the last ones stay.
func (s *socket) sample(l *ingest.Link) {
	st, err := s.stats()
	if err != nil {
		return
	}
	l.RTT.Store(int64(st.MsRTT * float64(time.Millisecond)))
	l.Latency.Store(int64(st.MsRcvTsbPdDelay) * int64(time.Millisecond))
	l.Buffered.Store(int64(st.MsRcvBuf) * int64(time.Millisecond))
	l.Rate.Store(int64(st.MbpsRecvRate * 1e6))
	l.Bandwidth.Store(int64(st.MbpsBandwidth * 1e6))
	l.Packets.Store(count(st.PktRecvTotal))
	l.Lost.Store(count(int64(st.PktRcvLossTotal)))
	l.Retransmitted.Add(count(int64(st.PktRcvRetrans))) // libsrt has no total of it; Stats begins it anew
	l.Dropped.Store(count(int64(st.PktRcvDropTotal)))
	l.Undecrypted.Store(count(int64(st.PktRcvUndecryptTotal)))
}

func (s *socket) stats() (*srtgo.SrtStats, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	if s.gone {
		return nil, srtgo.EInvSock
	}
	return s.handle.Stats()
}

func count(n int64) uint64 { return uint64(max(n, 0)) }

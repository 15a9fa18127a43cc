//go:build srt

package srt

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/haivision/srtgo"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/run"
)

// decide answers a caller in the handshake: false turns him away. libsrt calls
// it on the thread that receives for the whole port, so that it only looks at
// memory.
func (s *Server) decide(sock *srtgo.SrtSocket, addr *net.UDPAddr, streamID string) bool {
	var passphrase string
	err := run.Protect("srt handshake", func() (err error) {
		passphrase, err = s.admissible(remoteOf(addr), streamID, time.Now())
		return err
	})
	if p, ok := errors.AsType[*run.PanicError](err); ok {
		s.stats.Panics.Add(1)
		s.log.Error("an SRT caller was turned away by an error of the server", "panic", p.Value, "stack", string(p.Stack))
	}
	if err == nil && passphrase != "" {
		// The caller proves that he has it when libsrt goes on with the handshake.
		if err = sock.SetSockOptString(srtgo.SRTO_PASSPHRASE, passphrase); err != nil {
			s.log.Error("a passphrase of SRT cannot be used; it must have 10 to 79 bytes", "error", err)
		}
	}
	if err == nil {
		return true
	}
	e := fault.From(err)
	s.stats.refuse(e.Reason)
	_ = sock.SetRejectReason(Code(e)) // without it the caller hears of no reason
	return false
}

// admissible gives the passphrase that a caller must have, "" for none, or why
// he may not come in.
func (s *Server) admissible(remote netip.AddrPort, streamID string, now time.Time) (passphrase string, err error) {
	s.stats.Handshakes.Add(1)
	if s.places.Full(remote.Addr()) {
		return "", fault.New(fault.LimitExceeded, "the server has as many SRT connections as it may, or too many of this address")
	}
	if e := s.refused.find(remote.Addr(), streamID, now); e != nil {
		return "", e
	}
	a, err := s.o.Grammar.SRT(streamID)
	if err != nil {
		s.hear(ingest.Request{Protocol: "srt"}, remote, err)
		return "", err
	}
	a.Remote, a.Counters = remote, new(ingest.Counters)
	if passphrase, err = s.passphrase(a); err == nil && s.o.Check != nil {
		err = s.o.Check(a.Request)
	}
	if err != nil {
		s.hear(a.Request, remote, err)
		return "", err
	}
	return passphrase, nil
}

// passphrase is the one a caller must have: that of his address, else that of
// the stream, else the server's.
func (s *Server) passphrase(a ingest.SRTAddress) (string, error) {
	if a.Sealed != "" {
		return ingest.Unseal(a.Sealed, s.o.SealKey, s.o.SealVector)
	}
	if s.o.Passphrase != nil {
		if p, ok := s.o.Passphrase(a.Request); ok && p != "" {
			return p, nil
		}
	}
	return s.o.ServerPassphrase, nil
}

// hear leaves a refusal for the witness, unless too many wait.
func (s *Server) hear(r ingest.Request, remote netip.AddrPort, err error) {
	r.Remote, r.Counters = remote, new(ingest.Counters)
	select {
	case s.told <- testimony{request: r, err: err}:
	default:
	}
}

package srt

import (
	"context"
	"errors"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	wire "github.com/klive-media/klive/internal/srt"
)

const (
	// answerWithin is how long a caller waits for the gate in the handshake:
	// libsrt gives up after three seconds. Then he is let in, and hears of a
	// refusal with his next try.
	answerWithin = 2 * time.Second
	// passphraseWithin bounds the question for a stream's passphrase, which must
	// be answered before he can be let in.
	passphraseWithin = 2 * time.Second
)

// enter decides about a caller and answers him. An error says why he was
// turned away, and that he knows it or will with his next try.
func (c *conn) enter(ctx context.Context) (ingest.Publication, ingest.Request, error) {
	came := time.Now() // what follows takes of one patience
	a, err := c.s.admissible(ctx, c.call)
	r := a.Request
	r.Remote, r.Encoder, r.Counters = c.call.Remote(), c.call.Peer(), c.counters
	if err != nil {
		if r.Protocol == "" {
			r.Protocol = "srt"
		}
		if ctx.Err() == nil && c.s.o.Witness != nil {
			c.s.o.Witness.Refused(r, err)
		}
		return nil, r, c.refuse(err)
	}
	c.counters.Link.Encrypted.Store(c.call.Encrypted())
	late := time.AfterFunc(answerWithin-time.Since(came), c.letIn)
	pub, err := c.open(ctx, r)
	late.Stop()
	if err != nil {
		return nil, r, c.refuse(err)
	}
	if c.letIn(); c.sock == nil {
		err := fault.New(fault.ConnectionLost, "the encoder was gone before it could be let in")
		pub.Close(err)
		return nil, r, refusedError{err}
	}
	c.counters.Link.Latency.Store(int64(c.sock.Latency()))
	return pub, r, nil
}

// letIn answers the caller that he may come in; a second time it only waits
// until that is done.
func (c *conn) letIn() {
	c.entry.Do(func() { c.sock, _ = c.call.Accept() })
}

// refuse counts a refusal and tells the caller, or keeps it for his next try
// when he has an answer already.
func (c *conn) refuse(err error) error {
	e := fault.From(err)
	c.s.stats.refuse(e.Reason)
	code := Code(e)
	if r, ok := errors.AsType[*wire.Rejection](err); ok {
		code = r.Code
	}
	told := false
	c.entry.Do(func() { told = c.call.Reject(code) })
	if !told {
		c.s.refused.keep(c.call.Remote().Addr(), c.call.StreamID(), e, time.Now())
	}
	return refusedError{e}
}

// admissible reads what a caller asks for and sees that he has the passphrase.
// The address is as much as could be read.
func (s *Server) admissible(ctx context.Context, call *wire.Call) (ingest.SRTAddress, error) {
	if e := s.refused.find(call.Remote().Addr(), call.StreamID(), time.Now()); e != nil {
		return ingest.SRTAddress{}, e
	}
	a, err := s.o.Grammar.SRT(call.StreamID())
	if err != nil {
		return ingest.SRTAddress{}, err
	}
	a.Remote = call.Remote()
	passphrase, err := s.passphrase(ctx, a)
	if err != nil {
		return a, err
	}
	if call.Encrypted() {
		// To derive a key takes a millisecond of a core, on purpose: whoever sends
		// us many wrong passphrases gets one core at most.
		select {
		case s.deriving <- struct{}{}:
			defer func() { <-s.deriving }()
		case <-ctx.Done():
			return a, errDraining()
		}
	}
	return a, s.unlock(call, passphrase)
}

// unlock sees that a caller has the passphrase.
func (s *Server) unlock(call *wire.Call, passphrase string) error {
	err := call.Unlock(passphrase)
	rejection, told := errors.AsType[*wire.Rejection](err)
	switch {
	case err == nil:
		return nil
	case !told:
		s.log.Error("a passphrase of SRT cannot be used", "error", err)
		return fault.New(fault.InternalError, "the passphrase of the stream cannot be used").Because(err)
	case rejection.Code == wire.CodeBadSecret:
		return fault.New(fault.BadPassphrase, "the encoder encrypts with another passphrase than the stream's").Because(err)
	case rejection.Code == wire.CodeUnsecure && call.Encrypted():
		return fault.New(fault.BadPassphrase, "the encoder encrypts and the stream has no passphrase; clear the passphrase in the encoder").Because(err)
	case rejection.Code == wire.CodeUnsecure:
		return fault.New(fault.BadPassphrase, "the stream has a passphrase and the encoder does not encrypt; set the passphrase in the encoder").Because(err)
	}
	return fault.New(fault.ProtocolError, "the encoder's key material cannot be used: it must be made for AES-CTR").Because(err)
}

// passphrase is the one a caller must have: that of his address, else that of
// the stream, else the server's.
func (s *Server) passphrase(ctx context.Context, a ingest.SRTAddress) (string, error) {
	if a.Sealed != "" {
		return ingest.Unseal(a.Sealed, s.o.SealKey, s.o.SealVector)
	}
	if s.o.Passphrase != nil {
		ctx, cancel := context.WithTimeout(ctx, passphraseWithin)
		defer cancel()
		if p, err := s.o.Passphrase(ctx, a.Request); err != nil || p != "" {
			return p, err
		}
	}
	return s.o.ServerPassphrase, nil
}

// overloaded turns a caller away for whom there is no place.
func (s *Server) overloaded(call *wire.Call) {
	s.stats.refuse(fault.LimitExceeded)
	call.Reject(CodeOverloaded)
}

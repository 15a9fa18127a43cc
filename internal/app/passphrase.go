package app

import (
	"cmp"
	"context"

	"github.com/klive-media/klive/internal/control"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/stream"
)

// passphrases is how the SRT door finds the passphrase of the stream that a
// caller asks for: its own, or "" when it has none, and then the server's
// holds. It may wait as long as its context. Errors are *fault.Error, which the
// caller is told in the handshake; BACKEND_UNAVAILABLE asks it to try again.
func (s *Server) passphrases() func(ctx context.Context, r ingest.Request) (string, error) {
	if s.bridged() {
		return s.bridge.Passphrase
	}
	return s.catalog.Passphrase
}

// srt is how a stream is published by SRT at a server index: with its own
// passphrase, else with the one of the whole server, "" for none.
func (a *addresses) srt(e stream.Entry, secrets stream.Secrets, ofServer string, server int) control.PublishAddress {
	passphrase := cmp.Or(secrets.Passphrase, ofServer)
	paste := a.grammar.SRTPaste(a.host("srt", ""), ingest.Request{
		Stream: e.ID, Index: 1, ServerIndex: server, Partner: e.Partner, Token: secrets.Token,
	}).Encrypted(passphrase)
	return control.PublishAddress{
		Protocol: "srt", ServerIndex: server, URL: paste.URL, Server: paste.Server, Key: paste.StreamID, Passphrase: passphrase,
	}
}

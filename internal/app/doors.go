package app

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/klive-media/klive/internal/ingest/rtmp"
	"github.com/klive-media/klive/internal/ingest/srt"
	wire "github.com/klive-media/klive/internal/srt"
)

// openDoors makes the doors in; adding a protocol adds a row here.
func (s *Server) openDoors(ctx context.Context) error {
	for _, open := range []func(context.Context) error{s.openRTMP, s.openSRT} {
		if err := open(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) openRTMP(ctx context.Context) error {
	stats := new(rtmp.Stats)
	s.collectRTMP(stats)
	l, err := s.listen(ctx, "rtmp", s.cfg.RTMP.Listen)
	if err != nil {
		return err
	}
	s.rtmpDoor("rtmp", l, stats)
	return s.openRTMPS(ctx, stats)
}

// openRTMPS makes the same door over TLS, when there is a certificate.
func (s *Server) openRTMPS(ctx context.Context, stats *rtmp.Stats) error {
	c := s.cfg.RTMP.TLS
	if !c.Enabled() {
		return nil
	}
	pair, err := newCertificate(c.Cert, c.Key, s.log)
	if err != nil {
		return err
	}
	l, err := s.listen(ctx, "rtmps", c.Listen)
	if err != nil {
		return err
	}
	// The handshake is done by the first read of each connection, within its
	// own deadline, and never holds up the listener.
	s.rtmpDoor("rtmps", tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.get}), stats)
	return nil
}

func (s *Server) rtmpDoor(name string, l net.Listener, stats *rtmp.Stats) {
	s.doors = append(s.doors, door{name, rtmp.New(rtmp.Options{
		Protocol: name, Listener: l, Gate: s.registry, Witness: s.registry, Grammar: s.grammar, Log: s.log, Stats: stats,
		MaxConnections: s.cfg.RTMP.MaxConnections, MaxWaiting: s.cfg.RTMP.MaxWaiting,
		HandshakeTimeout: s.cfg.RTMP.HandshakeTimeout, WriteTimeout: s.cfg.RTMP.WriteTimeout,
		Draining: s.health.Draining(),
	})})
}

func (s *Server) openSRT(ctx context.Context) error {
	c := s.cfg.SRT
	l, err := wire.Listen(ctx, c.Listen, wire.Options{Latency: c.Latency})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, l.Close)
	s.listened("srt", l.Addr())
	o := srt.Options{
		Listener: l, Gate: s.registry, Witness: s.registry, Grammar: s.grammar, Log: s.log, Stats: new(srt.Stats),
		MaxConnections: c.MaxConnections, MaxWaiting: c.MaxWaiting, ServerPassphrase: c.Passphrase.Reveal(),
		Passphrase: s.passphrases(),
	}
	if s.bridged() {
		o.SealKey, o.SealVector = s.cfg.Kaltura.SealKey(), s.cfg.Kaltura.SRTIV.Reveal()
	}
	s.collectSRT(o.Stats, l.Stats())
	s.doors = append(s.doors, door{"srt", srt.New(o)})
	return nil
}

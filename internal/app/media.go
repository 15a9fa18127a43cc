package app

import (
	"context"

	"github.com/klive-media/klive/internal/egress/hls"
	"github.com/klive-media/klive/internal/egress/web"
)

// openMedia makes the doors out that viewers come to over HTTP; adding an
// output there adds a mount.
func (s *Server) openMedia(ctx context.Context) error {
	playback, err := s.playback()
	if err != nil {
		return err
	}
	s.playlists = hls.New(hls.Options{Store: s.shelves, Playback: playback, LowLatency: s.cfg.HLS.LowLatency})
	s.media, err = web.Listen(ctx, web.Options{
		Listen:   s.cfg.MediaHTTP.Listen,
		CertFile: s.cfg.MediaHTTP.TLS.Cert, KeyFile: s.cfg.MediaHTTP.TLS.Key,
		CORSOrigins: s.cfg.MediaHTTP.CORSOrigins, MaxViewers: s.cfg.Limits.MaxViewers,
		Mounts: []web.Mount{
			{Prefix: "/live/", Handler: s.playlists, Viewers: true, Methods: "GET, HEAD", Headers: "Range, Authorization"},
			{Prefix: "/kLive/", Handler: s.playlists, Viewers: true, Methods: "GET, HEAD", Headers: "Range, Authorization"},
		},
		Log: s.log,
	})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.media.Close)
	s.listened("media-http", s.media.Addr())
	s.collectPlayback()
	return nil
}

package app

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/klive-media/klive/internal/control"
	"github.com/klive-media/klive/internal/control/ctl"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/stream"
)

// addresses builds what people paste: it alone knows grammar and listeners.
type addresses Server

var _ control.Addresses = (*addresses)(nil)

// Publish implements control.Addresses.
func (a *addresses) Publish(e stream.Entry, secrets stream.Secrets) control.AddressBook {
	token := secrets.Token
	media := a.mediaURL()
	book := control.AddressBook{
		Player:   media + "/live/" + e.ID + "/",
		Playlist: media + "/live/" + e.ID + "/index.m3u8",
	}
	schemes := []string{"rtmp"}
	if a.cfg.RTMP.TLS.Enabled() {
		schemes = []string{"rtmps", "rtmp"}
	}
	for _, scheme := range schemes {
		for server := range 2 {
			paste := a.rtmp(scheme, e, token, server)
			book.Publish = append(book.Publish, control.PublishAddress{
				Protocol: scheme, ServerIndex: server, URL: paste.URL, Server: paste.Server, Key: paste.Key,
			})
		}
	}
	for server := range 2 {
		book.Publish = append(book.Publish, a.srt(e, secrets, a.cfg.SRT.Passphrase.Reveal(), server))
	}
	return book
}

func (a *addresses) rtmp(scheme string, e stream.Entry, token string, server int) ingest.RTMPPaste {
	standard := "1935"
	if scheme == "rtmps" {
		standard = "443" // what players and encoders take a missing port for
	}
	return a.grammar.RTMPPaste(scheme, a.host(scheme, standard), ingest.Request{
		Stream: e.ID, Index: 1, ServerIndex: server, Partner: e.Partner, Token: token,
	})
}

func (a *addresses) mediaURL() string {
	scheme, port := "http", "80"
	if a.cfg.MediaHTTP.TLS.Enabled() {
		scheme, port = "https", "443"
	}
	return scheme + "://" + a.host("media-http", port)
}

// host is the listener's address as others reach it; a listener on every
// address is shown by the machine's name, or as localhost where it has none.
// The port is left out where it is the scheme's own.
func (a *addresses) host(listener, standard string) string {
	for _, l := range a.listeners {
		if l.Name != listener {
			continue
		}
		host, port, err := net.SplitHostPort(l.Address)
		if err != nil {
			return l.Address
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = machineName()
		}
		if port == standard {
			if strings.Contains(host, ":") {
				return "[" + host + "]"
			}
			return host
		}
		return net.JoinHostPort(host, port)
	}
	return "localhost"
}

// machineName is the address by which this machine's neighbours most likely
// reach it: that of its first interface that is up and not loopback.
func machineName() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "localhost"
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	return "localhost"
}

// srtForFFmpeg is how ffmpeg is told in a shell to publish by SRT. It does not
// decode a passphrase in a URL, so that one with other characters than a URL
// always leaves alone is an option.
func (a *addresses) srtForFFmpeg(e stream.Entry, token string) string {
	passphrase, secrets := a.cfg.SRT.Passphrase.Reveal(), stream.Secrets{Token: token}
	if url.QueryEscape(passphrase) == passphrase {
		return `"` + a.srt(e, secrets, passphrase, 0).URL + `"`
	}
	return "-passphrase '" + strings.ReplaceAll(passphrase, "'", `'\''`) + `' "` + a.srt(e, secrets, "", 0).URL + `"`
}

// ctlFlags are what `klive ctl` must be told to reach this server. The shell
// it is typed in may find another configuration than this server's.
func (a *addresses) ctlFlags() string {
	flags := ""
	if address := localAddress(a.control.GRPCAddr()); address != ctl.DefaultAddress {
		flags += " --address " + address
	}
	if a.cfg.Control.TLS.Enabled() {
		flags += " --tls-ca " + a.cfg.Control.TLS.Cert
	}
	if len(a.cfg.Auth.Tokens) > 0 {
		flags += " --token TOKEN"
	}
	return flags
}

// localAddress is how this machine reaches a listener of its own.
func localAddress(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// announce prints, at the first start only, how to publish the first stream.
// It writes to the output and not to the log, as the addresses hold a token.
func (s *Server) announce(ctx context.Context) error {
	if s.bridged() {
		return nil // the backend hands out addresses
	}
	e, token, made, err := s.catalog.FirstStart(ctx)
	if err != nil || !made {
		return err
	}
	s.events.Record(stream.Event{Type: stream.StreamCreated, Stream: e.ID, Message: "made at the first start"})
	a := (*addresses)(s)
	scheme := "rtmp"
	if s.cfg.RTMP.TLS.Enabled() {
		scheme = "rtmps"
	}
	paste := a.rtmp(scheme, e, token, 0)
	media := a.mediaURL()
	program := "bin/klive"
	if len(os.Args) > 0 {
		program = os.Args[0]
	}
	overview, flags := "http", a.ctlFlags()
	if s.cfg.Control.TLS.Enabled() {
		overview = "https"
	}
	_, err = fmt.Fprintf(s.opts.Output, `
This is the first start: a stream named %q was made. Its stream key is a secret.

  OBS      Settings > Stream > Service: Custom
             Server      %s
             Stream Key  %s
  ffmpeg   ffmpeg -re -i FILE -c:v libx264 -g 60 -c:a aac -f flv "%s"
  SRT      ffmpeg -re -i FILE -c:v libx264 -g 60 -c:a aac -f mpegts %s
  Watch    %s/live/%s/
  Control  %s://%s/   or   %s ctl%s streams list

  See the addresses again with: %s ctl%s streams addresses %s

`, e.ID, paste.Server, paste.Key, paste.URL, a.srtForFFmpeg(e, token), media, e.ID, overview, localAddress(s.control.HTTPAddr()), program, flags, program, flags, e.ID)
	if err != nil {
		return fmt.Errorf("print the first addresses: %w", err)
	}
	return nil
}

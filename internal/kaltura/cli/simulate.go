// Package cli is the command line of what belongs to Kaltura: `klive kaltura`.
//
// Command is the type to read first. It is a kong command: a program embeds
// it in its own and binds a context.Context before it runs.
package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/kaltura/ks"
	"github.com/klive-media/klive/internal/run"
)

// Command is `klive kaltura`.
type Command struct {
	Simulate SimulateCommand `cmd:"" help:"Run a simulated Kaltura backend, to try things without a Kaltura install."`
}

// SimulateCommand is `klive kaltura simulate`.
type SimulateCommand struct {
	Listen    string   `help:"Address to answer on. There is no password on its switches: keep it on loopback." default:"127.0.0.1:8088" placeholder:"HOST:PORT"`
	Partner   int      `help:"Partner that owns the entries." default:"102"`
	Secret    string   `help:"Admin secret of the partner and of partner -5; else a random one." placeholder:"TEXT"`
	ECDN      bool     `name:"ecdn" help:"Let the partner run its own media servers, which upload recordings."`
	Entry     []string `help:"Id of a live entry; may be repeated." default:"0_simulate" placeholder:"ID"`
	Entries   int      `help:"Make so many more entries, for load." default:"0" placeholder:"N"`
	Token     string   `help:"Token of the entries; else a random one." placeholder:"TEXT"`
	SRTPass   string   `name:"srt-passphrase" help:"SRT passphrase of the entries, 10 to 79 bytes; else they have none." placeholder:"TEXT"`
	Profile   string   `help:"Conversion profile of the entries: ${enum}." enum:"passthrough,transcode,hd" default:"passthrough"`
	Record    string   `help:"Recording of the entries: ${enum}." enum:"off,appended,per-session" default:"off"`
	Preview   bool     `help:"Entries begin in preview: only who may preview sees them until they go live."`
	Quota     int      `help:"Entries the partner may have on air at once." default:"100000"`
	DVR       int      `name:"dvr" help:"DVR window of the entries in minutes; 0 is off." default:"0" placeholder:"MINUTES"`
	Hostname  []string `help:"Host name of a media server that is known from the start; may be repeated." placeholder:"NAME"`
	MediaURL  string   `name:"media-url" help:"Where players reach the media server." default:"http://127.0.0.1:8080" placeholder:"URL"`
	RTMP      string   `name:"rtmp" help:"Where encoders reach the media server, for the addresses printed." default:"127.0.0.1:1935" placeholder:"HOST:PORT"`
	Directory string   `help:"Folder that takes recordings and uploads; else uploads stay in memory." type:"path" placeholder:"DIR"`
	Shared    string   `name:"shared-directory" help:"Disk shared with the media server: files below it can be appended by path." type:"path" placeholder:"DIR"`
	Legacy    bool     `help:"Answer mediaServer.reportStatus, as backends before 2016 do."`
}

// stopTimeout is how long calls may take to finish when the simulator stops.
const stopTimeout = 2 * time.Second

// Run answers until ctx ends. It prints what to put where, once it listens.
func (s *SimulateCommand) Run(ctx context.Context, program *kong.Kong) error {
	options := s.options()
	backend, err := kalturatest.New(options)
	if err != nil {
		return err
	}
	for _, folder := range []string{s.Directory, s.Shared} {
		if folder != "" {
			if err := os.MkdirAll(folder, 0o750); err != nil {
				return fmt.Errorf("make the folder: %w", err)
			}
		}
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", s.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", s.Listen, err)
	}
	if err := s.explain(program.Stdout, listener.Addr().String(), options); err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{Handler: backend, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	group := run.New(ctx)
	err = group.Go("kaltura simulator", func(context.Context) error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	if err != nil {
		if ctx.Err() != nil { // it was stopped while it started
			err = nil
		}
		return errors.Join(err, listener.Close())
	}
	<-group.Context().Done()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := server.Shutdown(stop); err != nil {
		_ = server.Close() // calls that hang are cut; nothing is kept anyway
	}
	return group.Wait()
}

var entryID = regexp.MustCompile(`^[01]_[0-9A-Za-z_]{8}$`)

// maxEntries bounds --entries; their ids have four digits.
const maxEntries = 10_000

// Validate says which flag is wrong; kong calls it while it parses.
func (s *SimulateCommand) Validate() error {
	if s.Partner <= 0 {
		return errors.New("--partner is a positive number: those below belong to the backend itself")
	}
	if s.Quota < 1 {
		return errors.New("--quota is at least 1")
	}
	if s.Entries < 0 || s.Entries > maxEntries {
		return fmt.Errorf("--entries is between 0 and %d", maxEntries)
	}
	if s.SRTPass != "" && (len(s.SRTPass) < 10 || len(s.SRTPass) > 79) {
		return errors.New("--srt-passphrase has 10 to 79 bytes")
	}
	for _, id := range s.Entry {
		if !entryID.MatchString(id) {
			return fmt.Errorf("--entry %q is no entry id: it is 0_ or 1_ and eight letters, digits or underscores", id)
		}
	}
	return nil
}

// options turns the flags into a backend.
func (s *SimulateCommand) options() kalturatest.Options {
	if s.Secret == "" {
		s.Secret = randomHex(16)
	}
	if s.Token == "" {
		s.Token = randomHex(4)
	}
	features := []string{kalturatest.FeatureLive, kalturatest.FeatureTranscode}
	if s.ECDN {
		features = append(features, kalturatest.FeatureMediaServer, kalturatest.FeatureServerNode, kalturatest.FeatureHybrid)
	}
	o := kalturatest.Options{
		Partners: []kalturatest.Partner{
			{ID: kalturatest.MediaServerPartner, Secret: ks.Secret(s.Secret)},
			{ID: s.Partner, Secret: ks.Secret(s.Secret), Features: features, MaxPassthrough: s.Quota, MaxTranscoded: s.Quota},
		},
		Directory: s.Directory, SharedDirectory: s.Shared, MediaURL: s.MediaURL, Legacy: s.Legacy,
	}
	ids := append([]string{}, s.Entry...)
	for i := range s.Entries {
		ids = append(ids, fmt.Sprintf("0_load%04d", i))
	}
	for _, id := range ids {
		o.Entries = append(o.Entries, kalturatest.Entry{ID: id, Partner: s.Partner, Token: ks.Secret(s.Token), SRTPassphrase: ks.Secret(s.SRTPass), Profile: profileIDs[s.Profile],
			Record: recordings[s.Record], DVR: s.DVR > 0, DVRWindow: s.DVR,
			ExplicitLive: s.Preview})
	}
	owner := kalturatest.MediaServerPartner
	if s.ECDN {
		owner = s.Partner
	}
	for _, host := range s.Hostname {
		o.Nodes = append(o.Nodes, kalturatest.Node{Partner: owner, Name: host, HostName: host, Status: kalturatest.NodeActive, Application: "kLive"})
	}
	return o
}

var profileIDs = map[string]int{
	"passthrough": kalturatest.ProfilePassthrough,
	"transcode":   kalturatest.ProfileTranscode,
	"hd":          kalturatest.ProfileHD,
}

var recordings = map[string]kalturatest.RecordStatus{
	"off":         kalturatest.RecordOff,
	"appended":    kalturatest.RecordAppended,
	"per-session": kalturatest.RecordPerSession,
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b)
}

// sessionLife is how long the printed session is good.
const sessionLife = 24 * time.Hour

// explain prints what to put where. The secrets are shown on purpose: they
// are the simulator's own, made to be pasted.
func (s *SimulateCommand) explain(w io.Writer, address string, o kalturatest.Options) error {
	base := "http://" + address
	partner, mode := s.actor()
	var b strings.Builder
	fmt.Fprintf(&b, "A simulated Kaltura backend answers at %s\n\n", base)
	fmt.Fprintf(&b, "For the media server:\n  service URL    %s\n  mode           %s\n  partner        %d\n  admin secret   %s\n", base, mode, partner, s.Secret)
	for _, host := range s.Hostname {
		fmt.Fprintf(&b, "  host name      %s\n", host)
	}
	fmt.Fprintf(&b, "\nThe same for the configuration file of kLive:\n\n%s", s.section(base))
	b.WriteString("\nFor encoders (server, then stream key):\n")
	for i, e := range o.Entries {
		if i == len(s.Entry)+3 {
			fmt.Fprintf(&b, "  … and %d more entries\n", len(o.Entries)-i)
			break
		}
		fmt.Fprintf(&b, "  rtmp://%s/kLive/?p=%d&e=%s&i=0&t=%s\n  %s_1\n", s.RTMP, s.Partner, e.ID, s.Token, e.ID)
		if i == 0 {
			fmt.Fprintf(&b, "  (a backup encoder sends the same with i=1)\n")
		}
	}
	first := "0_simulate"
	if len(o.Entries) > 0 {
		first = o.Entries[0].ID
	}
	fmt.Fprintf(&b, "\nFor players, once an entry is playable:\n  %s/p/%d/sp/%d00/playManifest/entryId/%s/format/applehttp/protocol/http/a.m3u8\n", base, s.Partner, s.Partner, first)
	session := ks.Sign(ks.Secret(s.Secret), ks.Session{Partner: partner, Type: ks.Admin, Expires: time.Now().Add(sessionLife), User: "simulate",
		Privileges: ks.ParsePrivileges("disableentitlement")})
	fmt.Fprintf(&b, "\nAn admin session, which the control API of the media server takes as a bearer for a day:\n  export KLIVE_CTL_TOKEN=%s\n", session.Reveal())
	fmt.Fprintf(&b, "\nTo look and to break:\n  curl %[1]s/simulator/state\n  curl -d '{\"kind\":\"down\",\"times\":3}' %[1]s/simulator/faults\n  curl -X DELETE %[1]s/simulator/faults\n  curl -X POST %[1]s/simulator/sessions:revoke\n\n", base)
	_, err := io.WriteString(w, b.String())
	return err
}

// actor is the partner whose secret the media server uses, and the mode in
// words.
func (s *SimulateCommand) actor() (partner int, mode string) {
	if s.ECDN {
		return s.Partner, "ecdn (the partner acts for itself)"
	}
	return kalturatest.MediaServerPartner, "saas (partner -5 acts for the entry's partner)"
}

// section is the section kaltura of a configuration that fits.
func (s *SimulateCommand) section(base string) string {
	var b strings.Builder
	partner, _ := s.actor()
	mode := "saas"
	if s.ECDN {
		mode = "ecdn"
	}
	fmt.Fprintf(&b, "kaltura:\n  mode: %s\n  url: %s\n  partner_id: %d\n  admin_secret: %q\n", mode, base, partner, s.Secret)
	if len(s.Hostname) > 0 {
		fmt.Fprintf(&b, "  hostname: %q\n", s.Hostname[0])
	}
	switch {
	case s.ECDN: // recordings are uploaded
	case s.Shared != "":
		fmt.Fprintf(&b, "  shared_directory: %q\n", s.Shared)
	default: // without a shared disk a path would not be found
		b.WriteString("  delivery: upload\n")
	}
	return b.String()
}

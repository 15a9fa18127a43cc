package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/config"
	"github.com/klive-media/klive/internal/control"
	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/egress/record"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/kaltura"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/delivery"
	"github.com/klive-media/klive/internal/kaltura/ks"
	"github.com/klive-media/klive/internal/kaltura/lifecycle"
	"github.com/klive-media/klive/internal/kaltura/syncpoint"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment"
)

// bridged reports whether a Kaltura backend is the authority.
func (s *Server) bridged() bool { return s.cfg.Kaltura.Enabled() }

// openBridge makes the bridge to the Kaltura backend, when there is one.
func (s *Server) openBridge(ctx context.Context) error {
	k := s.cfg.Kaltura
	host := k.Hostname
	if host == "" {
		var err error
		if host, err = fullHostname(ctx, os.Hostname); err != nil {
			return err
		}
	}
	encoding := client.JSON
	if k.Encoding == "form" {
		encoding = client.Form
	}
	way := delivery.Upload
	if k.SharedDisk() {
		way = delivery.SharedDisk
	}
	s.grammar = ingest.KalturaGrammar(k.Application)
	var err error
	s.bridge, err = kaltura.Open(ctx, kaltura.Options{
		SaaS: k.Mode == config.KalturaSaaS, URL: k.URL, Partner: k.PartnerID, Secret: ks.Secret(k.AdminSecret.Reveal()),
		Host: host, Application: k.Application, ReconnectWindow: k.ReconnectWindow,
		Encoding: encoding, SessionVersion: k.SessionVersion, StartSession: k.Session == "start", Timeout: k.Timeout,
		Profile: k.Profile, NodeType: k.NodeType, NodeReport: k.NodeReport,
		Delivery: way, SharedDir: k.SharedDirectory, BackendDir: k.BackendDirectory, ChunkSize: int64(k.UploadChunk),
		WorkDir: filepath.Join(s.cfg.DataDir, "handover"),
		Version: s.opts.Version, Start: s.start,
		Store: s.store, Journal: s.events, Logger: s.log, Observer: newBridgeCalls(s.metrics),
	})
	if err != nil {
		return fmt.Errorf("open the bridge to Kaltura: %w", err)
	}
	s.log.Info("the Kaltura backend decides about publishers", "mode", k.Mode, "url", k.URL, "partner", k.PartnerID, "host", host)
	return nil
}

// hostTimeout bounds how long the name service is asked for this host's name.
const hostTimeout = 2 * time.Second

var errNoHostname = errors.New("this machine has no host name of its own, by which the Kaltura backend could tell it from others; set kaltura.hostname")

// fullHostname is what `hostname -f` prints: the host's name with its domain,
// where the name service knows it. A host without a name of its own gets none:
// servers of one name would take each other's entries.
func fullHostname(ctx context.Context, hostname func() (string, error)) (string, error) {
	name, err := hostname()
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", errNoHostname, err)
	case name == "" || name == "localhost":
		return "", errNoHostname
	}
	if strings.Contains(name, ".") {
		return name, nil
	}
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	full, err := net.DefaultResolver.LookupCNAME(ctx, name)
	if full = strings.TrimSuffix(full, "."); err != nil || !strings.HasPrefix(full, name+".") {
		return name, nil
	}
	return full, nil
}

// openRecorder makes the recorder and, behind a backend, the queue that
// delivers what it records.
func (s *Server) openRecorder(ctx context.Context) error {
	dir := s.cfg.Recording.Directory
	if dir == "" {
		dir = filepath.Join(s.cfg.DataDir, "recordings")
	}
	dir, err := filepath.Abs(dir) // a backend that shares the disk is told the path
	if err != nil {
		return fmt.Errorf("find recording.directory: %w", err)
	}
	o := record.Options{
		Store: s.shelves, Dir: dir, SegmentDuration: s.cfg.Recording.SegmentDuration, Retention: s.cfg.Recording.Retention,
		Journal: s.events, Logger: s.log,
	}
	group, set, err := groupID(s.cfg.Recording.Group)
	if err != nil {
		return err
	}
	if set {
		o.Group = &group
	}
	if s.bridged() {
		o.Held = s.bridge.Holds
		o.Mark = markRecording
	}
	if s.recorder, err = record.New(o); err != nil {
		return fmt.Errorf("open the recordings: %w", err)
	}
	s.outputs = append(s.outputs, s.recorder)
	if !s.bridged() {
		return nil
	}
	s.outputs = append(s.outputs, s.bridge.Outputs()...)
	return s.bridge.Deliver(ctx, s.recorder, group)
}

// groupID finds a group by its name or number; set is false for "", id is 0
// then.
func groupID(name string) (id int, set bool, err error) {
	if name == "" {
		return 0, false, nil
	}
	if id, err = strconv.Atoi(name); err == nil && id >= 0 {
		return id, true, nil
	}
	group, err := user.LookupGroup(name)
	if err != nil {
		return 0, false, fmt.Errorf("recording.group: this machine has no group %q; make it, or name another", name)
	}
	if id, err = strconv.Atoi(group.Gid); err != nil {
		return 0, false, fmt.Errorf("recording.group: %q has no number: %w", name, err)
	}
	return id, true, nil
}

// markRecording is the sync point in a recording's data track.
func markRecording(i egress.Info, rendition string, n int, at time.Time) []byte {
	return syncpoint.AMF(fmt.Sprintf("%s_%s_%d", i.Stream, rendition, n), at)
}

// markSegment is the sync point at the start of a segment.
func markSegment(shelf segment.ShelfID, row segment.RowID, number uint64, at time.Time) []byte {
	return syncpoint.ID3(fmt.Sprintf("%s_%s_%d", shelf.Stream, row.Rendition, number), at)
}

// attachBridge gives the bridge what is on air.
func (s *Server) attachBridge(ctx context.Context) error {
	air := kaltura.Air{Live: s.registry, Measured: s.measured, Plays: s.plays, Record: s.registry.SetRecording}
	if err := s.bridge.Attach(ctx, air); err != nil {
		return fmt.Errorf("attach the bridge to Kaltura: %w", err)
	}
	s.collectBridge()
	return nil
}

// runBridge runs the bridge once all that a restart interrupted is back.
func (s *Server) runBridge(ctx context.Context) error {
	select {
	case <-s.registry.Restored():
		return s.bridge.Run(ctx)
	case <-ctx.Done():
		return nil
	}
}

// measured is what the segmenter knows of an entry's renditions.
func (s *Server) measured(entry string, index int) []lifecycle.Measured {
	shelf, ok := s.shelves.Shelf(segment.ShelfID{Stream: entry, ServerIndex: index})
	if !ok {
		return nil
	}
	infos, _ := shelf.Renditions()
	var out []lifecycle.Measured
	for _, info := range infos {
		if !info.Listed {
			continue
		}
		m := lifecycle.Measured{Rendition: info.ID}
		for _, x := range info.Rows {
			if x == nil {
				continue
			}
			if newer := shelf.Index(x.Row); newer != nil {
				x = newer
			}
			switch x.Row.Kind {
			case media.Video:
				m.VideoBitrate, m.FrameRate = x.PeakBitrate, x.FrameRate
			case media.Audio:
				m.AudioBitrate = x.PeakBitrate
			}
		}
		out = append(out, m)
	}
	return out
}

// plays reports whether an entry has a whole segment to play. The addresses
// that the backend sends players to list nothing shorter.
func (s *Server) plays(entry string, index int) bool {
	shelf, ok := s.shelves.Shelf(segment.ShelfID{Stream: entry, ServerIndex: index})
	if !ok {
		return false
	}
	infos, _ := shelf.Renditions()
	return slices.ContainsFunc(infos, func(info segment.RenditionInfo) bool {
		return info.Listed && !slices.ContainsFunc(info.Rows, func(x *segment.Index) bool {
			if x == nil {
				return false
			}
			newest := shelf.Index(x.Row)
			return newest == nil || len(newest.Closed) == 0
		})
	})
}

// playback says who may watch: everybody, but an entry in preview is for those
// who may see the control API.
func (s *Server) playback() (auth.Playback, error) {
	if !s.bridged() {
		return auth.OpenPlayback{}, nil
	}
	a, err := s.authenticator()
	if err != nil {
		return nil, err
	}
	if a.Tokens == nil {
		return s.bridge.Playback(s.bridge.Verifier()), nil
	}
	return s.bridge.Playback(a.Tokens), nil
}

// diagnostics are the old engine's addresses; killConnection changes something
// and checks the role by itself.
func (s *Server) diagnostics() []control.Mount {
	if !s.bridged() {
		return nil
	}
	return []control.Mount{{Path: "/diagnostics/", Role: auth.Viewer, Handler: s.bridge.Diagnostics()}}
}

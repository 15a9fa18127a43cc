package record

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/klive-media/klive/internal/egress"
)

// sidecar is what the files of a recording do not say themselves. Which pieces
// there are stands in their names, what they are in their own notes.
type sidecar struct {
	Version     int                  `json:"version"`
	ID          string               `json:"id"`
	Stream      string               `json:"stream"`
	ServerIndex int                  `json:"server_index"`
	Broadcast   string               `json:"broadcast"`
	Partner     int                  `json:"partner,omitempty"`
	Mode        egress.RecordingMode `json:"mode"`
	OnAir       time.Time            `json:"on_air"` // when the broadcast began: its stream time 0
	Start       time.Time            `json:"start"`
	Closing     time.Time            `json:"closing,omitzero"`
	End         time.Time            `json:"end,omitzero"`
	Deleting    bool                 `json:"deleting,omitempty"`
	Err         string               `json:"error,omitempty"`
	Gaps        []gap                `json:"gaps,omitempty"`
	// Next is, once the broadcast ended, the number of the segment after the
	// newest that was recorded, by rendition.
	Next map[string]uint64 `json:"next,omitempty"`
}

// gap is media that is missing in a rendition.
type gap struct {
	Rendition string        `json:"rendition"`
	At        time.Duration `json:"at"` // stream time
	Duration  time.Duration `json:"duration"`
}

const (
	sidecarVersion = 1
	maxSidecar     = 1 << 20
	maxGaps        = 1000 // that are kept; all are counted
)

// sidecar is the recording's; mu is held.
func (c *recording) sidecar() sidecar {
	s := sidecar{
		Version: sidecarVersion, ID: c.id, Stream: c.info.Stream, ServerIndex: c.info.ServerIndex,
		Broadcast: c.info.Broadcast, Partner: c.info.Partner, Mode: c.info.Policy.Recording, OnAir: c.info.Start,
		Start: c.began, Closing: c.closing, End: c.end, Deleting: c.deleting, Err: c.err,
		Gaps: append([]gap(nil), c.gaps...),
	}
	if !c.closing.IsZero() {
		s.Next = make(map[string]uint64, len(c.renditions))
		for id, d := range c.renditions {
			s.Next[id] = d.next
		}
	}
	return s
}

// parseSidecar reads a sidecar that stands in the folder of the recording id.
func parseSidecar(b []byte, id string) (s sidecar, err error) {
	if len(b) > maxSidecar {
		return s, fmt.Errorf("%d bytes are too many", len(b))
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("decode: %w", err)
	}
	switch {
	case s.Version != sidecarVersion:
		return s, fmt.Errorf("version %d is not known", s.Version)
	case s.ID != id:
		return s, fmt.Errorf("it is of the recording %q", s.ID)
	case s.Stream == "" || s.ServerIndex < 0 || s.ServerIndex > 9 || s.OnAir.IsZero():
		return s, fmt.Errorf("it does not say what was recorded")
	}
	if len(s.Gaps) > maxGaps {
		s.Gaps = s.Gaps[:maxGaps]
	}
	return s, nil
}

// save writes a recording's sidecar: after a crash it is the old or the new
// one, whole.
func (r *Recorder) save(c *recording) error {
	r.mu.Lock()
	s := c.sidecar()
	r.mu.Unlock()
	b, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return fmt.Errorf("describe recording: %w", err)
	}
	path := filepath.Join(c.dir, sidecarName)
	f, err := os.CreateTemp(c.dir, ".new-*")
	if err != nil {
		return fmt.Errorf("write recording's description: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Chmod(0o640)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = r.at("description written")
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = r.at("description renamed")
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write recording's description: %w", err)
	}
	return syncDir(c.dir)
}

// syncDir makes names in a folder outlast a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

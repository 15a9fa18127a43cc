package rtmp

import (
	"time"

	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/media"
)

// changed is called when a track was found or has changed.
func (d *demuxer) changed(now time.Time) error {
	if d.announced {
		return d.announce()
	}
	if d.firstAt.IsZero() {
		d.firstAt, d.firstDTS = now, -1
	}
	return nil
}

// ready reports whether the tracks known now are to be announced: when both
// are there, or all that the metadata promised; when nothing was promised,
// with the first frame, as configurations come before frames, unless one waits
// for a frame to be complete; and in any case ingest.AnnounceWait after the first, by the server's or the media's clock.
func (d *demuxer) ready(now time.Time) bool {
	video, audio := d.video.track != nil, d.audio.track != nil
	switch {
	case !video && !audio:
		return false
	case video && audio:
		return true
	case d.video.pending() || d.audio.pending():
	case d.id == 0 && (d.meta.video || d.meta.audio):
		if (video || !d.meta.video) && (audio || !d.meta.audio) {
			return true
		}
	case d.frames:
		return true
	}
	return now.Sub(d.firstAt) >= ingest.AnnounceWait || d.heldFor() >= ingest.AnnounceWait ||
		len(d.held) >= maxHeld || d.heldBytes >= maxHeldBytes
}

// heldFor is how much media time is held back.
func (d *demuxer) heldFor() time.Duration {
	if d.firstDTS < 0 || len(d.held) == 0 {
		return 0
	}
	return d.held[len(d.held)-1].DTS - d.firstDTS
}

// announce declares the tracks and lets go what was held back for them.
func (d *demuxer) announce() error {
	tracks := make([]*media.Track, 0, 3)
	for _, t := range [...]*media.Track{d.video.track, d.audio.track, d.data} {
		if t != nil {
			tracks = append(tracks, t)
		}
	}
	if err := d.pub.Announce(tracks); err != nil {
		return err
	}
	d.announced = true
	if !d.frames {
		return nil
	}
	return d.release()
}

// release lets go what was held back. Data from before the first frame may
// stand far from it: a relay that joins a stream in its third hour sends
// metadata at 0. It is moved to the frame.
func (d *demuxer) release() error {
	held := d.held
	d.held, d.heldBytes = nil, 0
	for _, p := range held {
		if p.Track.Kind == media.Data && d.firstDTS >= 0 && (p.DTS-d.firstDTS).Abs() > maxDataSkew {
			p.DTS, p.PTS = d.firstDTS, d.firstDTS
		}
		if err := d.pub.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// write passes a packet on, or holds it back: media until the tracks are
// announced, data also until there is a frame to place it by.
func (d *demuxer) write(p media.Packet) error {
	if d.announced && (d.frames || p.Track.Kind != media.Data) {
		if !d.frames {
			d.frames, d.firstDTS = true, p.DTS
			if err := d.release(); err != nil {
				return err
			}
		}
		return d.pub.Write(p)
	}
	if d.pub == nil && (len(d.held) >= maxHeld || d.heldBytes+len(p.Payload) > maxHeldBytes) {
		clear(d.held) // the place of a further track is still being asked for
		d.held, d.heldBytes, d.firstDTS = d.held[:0], 0, -1
	}
	if p.Track.Kind != media.Data {
		d.frames = true
		if d.firstDTS < 0 {
			d.firstDTS = p.DTS
		}
	} else if len(d.held) >= maxHeld || d.heldBytes+len(p.Payload) > maxHeldBytes {
		return nil // data without media: nobody will see it
	}
	d.held = append(d.held, p)
	d.heldBytes += len(p.Payload)
	return nil
}

// forget drops what is held back of a track that changed before it was ever
// announced: nothing could decode it.
func (d *demuxer) forget(t *media.Track) {
	if t == nil || d.announced {
		return
	}
	kept := d.held[:0]
	d.heldBytes = 0
	for _, p := range d.held {
		if p.Track != t {
			kept = append(kept, p)
			d.heldBytes += len(p.Payload)
		}
	}
	clear(d.held[len(kept):])
	d.held = kept
}

package authority

import (
	"strings"
	"time"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/kaltura/client"
)

// The bounds of what an entry may wish. Segment durations outside of theirs are
// the backend's default, as with the engine before.
const (
	minSegment     = 1000  // milliseconds
	maxSegment     = 20000 // milliseconds
	defaultSegment = 6000  // milliseconds
	maxDVRMinutes  = 366 * 24 * 60
)

// defaultDVR is the window of an entry with DVR that names none: what Kaltura's
// own media servers are shipped with.
const defaultDVR = 2 * time.Hour

// The numbers of recordStatus and recordingStatus.
const (
	recordAppended   = 1
	recordPerSession = 2
	recordingActive  = 2
	viewPreview      = 0
)

// lowLatencyTag among the admin tags marks entries made for low latency.
const lowLatencyTag = "lowlatency"

// PolicyOf is what an entry wishes for its broadcast. The backend lets nobody
// change these fields while the entry is on air.
//
// With explicitLive an operator starts and stops the recording apart from the
// broadcast: recordStatus says how, recordingStatus whether. Without it
// recordingStatus follows recordStatus and is not looked at.
func PolicyOf(e client.Entry) egress.Policy {
	segment := int64(e.SegmentDuration)
	if segment < minSegment || segment > maxSegment {
		segment = defaultSegment
	}
	p := egress.Policy{SegmentDuration: time.Duration(segment) * time.Millisecond, LowLatency: lowLatency(string(e.AdminTags))}
	if e.DVR {
		p.DVR = egress.DVR{Enabled: true, Window: defaultDVR}
		if minutes := min(int64(e.DVRWindow), maxDVRMinutes); minutes > 0 {
			p.DVR.Window = time.Duration(minutes) * time.Minute
		}
	}
	if bool(e.ExplicitLive) && e.RecordingStatus != recordingActive {
		return p
	}
	switch e.Record {
	case recordAppended:
		p.Recording = egress.RecordAppended
	case recordPerSession:
		p.Recording = egress.RecordPerSession
	}
	return p
}

func lowLatency(tags string) bool {
	for tag := range strings.SplitSeq(tags, ",") {
		if strings.EqualFold(strings.TrimSpace(tag), lowLatencyTag) {
			return true
		}
	}
	return false
}

// inPreview reports whether an entry is shown to those who may preview it only.
func inPreview(e client.Entry) bool { return bool(e.ExplicitLive) && e.ViewMode == viewPreview }

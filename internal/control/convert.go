package control

import (
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/stream"
)

// stateRow is how the API shows a state: in its own vocabulary and in
// Kaltura's numbers (ERROR -1, STOPPED 0, PLAYABLE 1, BROADCASTING 2,
// AUTHENTICATED 3), which are never cast from ours.
type stateRow struct {
	state   klivev1.BroadcastState
	kaltura int32
}

var states = map[stream.State]stateRow{
	stream.StateUnspecified: {klivev1.BroadcastState_BROADCAST_STATE_UNSPECIFIED, 0},
	stream.Connecting:       {klivev1.BroadcastState_BROADCAST_STATE_CONNECTING, 0},
	stream.Authenticated:    {klivev1.BroadcastState_BROADCAST_STATE_AUTHENTICATED, 3},
	stream.Broadcasting:     {klivev1.BroadcastState_BROADCAST_STATE_BROADCASTING, 2},
	stream.Playable:         {klivev1.BroadcastState_BROADCAST_STATE_PLAYABLE, 1},
	stream.Stopped:          {klivev1.BroadcastState_BROADCAST_STATE_STOPPED, 0},
	stream.Failed:           {klivev1.BroadcastState_BROADCAST_STATE_FAILED, -1},
}

var origins = map[stream.Origin]klivev1.StreamOrigin{
	stream.FromAPI:      klivev1.StreamOrigin_STREAM_ORIGIN_API,
	stream.FromConfig:   klivev1.StreamOrigin_STREAM_ORIGIN_CONFIGURATION,
	stream.FromTemplate: klivev1.StreamOrigin_STREAM_ORIGIN_TEMPLATE,
	stream.FromKaltura:  klivev1.StreamOrigin_STREAM_ORIGIN_KALTURA,
}

var trackKinds = map[media.Kind]klivev1.TrackKind{
	media.Video: klivev1.TrackKind_TRACK_KIND_VIDEO,
	media.Audio: klivev1.TrackKind_TRACK_KIND_AUDIO,
	media.Data:  klivev1.TrackKind_TRACK_KIND_DATA,
}

var joinMethods = map[string]klivev1.TimeJoinMethod{
	"first":      klivev1.TimeJoinMethod_TIME_JOIN_METHOD_FIRST,
	"wire-clock": klivev1.TimeJoinMethod_TIME_JOIN_METHOD_WIRE_CLOCK,
	"wall-clock": klivev1.TimeJoinMethod_TIME_JOIN_METHOD_WALL_CLOCK,
}

// known is a stream as its authority and the registry know it together. One
// of the two may be missing: an entry that was never on air has no status, and
// what is on air may have been deleted.
type known struct {
	id     string
	entry  *stream.Entry
	status *stream.Status
}

// merge joins the two lists, both ordered by id, into one ordered by id.
func merge(entries []stream.Entry, statuses []stream.Status) []known {
	out := make([]known, 0, len(entries)+len(statuses))
	for i, j := 0, 0; i < len(entries) || j < len(statuses); {
		switch {
		case j == len(statuses) || i < len(entries) && entries[i].ID < statuses[j].Stream:
			out = append(out, known{entries[i].ID, &entries[i], nil})
			i++
		case i == len(entries) || statuses[j].Stream < entries[i].ID:
			out = append(out, known{statuses[j].Stream, nil, &statuses[j]})
			j++
		default:
			out = append(out, known{entries[i].ID, &entries[i], &statuses[j]})
			i, j = i+1, j+1
		}
	}
	return out
}

// streamProto makes the resource. It has no access to secrets, so it cannot
// show one.
func streamProto(k known) *klivev1.Stream {
	out := &klivev1.Stream{Name: streamName(k.id), Id: k.id}
	if e := k.entry; e != nil {
		out.DisplayName = e.DisplayName
		out.PartnerId = int32(e.Partner) //nolint:gosec // bounded where entries are made
		out.Labels = e.Labels
		out.Origin = origins[e.Origin]
		out.CreateTime = timestamp(e.Created)
		out.UpdateTime = timestamp(e.Updated)
		out.Etag = etag(e.Revision)
		out.SrtEncrypted = e.Encrypted
	}
	if s := k.status; s != nil {
		row := states[s.State]
		out.State, out.KalturaStatus = row.state, row.kaltura
		out.Broadcasts = make([]*klivev1.Broadcast, len(s.Broadcasts))
		for i := range s.Broadcasts {
			out.Broadcasts[i] = broadcastProto(k.id, &s.Broadcasts[i])
		}
	}
	return out
}

func broadcastProto(id string, b *stream.BroadcastStatus) *klivev1.Broadcast {
	out := &klivev1.Broadcast{
		ServerIndex:        int32(b.ServerIndex), //nolint:gosec // 0 or 1
		Id:                 b.ID,
		State:              states[b.State].state,
		StartTime:          timestamp(b.Start),
		EndTime:            timestamp(b.End),
		ReconnectDeadline:  timestamp(b.ReconnectDeadline),
		PlayableTime:       timestamp(b.Playable),
		Policy:             policyProto(b.Policy),
		Renditions:         make([]*klivev1.Rendition, len(b.Renditions)),
		DiscontinuityCount: int64(b.Discontinuities), //nolint:gosec // a count
	}
	for i, r := range b.Renditions {
		out.Renditions[i] = &klivev1.Rendition{
			Id: r.ID, Tracks: trackProtos(r.Tracks), Playable: r.Playable,
			IngestIndex: int32(r.Index), //nolint:gosec // 1 to 9999
		}
		if r.Session != "" {
			out.Renditions[i].Session = sessionName(id, r.Session)
		}
	}
	return out
}

func policyProto(p egress.Policy) *klivev1.BroadcastPolicy {
	return &klivev1.BroadcastPolicy{
		SegmentDuration: duration(p.SegmentDuration),
		Dvr:             &klivev1.DvrPolicy{Enabled: p.DVR.Enabled, Window: duration(p.DVR.Window)},
		RecordingMode:   recordingModes[p.Recording],
		LowLatency:      p.LowLatency,
	}
}

func sessionProto(s *stream.SessionStatus) *klivev1.Session {
	out := &klivev1.Session{
		Name:               sessionName(s.Stream, s.ID),
		Id:                 s.ID,
		Protocol:           s.Protocol,
		UserAgent:          s.Encoder,
		IngestIndex:        int32(s.Index),       //nolint:gosec // 1 to 9999
		ServerIndex:        int32(s.ServerIndex), //nolint:gosec // 0 or 1
		State:              states[s.State].state,
		Reason:             string(s.Reason),
		ReasonMessage:      s.Message,
		BroadcastId:        s.Broadcast,
		StartTime:          timestamp(s.Start),
		EndTime:            timestamp(s.End),
		Tracks:             trackProtos(s.Tracks),
		MediaBytes:         int64(s.Bytes),     //nolint:gosec // a count
		WireBytes:          int64(s.WireBytes), //nolint:gosec // a count
		PacketCount:        int64(s.Packets),   //nolint:gosec // a count
		Bitrate:            int64(s.Bitrate),
		LastMediaTime:      timestamp(s.LastMedia),
		DiscontinuityCount: int64(s.Discontinuities), //nolint:gosec // a count
		TimeRepairCount:    int64(s.TimeRepairs),     //nolint:gosec // a count
		BadMessageCount:    int64(s.BadMessages),     //nolint:gosec // a count
	}
	if s.Remote.IsValid() {
		out.RemoteAddress = s.Remote.String()
	}
	if s.OffsetMethod != "" {
		out.TimeJoin = &klivev1.TimeJoin{Method: joinMethods[s.OffsetMethod], Offset: durationpb.New(s.Offset)}
	}
	if s.Link != nil {
		out.Link = linkProto(s.Link)
	}
	return out
}

// linkProto shows durations of zero, too: zero is a measurement here.
func linkProto(l *stream.LinkStatus) *klivev1.Link {
	return &klivev1.Link{
		Rtt:                      durationpb.New(l.RTT),
		Latency:                  durationpb.New(l.Latency),
		Buffered:                 durationpb.New(l.Buffered),
		ReceiveBitrate:           l.Rate,
		Bandwidth:                l.Bandwidth,
		PacketCount:              int64(l.Packets),         //nolint:gosec // a count
		LostPacketCount:          int64(l.Lost),            //nolint:gosec // a count
		RetransmittedPacketCount: int64(l.Retransmitted),   //nolint:gosec // a count
		DroppedPacketCount:       int64(l.Dropped),         //nolint:gosec // a count
		UndecryptedPacketCount:   int64(l.Undecrypted),     //nolint:gosec // a count
		DiscontinuityCount:       int64(l.Discontinuities), //nolint:gosec // a count
		Encrypted:                l.Encrypted,
	}
}

func trackProtos(tracks []*media.Track) []*klivev1.Track {
	out := make([]*klivev1.Track, 0, len(tracks))
	for _, t := range tracks {
		p := &klivev1.Track{
			Id:       uint32(t.ID),
			Kind:     trackKinds[t.Kind],
			Codec:    t.CodecString,
			Language: t.Language,
			Bitrate:  int64(t.Bitrate),
		}
		switch t.Kind {
		case media.Video:
			p.Video = &klivev1.VideoFormat{
				Width:     int32(t.Video.Width),  //nolint:gosec // pixels
				Height:    int32(t.Video.Height), //nolint:gosec // pixels
				FrameRate: t.Video.FrameRate,
			}
		case media.Audio:
			p.Audio = &klivev1.AudioFormat{
				SampleRate: int32(t.Audio.SampleRate), //nolint:gosec // Hz
				Channels:   int32(t.Audio.Channels),   //nolint:gosec // a few
			}
		}
		out = append(out, p)
	}
	return out
}

const eventTypePrefix = "EVENT_TYPE_"

func eventProto(e *stream.Event) *klivev1.Event {
	out := &klivev1.Event{
		Sequence:   int64(e.Sequence), //nolint:gosec // a count
		EventTime:  timestamp(e.Time),
		Type:       klivev1.EventType(klivev1.EventType_value[eventTypePrefix+string(e.Type)]),
		Reason:     string(e.Reason),
		Message:    e.Message,
		Attributes: e.Facts,
	}
	if e.Stream != "" {
		out.Stream = streamName(e.Stream)
		if e.Session != "" {
			out.Session = sessionName(e.Stream, e.Session)
		}
	}
	return out
}

// timestamp leaves times that were never set out.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// duration leaves durations of zero out, where zero means that there is none.
func duration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// etag shows a revision; declared entries, which cannot be changed here, have
// none.
func etag(revision uint64) string {
	if revision == 0 {
		return ""
	}
	return strconv.FormatUint(revision, 36)
}

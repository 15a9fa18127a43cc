package control

import (
	"google.golang.org/protobuf/types/known/durationpb"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/stream"
	"github.com/klive-media/klive/internal/transcode"
)

var kalturaModes = map[string]klivev1.KalturaMode{
	"saas": klivev1.KalturaMode_KALTURA_MODE_SAAS,
	"ecdn": klivev1.KalturaMode_KALTURA_MODE_ECDN,
}

var ladderSources = map[string]klivev1.LadderSource{
	"template": klivev1.LadderSource_LADDER_SOURCE_TEMPLATE,
	"flavors":  klivev1.LadderSource_LADDER_SOURCE_FLAVORS,
}

var pictureFits = map[transcode.Fit]klivev1.PictureFit{
	transcode.FitSource: klivev1.PictureFit_PICTURE_FIT_MATCH_SOURCE,
	transcode.FitWidth:  klivev1.PictureFit_PICTURE_FIT_WIDTH,
	transcode.FitHeight: klivev1.PictureFit_PICTURE_FIT_HEIGHT,
	transcode.FitBox:    klivev1.PictureFit_PICTURE_FIT_BOX,
}

// bridgeProto makes the resource. open is oldest first.
func bridgeProto(b *stream.BridgeStatus, open []stream.Delivery) *klivev1.KalturaBridge {
	out := &klivev1.KalturaBridge{
		Name: bridgeName,
		Mode: kalturaModes[b.Mode],
		Backend: &klivev1.KalturaBackend{
			Url:            b.URL,
			PartnerId:      int32(b.Partner), //nolint:gosec // checked with the configuration
			Available:      b.Available,
			ChangeTime:     timestamp(b.Since),
			LastAnswerTime: timestamp(b.LastAnswer),
			Error:          b.LastError,
		},
		Node: &klivev1.KalturaNode{
			Id:             b.Node.ID,
			HostName:       b.Host,
			Application:    b.Application,
			Registered:     b.Node.Registered,
			LastReportTime: timestamp(b.Node.LastReport),
			Error:          b.Node.Error,
		},
		RegistrationCount:     int32(len(b.Registrations)), //nolint:gosec // a count
		PendingDeliveryCounts: countDeliveries(open),
	}
	for i := range b.Registrations[:min(len(b.Registrations), maxRegistrations)] {
		out.Registrations = append(out.Registrations, registrationProto(&b.Registrations[i]))
	}
	// What waits for a person must not drown in what a long outage piles up.
	for _, forSomebody := range []bool{true, false} {
		for i := range open {
			fits := deliveryStates[open[i].State].attention >= needsSomebody == forSomebody
			if fits && len(out.PendingDeliveries) < maxPendingDeliveries {
				out.PendingDeliveries = append(out.PendingDeliveries, pendingProto(&open[i]))
			}
		}
	}
	return out
}

func countDeliveries(open []stream.Delivery) *klivev1.PendingDeliveryCounts {
	out := &klivev1.PendingDeliveryCounts{Total: int32(len(open))} //nolint:gosec // a count
	for i := range open {
		switch open[i].State {
		case stream.DeliveryQueued:
			out.Queued++
		case stream.DeliverySending:
			out.Sending++
		case stream.DeliveryInDoubt:
			out.InDoubt++
		case stream.DeliveryRefused:
			out.Refused++
		}
	}
	return out
}

func pendingProto(d *stream.Delivery) *klivev1.PendingDelivery {
	return &klivev1.PendingDelivery{
		Recording:   recordingName(d.Stream, d.Recording),
		Rendition:   d.Rendition,
		Number:      int32(d.Number),      //nolint:gosec // a count
		ServerIndex: int32(d.ServerIndex), //nolint:gosec // 0 or 1
		PartnerId:   int32(d.Partner),     //nolint:gosec // bounded where entries are made
		Duration:    durationpb.New(d.Duration),
		SizeBytes:   d.Size,
		Last:        d.Last,
		Delivery:    deliveryProto(d),
	}
}

func registrationProto(r *stream.Registration) *klivev1.KalturaRegistration {
	row := states[r.State]
	out := &klivev1.KalturaRegistration{
		Stream:             streamName(r.Stream),
		ServerIndex:        int32(r.ServerIndex), //nolint:gosec // 0 or 1
		PartnerId:          int32(r.Partner),     //nolint:gosec // bounded where entries are made
		BroadcastId:        r.Broadcast,
		State:              row.state,
		KalturaStatus:      row.kaltura,
		StateTime:          timestamp(r.Since),
		LastReportTime:     timestamp(r.LastTold),
		NextReportTime:     timestamp(r.Next),
		UnregisterDeadline: timestamp(r.EndBy),
		TakenOver:          r.TakenOver,
		FailedAttemptCount: int32(r.Attempts), //nolint:gosec // a count
		Error:              r.Error,
		RecordedEntryId:    r.RecordedEntry,
		Preview:            r.Preview,
		LadderSource:       ladderSources[r.LadderFrom],
		LadderError:        r.LadderError,
	}
	for i := range r.Ladder {
		out.Ladder = append(out.Ladder, rungProto(&r.Ladder[i]))
	}
	for _, s := range r.Streams {
		out.Streams = append(out.Streams, &klivev1.RegisteredStream{
			Rendition: s.Rendition,
			Bitrate:   int64(s.Bitrate),
			Width:     int32(s.Width),  //nolint:gosec // pixels
			Height:    int32(s.Height), //nolint:gosec // pixels
			Codec:     s.Codec,
			FrameRate: s.FrameRate,
			Language:  s.Language,
		})
	}
	return out
}

func rungProto(r *transcode.Rung) *klivev1.Rung {
	out := &klivev1.Rung{Id: r.ID, DisplayName: r.Name, Tags: r.Tags, Ingest: r.Ingest}
	if v := r.Video; v != nil {
		out.Video = &klivev1.RungVideo{
			Copy:                v.Copy,
			Codec:               codecName(v.Codec),
			Profile:             v.Profile,
			Width:               int32(v.Width),  //nolint:gosec // pixels
			Height:              int32(v.Height), //nolint:gosec // pixels
			Fit:                 pictureFits[v.Fit],
			Bitrate:             int64(v.Bitrate),
			MaxBitrate:          int64(v.MaxBitrate),
			ConstantBitrate:     v.Constant,
			FrameRate:           v.FrameRate.Float(),
			SkipFrames:          int32(v.SkipFrames), //nolint:gosec // a few
			KeyFrameInterval:    duration(v.KeyInterval),
			MaxKeyFrameDistance: int32(v.KeyFrames), //nolint:gosec // a few
		}
	}
	if a := r.Audio; a != nil {
		out.Audio = &klivev1.RungAudio{
			Copy:       a.Copy,
			Codec:      codecName(a.Codec),
			Bitrate:    int64(a.Bitrate),
			SampleRate: int32(a.SampleRate), //nolint:gosec // Hz
			Channels:   int32(a.Channels),   //nolint:gosec // a few
			Language:   a.Language,
		}
	}
	return out
}

// codecName leaves the codec out that is not known, as it is for what is
// copied.
func codecName(c media.Codec) string {
	if c == media.UnknownCodec {
		return ""
	}
	return c.String()
}

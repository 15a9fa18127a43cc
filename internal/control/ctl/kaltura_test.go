package ctl

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
)

// wishes is a policy with everything in it.
func wishes() *klivev1.BroadcastPolicy {
	return &klivev1.BroadcastPolicy{
		SegmentDuration: durationpb.New(4 * time.Second), Dvr: &klivev1.DvrPolicy{Enabled: true, Window: durationpb.New(2 * time.Hour)},
		RecordingMode: klivev1.RecordingMode_RECORDING_MODE_PER_SESSION, LowLatency: true,
	}
}

func recording() *klivev1.Recording {
	return &klivev1.Recording{
		Name: "streams/a/recordings/r1", Id: "r1", BroadcastId: "b1", Mode: klivev1.RecordingMode_RECORDING_MODE_APPENDED,
		StartTime: timestamppb.New(time.Unix(1e9, 0)), DeliveryState: klivev1.DeliveryState_DELIVERY_STATE_IN_DOUBT,
		Pieces: []*klivev1.RecordingPiece{
			{Rendition: "32", Number: 1, Duration: durationpb.New(15 * time.Minute), SizeBytes: 1_500_000, Finished: true, Delivery: &klivev1.Delivery{State: klivev1.DeliveryState_DELIVERY_STATE_DELIVERED, AttemptCount: 1}},
			{Rendition: "32", Number: 2, Duration: durationpb.New(10 * time.Minute), SizeBytes: 1_000_000, Finished: true, Last: true, Delivery: &klivev1.Delivery{State: klivev1.DeliveryState_DELIVERY_STATE_IN_DOUBT, Code: "E_LOST", Error: "the answer was lost"}},
			{Rendition: "36", Number: 3, Duration: durationpb.New(12 * time.Minute)},
		},
	}
}

func (s *server) ListRecordings(_ context.Context, r *klivev1.ListRecordingsRequest) (*klivev1.ListRecordingsResponse, error) {
	if r.GetPageToken() == "" {
		return &klivev1.ListRecordingsResponse{Recordings: []*klivev1.Recording{recording()}, NextPageToken: "more"}, nil
	}
	return &klivev1.ListRecordingsResponse{Recordings: []*klivev1.Recording{{
		Name: "streams/b/recordings/r2", Id: "r2", Mode: klivev1.RecordingMode_RECORDING_MODE_PER_SESSION,
	}}}, nil
}

func (s *server) GetRecording(_ context.Context, r *klivev1.GetRecordingRequest) (*klivev1.Recording, error) {
	if r.GetName() != "streams/a/recordings/r1" {
		return nil, refuse(codes.NotFound, "RECORDING_NOT_FOUND", "no recording with this id is known")
	}
	return recording(), nil
}

func (s *server) RetryDelivery(_ context.Context, r *klivev1.RetryDeliveryRequest) (*klivev1.RetryDeliveryResponse, error) {
	n := int32(3)
	if r.GetRendition() == "36" && r.GetNumber() == 2 {
		n = 1
	}
	return &klivev1.RetryDeliveryResponse{PieceCount: n, Recording: recording()}, nil
}

func (s *server) AcceptDelivery(_ context.Context, r *klivev1.AcceptDeliveryRequest) (*klivev1.AcceptDeliveryResponse, error) {
	n := int32(2)
	if r.GetRendition() == "36" && r.GetNumber() == 2 {
		n = 1
	}
	return &klivev1.AcceptDeliveryResponse{PieceCount: n, Recording: recording()}, nil
}

func (s *server) SplitRecording(_ context.Context, r *klivev1.SplitRecordingRequest) (*klivev1.SplitRecordingResponse, error) {
	if r.GetName() != "streams/a" {
		return nil, refuse(codes.FailedPrecondition, "NOT_RECORDING", "nothing is recorded")
	}
	return &klivev1.SplitRecordingResponse{RenditionCount: 2}, nil
}

func (s *server) GetKalturaBridge(context.Context, *klivev1.GetKalturaBridgeRequest) (*klivev1.KalturaBridge, error) {
	at := timestamppb.New(time.Unix(1e9, 0))
	return &klivev1.KalturaBridge{
		Mode: klivev1.KalturaMode_KALTURA_MODE_SAAS,
		Backend: &klivev1.KalturaBackend{
			Url: "https://kaltura.example", PartnerId: -5, ChangeTime: at, LastAnswerTime: at, Error: "connection refused",
		},
		Node: &klivev1.KalturaNode{Id: 7, HostName: "live1.example", Application: "kLive", Registered: true, LastReportTime: at},
		Registrations: []*klivev1.KalturaRegistration{{
			Stream: "streams/0_abc", ServerIndex: 1, State: klivev1.BroadcastState_BROADCAST_STATE_PLAYABLE, KalturaStatus: 1,
			StateTime: at, LastReportTime: at, NextReportTime: at, UnregisterDeadline: at, TakenOver: true, FailedAttemptCount: 3, Error: "timeout",
			RecordedEntryId: "0_vod", Preview: true, LadderError: "no profile", Ladder: []*klivev1.Rung{{Id: "32"}, {Id: "34"}},
			Streams: []*klivev1.RegisteredStream{{Rendition: "32", Height: 720}, {Rendition: "36"}},
		}},
		RegistrationCount: 10,
		PendingDeliveries: []*klivev1.PendingDelivery{{
			Recording: "streams/0_abc/recordings/r1", Rendition: "32", Number: 2, Last: true, Duration: durationpb.New(15 * time.Minute),
			Delivery: &klivev1.Delivery{State: klivev1.DeliveryState_DELIVERY_STATE_REFUSED, AttemptCount: 2, NextAttemptTime: at, Code: "E_GONE"},
		}},
		PendingDeliveryCounts: &klivev1.PendingDeliveryCounts{Total: 7, Refused: 2, InDoubt: 1, Queued: 4},
	}, nil
}

func (s *server) ResyncKalturaBridge(context.Context, *klivev1.ResyncKalturaBridgeRequest) (*klivev1.KalturaBridge, error) {
	return &klivev1.KalturaBridge{Mode: klivev1.KalturaMode_KALTURA_MODE_ECDN, Backend: &klivev1.KalturaBackend{Available: true}}, nil
}

func TestHowThingsAreWritten(t *testing.T) {
	require.Empty(t, length(nil))
	require.Equal(t, "1.5s", length(durationpb.New(1500*time.Millisecond)))
	require.Equal(t, "15m2s", length(durationpb.New(15*time.Minute+1700*time.Millisecond)))
	require.Equal(t, "- 1 kB 2.5 MB 3.10 GB", "-"+size(0)+" "+size(1)+" "+size(2_500_000)+" "+size(3_100_000_000))
	require.Equal(t, "streams/a/recordings/r1", recordingName("-", "streams/a/recordings/r1"))
	require.Empty(t, policy(nil))
	require.Equal(t, "36 (ingest 2)", renditionLabel(&klivev1.Rendition{Id: "36", IngestIndex: 2}))
}

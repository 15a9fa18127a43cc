package control

import (
	"context"
	"strconv"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/stream"
)

// recordingFields are what a filter over recordings may use.
var recordingFields = map[string]filterField[*klivev1.Recording]{
	"id":           {get: (*klivev1.Recording).GetId, form: text},
	"broadcast_id": {get: (*klivev1.Recording).GetBroadcastId, form: text},
	"server_index": {get: func(r *klivev1.Recording) string { return strconv.Itoa(int(r.GetServerIndex())) }, form: whole},
	"partner_id":   {get: func(r *klivev1.Recording) string { return strconv.Itoa(int(r.GetPartnerId())) }, form: whole},
	"mode": {
		get:  func(r *klivev1.Recording) string { return r.GetMode().String() },
		form: enum("RECORDING_MODE_", klivev1.RecordingMode_value),
	},
	"delivery_state": {
		get:  func(r *klivev1.Recording) string { return r.GetDeliveryState().String() },
		form: enum("DELIVERY_STATE_", klivev1.DeliveryState_value),
	},
}

// maxPagePieces ends a page of recordings: with their deliveries so many pieces
// make about 2 MB, and clients take 4 MB by default. One recording is sent
// whole in any case.
const maxPagePieces = 5000

// recordingService serves klive.v1.RecordingService.
type recordingService struct {
	klivev1.UnimplementedRecordingServiceServer
	entries    stream.Entries
	live       stream.Live
	recordings stream.Recordings // nil: nothing is ever recorded
	deliveries stream.Deliveries // nil: nothing is delivered
}

// foundRecording is one that fits a filter, and its message, still without
// pieces: only those of one page are needed.
type foundRecording struct {
	recording *stream.Recording
	message   *klivev1.Recording
}

func (f foundRecording) key() string {
	return newestFirst(f.message.GetStartTime(), f.message.GetId())
}

func (s *recordingService) ListRecordings(ctx context.Context, r *klivev1.ListRecordingsRequest) (*klivev1.ListRecordingsResponse, error) {
	id, err := parseParent(r.GetParent())
	if err != nil {
		return nil, err
	}
	fits, err := parseFilter(r.GetFilter(), recordingFields)
	if err != nil {
		return nil, err
	}
	var recordings []stream.Recording
	if s.recordings != nil {
		recordings = s.recordings.List(id)
	}
	if len(recordings) == 0 && id != "" {
		// An empty list is the answer for a stream that is known.
		if err := checkStream(ctx, s.entries, s.live, id); err != nil {
			return nil, err
		}
	}
	var found []foundRecording
	for i := range recordings {
		f := foundRecording{&recordings[i], recordingProto(&recordings[i])}
		if len(fits) > 0 {
			f.message.DeliveryState = s.deliveryStateOf(recordings[i].ID)
		}
		if fits.match(f.message) {
			found = append(found, f)
		}
	}
	query := pageQuery{size: r.GetPageSize(), token: r.GetPageToken(), method: "recordings", parent: r.GetParent(), filter: r.GetFilter()}
	page, next, err := paginate(found, foundRecording.key, query)
	if err != nil {
		return nil, err
	}
	out := &klivev1.ListRecordingsResponse{NextPageToken: next}
	pieces := 0
	for i, f := range page {
		if pieces += len(f.recording.Pieces); i > 0 && pieces > maxPagePieces {
			out.NextPageToken = encodePageToken(query.sum(), page[i-1].key())
			break
		}
		addPieces(f.message, f.recording, s.deliveriesOf(f.recording.ID))
		out.Recordings = append(out.Recordings, f.message)
	}
	return out, nil
}

// deliveryStateOf does not have the deliveries of old recordings read when the
// queue knows without that.
func (s *recordingService) deliveryStateOf(recording string) klivev1.DeliveryState {
	if q, ok := s.deliveries.(interface{ Delivered(recording string) bool }); ok && q.Delivered(recording) {
		return klivev1.DeliveryState_DELIVERY_STATE_DELIVERED
	}
	return worstDelivery(s.deliveriesOf(recording))
}

func (s *recordingService) deliveriesOf(recording string) []stream.Delivery {
	if s.deliveries == nil {
		return nil
	}
	return s.deliveries.Of(recording)
}

func (s *recordingService) GetRecording(_ context.Context, r *klivev1.GetRecordingRequest) (*klivev1.Recording, error) {
	return s.get(r.GetName())
}

func (s *recordingService) get(name string) (*klivev1.Recording, error) {
	id, recording, err := parseRecordingName(name)
	if err != nil {
		return nil, err
	}
	if s.recordings != nil {
		if found, ok := s.recordings.Get(recording); ok && (id == anyStream || found.Stream == id) {
			out := recordingProto(&found)
			addPieces(out, &found, s.deliveriesOf(recording))
			return out, nil
		}
	}
	return nil, fault.New(fault.RecordingNotFound, "no recording %s of the stream %s is known; it may have been deleted", recording, id).
		With("recording", recording)
}

func (s *recordingService) RetryDelivery(ctx context.Context, r *klivev1.RetryDeliveryRequest) (*klivev1.RetryDeliveryResponse, error) {
	found, err := s.deliverable(r)
	if err != nil {
		return nil, err
	}
	count, err := s.deliveries.Retry(ctx, found.GetId(), r.GetRendition(), int(r.GetNumber()))
	if err != nil {
		return nil, err
	}
	// The recording is not deleted while something of it is queued.
	if found, err = s.get(r.GetName()); err != nil {
		return nil, err
	}
	return &klivev1.RetryDeliveryResponse{PieceCount: int32(count), Recording: found}, nil //nolint:gosec // a count
}

func (s *recordingService) AcceptDelivery(ctx context.Context, r *klivev1.AcceptDeliveryRequest) (*klivev1.AcceptDeliveryResponse, error) {
	found, err := s.deliverable(r)
	if err != nil {
		return nil, err
	}
	count, err := s.deliveries.Accept(ctx, found.GetId(), r.GetRendition(), int(r.GetNumber()))
	if err != nil {
		return nil, err
	}
	// Nothing holds the recording any more: when it was deleted since, it is
	// shown as it was.
	if now, err := s.get(r.GetName()); err == nil {
		found = now
	}
	return &klivev1.AcceptDeliveryResponse{PieceCount: int32(count), Recording: found}, nil //nolint:gosec // a count
}

// whichPieces is a request about deliveries of a recording.
type whichPieces interface {
	GetName() string
	GetRendition() string
	GetNumber() int32
}

// deliverable returns the recording that a request is about, when the request
// is one that the queue can be asked.
func (s *recordingService) deliverable(r whichPieces) (*klivev1.Recording, error) {
	if _, _, err := parseRecordingName(r.GetName()); err != nil {
		return nil, err
	}
	if s.deliveries == nil {
		return nil, errBridgeOff()
	}
	found, err := s.get(r.GetName())
	switch {
	case err != nil:
		return nil, err
	case r.GetNumber() < 0:
		return nil, fault.New(fault.InvalidField, "number is negative; pieces are counted from 1, and 0 means all").With("field", "number")
	case r.GetNumber() > 0 && r.GetRendition() == "":
		return nil, fault.New(fault.InvalidField, "number is set and rendition is not; each rendition has a piece of this number, so name one").With("field", "rendition")
	}
	return found, nil
}

func (s *recordingService) SplitRecording(ctx context.Context, r *klivev1.SplitRecordingRequest) (*klivev1.SplitRecordingResponse, error) {
	id, err := parseStreamName("name", r.GetName())
	if err != nil {
		return nil, err
	}
	if err := checkStream(ctx, s.entries, s.live, id); err != nil {
		return nil, err
	}
	if s.recordings == nil {
		return nil, fault.New(fault.NotRecording, "the stream %s is not being recorded; this server records nothing", id).With("stream", id)
	}
	count, err := s.recordings.Split(ctx, id)
	if err != nil {
		return nil, err
	}
	return &klivev1.SplitRecordingResponse{RenditionCount: int32(count)}, nil //nolint:gosec // a count
}

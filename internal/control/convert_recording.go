package control

import (
	"google.golang.org/protobuf/types/known/durationpb"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/stream"
)

var recordingModes = map[egress.RecordingMode]klivev1.RecordingMode{
	egress.RecordOff:        klivev1.RecordingMode_RECORDING_MODE_OFF,
	egress.RecordAppended:   klivev1.RecordingMode_RECORDING_MODE_APPENDED,
	egress.RecordPerSession: klivev1.RecordingMode_RECORDING_MODE_PER_SESSION,
}

// deliveryRow is how the API shows the state of a delivery, and how much it
// needs attention: the higher, the more.
type deliveryRow struct {
	state     klivev1.DeliveryState
	attention int
}

var deliveryStates = map[stream.DeliveryState]deliveryRow{
	stream.DeliveryUnspecified: {klivev1.DeliveryState_DELIVERY_STATE_UNSPECIFIED, 0},
	stream.DeliveryDelivered:   {klivev1.DeliveryState_DELIVERY_STATE_DELIVERED, 1},
	stream.DeliverySending:     {klivev1.DeliveryState_DELIVERY_STATE_SENDING, 2},
	stream.DeliveryQueued:      {klivev1.DeliveryState_DELIVERY_STATE_QUEUED, 3},
	stream.DeliveryInDoubt:     {klivev1.DeliveryState_DELIVERY_STATE_IN_DOUBT, needsSomebody},
	stream.DeliveryRefused:     {klivev1.DeliveryState_DELIVERY_STATE_REFUSED, needsSomebody + 1},
}

// needsSomebody is the attention from which on a delivery waits for a person.
const needsSomebody = 4

// recordingProto makes the resource, still without its pieces.
func recordingProto(r *stream.Recording) *klivev1.Recording {
	return &klivev1.Recording{
		Name:        recordingName(r.Stream, r.ID),
		Id:          r.ID,
		BroadcastId: r.Broadcast,
		ServerIndex: int32(r.ServerIndex), //nolint:gosec // 0 or 1
		PartnerId:   int32(r.Partner),     //nolint:gosec // bounded where entries are made
		Mode:        recordingModes[r.Mode],
		StartTime:   timestamp(r.Start),
		EndTime:     timestamp(r.End),
		Error:       r.Err,
	}
}

// addPieces adds the pieces with their deliveries. Where they are on this
// machine stays here.
func addPieces(out *klivev1.Recording, r *stream.Recording, deliveries []stream.Delivery) {
	type pieceKey struct {
		rendition string
		number    int
	}
	byPiece := make(map[pieceKey]*stream.Delivery, len(deliveries))
	for i := range deliveries {
		d := &deliveries[i]
		byPiece[pieceKey{d.Rendition, d.Number}] = d
	}
	out.DeliveryState = worstDelivery(deliveries)
	out.Pieces = make([]*klivev1.RecordingPiece, len(r.Pieces))
	for i := range r.Pieces {
		p := &r.Pieces[i]
		out.Pieces[i] = &klivev1.RecordingPiece{
			Rendition: p.Rendition,
			Number:    int32(p.Number), //nolint:gosec // a count
			StartTime: timestamp(p.Start),
			Offset:    durationpb.New(p.Offset),
			Duration:  durationpb.New(p.Duration),
			SizeBytes: p.Size,
			Finished:  p.Finished,
			Last:      p.Last,
		}
		if d := byPiece[pieceKey{p.Rendition, p.Number}]; d != nil {
			out.Pieces[i].Delivery = deliveryProto(d)
		}
	}
}

// worstDelivery is the state that needs attention most.
func worstDelivery(deliveries []stream.Delivery) klivev1.DeliveryState {
	var worst deliveryRow
	for i := range deliveries {
		if row := deliveryStates[deliveries[i].State]; row.attention > worst.attention {
			worst = row
		}
	}
	return worst.state
}

func deliveryProto(d *stream.Delivery) *klivev1.Delivery {
	return &klivev1.Delivery{
		State:           deliveryStates[d.State].state,
		AttemptCount:    int32(d.Attempts), //nolint:gosec // a count
		QueueTime:       timestamp(d.Queued),
		LastAttemptTime: timestamp(d.Tried),
		NextAttemptTime: timestamp(d.Next),
		DoneTime:        timestamp(d.Done),
		Code:            d.Code,
		Error:           d.Error,
		AssetId:         d.Asset,
		AcceptedFrom:    deliveryStates[d.Accepted].state,
		AcceptedBy:      d.AcceptedBy,
	}
}

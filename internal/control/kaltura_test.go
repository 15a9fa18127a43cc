package control

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/stream"
	"github.com/klive-media/klive/internal/transcode"
)

// withAnnex serves the house as in Kaltura mode.
func (h *house) withAnnex(a *annex) Options {
	o := h.options()
	o.Entries, o.Bridge, o.Recordings, o.Deliveries = managed{catalog{h}}, bridge{a}, recorder{a}, queue{a}
	return o
}

// adopt adds an entry of the backend.
func (h *house) adopt(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.entries[id] = stream.Entry{ID: id, Origin: stream.FromKaltura, Partner: 102}
	ring(&h.entriesChanged)
}

func TestKalturaBridge(t *testing.T) {
	a := &annex{}
	a.register(2)
	a.record("r1", "0_entry0000", birth, 3, stream.DeliveryQueued, stream.DeliveryInDoubt, stream.DeliveryDelivered)
	client := klivev1.NewKalturaBridgeServiceClient(dial(t, start(t, newHouse().withAnnex(a))))

	got, err := client.GetKalturaBridge(t.Context(), &klivev1.GetKalturaBridgeRequest{})
	require.NoError(t, err)
	require.Equal(t, "kalturaBridge", got.GetName())
	require.Equal(t, klivev1.KalturaMode_KALTURA_MODE_SAAS, got.GetMode())
	require.True(t, got.GetBackend().GetAvailable())
	require.EqualValues(t, -5, got.GetBackend().GetPartnerId())
	require.Equal(t, birth, got.GetBackend().GetChangeTime().AsTime())
	require.Equal(t, "live1.example", got.GetNode().GetHostName())
	require.EqualValues(t, 7, got.GetNode().GetId())

	require.EqualValues(t, 2, got.GetRegistrationCount())
	r := got.GetRegistrations()[1]
	require.Equal(t, "streams/0_entry0001", r.GetStream())
	require.Equal(t, klivev1.BroadcastState_BROADCAST_STATE_PLAYABLE, r.GetState())
	require.EqualValues(t, 1, r.GetKalturaStatus())
	require.EqualValues(t, 1, r.GetServerIndex())
	require.Equal(t, birth.Add(50*time.Second), r.GetNextReportTime().AsTime())
	require.Nil(t, r.GetUnregisterDeadline())
	require.Equal(t, klivev1.LadderSource_LADDER_SOURCE_FLAVORS, r.GetLadderSource())
	require.True(t, r.GetLadder()[0].GetVideo().GetCopy())
	require.Empty(t, r.GetLadder()[0].GetVideo().GetCodec())
	require.Equal(t, klivev1.PictureFit_PICTURE_FIT_HEIGHT, r.GetLadder()[1].GetVideo().GetFit())
	require.Equal(t, "H.264", r.GetLadder()[1].GetVideo().GetCodec())
	require.InDelta(t, 29.97, r.GetLadder()[1].GetVideo().GetFrameRate(), 0.001)
	require.Equal(t, 2*time.Second, r.GetLadder()[1].GetVideo().GetKeyFrameInterval().AsDuration())
	require.EqualValues(t, 44100, r.GetLadder()[1].GetAudio().GetSampleRate())
	require.EqualValues(t, 2_700_000, r.GetStreams()[0].GetBitrate())

	counts := got.GetPendingDeliveryCounts()
	require.Equal(t, []int32{4, 2, 0, 2, 0}, []int32{counts.GetTotal(), counts.GetQueued(), counts.GetSending(), counts.GetInDoubt(), counts.GetRefused()})
	require.Len(t, got.GetPendingDeliveries(), 4)
	first := got.GetPendingDeliveries()[0]
	require.Equal(t, "streams/0_entry0000/recordings/r1", first.GetRecording())
	require.Equal(t, klivev1.DeliveryState_DELIVERY_STATE_IN_DOUBT, first.GetDelivery().GetState(), "what waits for a person comes first")
	require.EqualValues(t, 2, first.GetNumber())
	require.Equal(t, klivev1.DeliveryState_DELIVERY_STATE_QUEUED, got.GetPendingDeliveries()[3].GetDelivery().GetState())

	again, err := client.ResyncKalturaBridge(t.Context(), &klivev1.ResyncKalturaBridgeRequest{Name: "kalturaBridge"})
	require.NoError(t, err)
	require.Equal(t, birth.Add(time.Hour), again.GetNode().GetLastReportTime().AsTime())
	require.Equal(t, 1, a.resyncs)
	a.mu.Lock()
	a.broken = fault.New(fault.BackendUnavailable, "the Kaltura backend does not answer")
	a.mu.Unlock()
	_, err = client.ResyncKalturaBridge(t.Context(), &klivev1.ResyncKalturaBridgeRequest{})
	requireFault(t, err, codes.Unavailable, fault.BackendUnavailable)
	_, err = client.GetKalturaBridge(t.Context(), &klivev1.GetKalturaBridgeRequest{Name: "kalturaBridges/1"})
	requireFault(t, err, codes.InvalidArgument, fault.InvalidField)
}

func TestTheBridgeIsShownWithinBounds(t *testing.T) {
	a := &annex{}
	a.register(maxRegistrations + 1)
	states := make([]stream.DeliveryState, maxPendingDeliveries)
	for i := range states {
		states[i] = stream.DeliveryQueued
	}
	a.record("r1", "a", birth, len(states), states...)
	client := klivev1.NewKalturaBridgeServiceClient(dial(t, start(t, newHouse().withAnnex(a))))
	got, err := client.GetKalturaBridge(t.Context(), &klivev1.GetKalturaBridgeRequest{})
	require.NoError(t, err)
	require.Len(t, got.GetRegistrations(), maxRegistrations)
	require.EqualValues(t, maxRegistrations+1, got.GetRegistrationCount())
	require.Len(t, got.GetPendingDeliveries(), maxPendingDeliveries)
	require.EqualValues(t, 2*maxPendingDeliveries, got.GetPendingDeliveryCounts().GetTotal())
}

func TestWithoutABridge(t *testing.T) {
	h := newHouse()
	h.declare("a")
	conn := dial(t, start(t, h.options()))
	client := klivev1.NewKalturaBridgeServiceClient(conn)
	_, err := client.GetKalturaBridge(t.Context(), &klivev1.GetKalturaBridgeRequest{})
	requireFault(t, err, codes.FailedPrecondition, fault.BridgeOff)
	_, err = client.ResyncKalturaBridge(t.Context(), &klivev1.ResyncKalturaBridgeRequest{})
	requireFault(t, err, codes.FailedPrecondition, fault.BridgeOff)

	recordings := klivev1.NewRecordingServiceClient(conn)
	page, err := recordings.ListRecordings(t.Context(), &klivev1.ListRecordingsRequest{Parent: "streams/a"})
	require.NoError(t, err)
	require.Empty(t, page.GetRecordings())
	_, err = recordings.GetRecording(t.Context(), &klivev1.GetRecordingRequest{Name: "streams/a/recordings/r1"})
	requireFault(t, err, codes.NotFound, fault.RecordingNotFound)
	_, err = recordings.RetryDelivery(t.Context(), &klivev1.RetryDeliveryRequest{Name: "streams/a/recordings/r1"})
	requireFault(t, err, codes.FailedPrecondition, fault.BridgeOff)
	_, err = recordings.AcceptDelivery(t.Context(), &klivev1.AcceptDeliveryRequest{Name: "streams/a/recordings/r1"})
	requireFault(t, err, codes.FailedPrecondition, fault.BridgeOff)
	_, err = recordings.SplitRecording(t.Context(), &klivev1.SplitRecordingRequest{Name: "streams/a"})
	requireFault(t, err, codes.FailedPrecondition, fault.NotRecording)
}

func TestStreamsManagedByTheBackend(t *testing.T) {
	h := newHouse()
	h.adopt("0_abc")
	client, ctx := streamsClient(t, start(t, h.withAnnex(&annex{}))), t.Context()

	got, err := client.GetStream(ctx, &klivev1.GetStreamRequest{Name: "streams/0_abc"})
	require.NoError(t, err)
	require.Equal(t, klivev1.StreamOrigin_STREAM_ORIGIN_KALTURA, got.GetOrigin())
	page, err := client.ListStreams(ctx, &klivev1.ListStreamsRequest{Filter: "origin = KALTURA AND partner_id = 102"})
	require.NoError(t, err)
	require.Len(t, page.GetStreams(), 1)

	for name, call := range map[string]func() error{
		"create": func() error {
			_, err := client.CreateStream(ctx, &klivev1.CreateStreamRequest{StreamId: "lobby"})
			return err
		},
		"update": func() error {
			_, err := client.UpdateStream(ctx, &klivev1.UpdateStreamRequest{Stream: &klivev1.Stream{Name: "streams/0_abc", DisplayName: "x"}})
			return err
		},
		"delete": func() error {
			_, err := client.DeleteStream(ctx, &klivev1.DeleteStreamRequest{Name: "streams/0_abc"})
			return err
		},
		"rotateToken": func() error {
			_, err := client.RotateStreamToken(ctx, &klivev1.RotateStreamTokenRequest{Name: "streams/0_abc"})
			return err
		},
		"publishAddresses": func() error {
			_, err := client.GetPublishAddresses(ctx, &klivev1.GetPublishAddressesRequest{Name: "streams/0_abc"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { requireFault(t, call(), codes.FailedPrecondition, fault.ManagedByKaltura) })
	}
	require.Empty(t, h.events, "what was refused is no event")
}

func TestKalturaOverREST(t *testing.T) {
	h, a := newHouse(), &annex{}
	h.adopt("0_abc")
	a.register(1)
	a.record("r1", "0_abc", birth, 2, stream.DeliveryRefused)
	o := h.withAnnex(a)
	o.Authenticator = twoTokens(t)
	s := start(t, o)
	const viewer, admin = "Authorization: Bearer look", "Authorization: Bearer s3cret"

	got := ask(t, s, "GET", "/v1/kalturaBridge", "", viewer)
	require.Equal(t, "KALTURA_MODE_SAAS", got.object["mode"], got.body)
	require.EqualValues(t, 1, got.object["registrationCount"])
	list := ask(t, s, "GET", "/v1/streams/-/recordings", "", viewer)
	require.Len(t, list.object["recordings"], 1, list.body)
	one := ask(t, s, "GET", "/v1/streams/0_abc/recordings/r1", "", viewer)
	require.Equal(t, "DELIVERY_STATE_REFUSED", one.object["deliveryState"])
	for _, reply := range []reply{got, list, one} {
		require.Equal(t, http.StatusOK, reply.status)
		require.NotContains(t, reply.body, "secret")
	}
	for _, path := range []string{"/v1/kalturaBridge:resync", "/v1/streams/0_abc/recordings/r1:retryDelivery", "/v1/streams/0_abc:splitRecording"} {
		refused := ask(t, s, "POST", path, "{}", viewer)
		require.Equal(t, http.StatusForbidden, refused.status, path)
		require.Equal(t, string(fault.NotAllowed), refused.reason(), path)
		done := ask(t, s, "POST", path, "{}", admin)
		require.Equal(t, http.StatusOK, done.status, done.body)
	}
	nothing := ask(t, s, "POST", "/v1/streams/0_abc/recordings/r1:retryDelivery", `{"rendition": "32", "number": 2}`, admin)
	require.Equal(t, string(fault.NothingToDeliver), nothing.reason())
	const accept = "/v1/streams/0_abc/recordings/r2:acceptDelivery"
	a.record("r2", "0_abc", birth.Add(time.Hour), 1, stream.DeliveryInDoubt)
	require.Equal(t, string(fault.NotAllowed), ask(t, s, "POST", accept, "{}", viewer).reason())
	accepted := ask(t, s, "POST", accept, `{"rendition": "32", "number": 1}`, admin)
	require.EqualValues(t, 1, accepted.object["pieceCount"], accepted.body)
	require.Contains(t, accepted.body, `"acceptedFrom":"DELIVERY_STATE_IN_DOUBT"`)
	require.Equal(t, string(fault.NothingToDeliver), ask(t, s, "POST", accept, `{"rendition": "32", "number": 1}`, admin).reason())
	managed := ask(t, s, "POST", "/v1/streams?streamId=x", "{}", admin)
	require.Equal(t, string(fault.ManagedByKaltura), managed.reason())
	require.Equal(t, http.StatusBadRequest, managed.status)
	require.Contains(t, ask(t, s, "GET", "/", "").body, "/v1/kalturaBridge")
	require.Contains(t, ask(t, s, "GET", "/openapi.json", "").body, "/v1/streams/{stream}/recordings/{recording}:retryDelivery")
	require.Contains(t, ask(t, s, "GET", "/openapi.json", "").body, "/v1/streams/{stream}/recordings/{recording}:acceptDelivery")

	off := ask(t, start(t, newHouse().options()), "GET", "/v1/kalturaBridge", "")
	require.Equal(t, string(fault.BridgeOff), off.reason())
}

func TestWatchesShowWhatIsNew(t *testing.T) {
	h := newHouse()
	h.adopt("0_abc")
	h.mu.Lock()
	h.statuses["0_abc"] = stream.Status{Stream: "0_abc", State: stream.Playable, Version: 1, Broadcasts: []stream.BroadcastStatus{{
		State: stream.Playable, Playable: birth, Policy: egress.Policy{DVR: egress.DVR{Enabled: true}},
		Renditions: []stream.RenditionStatus{{ID: "32", Index: 1}},
	}}}
	h.mu.Unlock()
	journal{h}.Record(stream.Event{Type: stream.EntryTakenOver, Stream: "0_abc"})
	journal{h}.Record(stream.Event{Type: stream.EntryLeft, Stream: "0_abc"})
	conn := dial(t, start(t, h.withAnnex(&annex{})))

	streams, err := klivev1.NewStreamServiceClient(conn).WatchStreams(t.Context(), &klivev1.WatchStreamsRequest{Filter: "origin = KALTURA"})
	require.NoError(t, err)
	message, err := streams.Recv()
	require.NoError(t, err)
	broadcast := message.GetStream().GetBroadcasts()[0]
	require.Equal(t, birth, broadcast.GetPlayableTime().AsTime())
	require.True(t, broadcast.GetPolicy().GetDvr().GetEnabled())
	require.EqualValues(t, 1, broadcast.GetRenditions()[0].GetIngestIndex())

	events, err := klivev1.NewEventServiceClient(conn).WatchEvents(t.Context(), &klivev1.WatchEventsRequest{Filter: "type = ENTRY_UNREGISTERED"})
	require.NoError(t, err)
	event, err := events.Recv()
	require.NoError(t, err)
	require.Equal(t, klivev1.EventType_EVENT_TYPE_ENTRY_UNREGISTERED, event.GetEvent().GetType())
	require.Equal(t, "streams/0_abc", event.GetEvent().GetStream())
}

func TestBroadcastOfAnEntry(t *testing.T) {
	got := broadcastProto("0_abc", &stream.BroadcastStatus{
		ID: "b", State: stream.Playable, Start: birth, Playable: birth.Add(3 * time.Second),
		Policy: egress.Policy{
			SegmentDuration: 4 * time.Second, DVR: egress.DVR{Enabled: true, Window: time.Hour},
			Recording: egress.RecordPerSession, LowLatency: true,
		},
		Renditions: []stream.RenditionStatus{{ID: "36", Index: 2}},
	})
	require.Equal(t, birth.Add(3*time.Second), got.GetPlayableTime().AsTime())
	require.Equal(t, 4*time.Second, got.GetPolicy().GetSegmentDuration().AsDuration())
	require.Equal(t, time.Hour, got.GetPolicy().GetDvr().GetWindow().AsDuration())
	require.True(t, got.GetPolicy().GetDvr().GetEnabled())
	require.Equal(t, klivev1.RecordingMode_RECORDING_MODE_PER_SESSION, got.GetPolicy().GetRecordingMode())
	require.True(t, got.GetPolicy().GetLowLatency())
	require.EqualValues(t, 2, got.GetRenditions()[0].GetIngestIndex())

	plain := broadcastProto("a", &stream.BroadcastStatus{}).GetPolicy()
	require.Nil(t, plain.GetSegmentDuration())
	require.Equal(t, klivev1.RecordingMode_RECORDING_MODE_OFF, plain.GetRecordingMode())
}

// Each constant of a type that the API shows has its value in the contract,
// and the contract has no value that nothing makes.
func TestEveryConstantIsInTheContract(t *testing.T) {
	delivery := make(map[stream.DeliveryState]klivev1.DeliveryState)
	for state, row := range deliveryStates {
		delivery[state] = row.state
		require.Equal(t, "DELIVERY_STATE_"+state.String(), row.state.String())
	}
	delete(delivery, stream.DeliveryUnspecified)
	broadcast := make(map[stream.State]klivev1.BroadcastState)
	for state, row := range states {
		broadcast[state] = row.state
	}
	delete(broadcast, stream.StateUnspecified)
	checkTable(t, constants(t, "../stream/recording.go", "DeliveryState")-1, delivery, klivev1.DeliveryState_name)
	checkTable(t, constants(t, "../stream/state.go", "State")-1, broadcast, klivev1.BroadcastState_name)
	checkTable(t, constants(t, "../stream/entry.go", "Origin"), origins, klivev1.StreamOrigin_name)
	checkTable(t, constants(t, "../egress/egress.go", "RecordingMode"), recordingModes, klivev1.RecordingMode_name)
	checkTable(t, constants(t, "../transcode/ladder.go", "Fit"), pictureFits, klivev1.PictureFit_name)
	checkTable(t, 2, kalturaModes, klivev1.KalturaMode_name)
	checkTable(t, 2, ladderSources, klivev1.LadderSource_name)
	require.Equal(t, klivev1.PictureFit_PICTURE_FIT_MATCH_SOURCE, rungProto(&transcode.Rung{Video: &transcode.VideoOut{}}).GetVideo().GetFit())
	require.Equal(t, auth.Viewer, needs(klivev1.RecordingService_GetRecording_FullMethodName))
}

// checkTable holds a table to as many rows as there are constants, each with a
// value of its own, and all values but UNSPECIFIED used.
func checkTable[K comparable, V ~int32](t *testing.T, count int, table map[K]V, names map[int32]string) {
	t.Helper()
	require.Len(t, table, count)
	used := make(map[V]bool)
	for key, value := range table {
		require.NotZero(t, value, "%v is shown as unspecified", key)
		require.Contains(t, names, int32(value))
		used[value] = true
	}
	require.Len(t, used, len(names)-1)
}

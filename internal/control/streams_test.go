package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/stream"
)

// requireFault holds an error of a call to its code, reason and domain, and
// returns the facts.
func requireFault(t *testing.T, err error, code codes.Code, reason fault.Reason) map[string]string {
	t.Helper()
	require.Error(t, err)
	s := status.Convert(err)
	require.Equal(t, code, s.Code(), s.Message())
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			require.Equal(t, string(reason), info.GetReason(), s.Message())
			require.Equal(t, Domain, info.GetDomain())
			return info.GetMetadata()
		}
	}
	require.Fail(t, "the error has no ErrorInfo", s.Message())
	return nil
}

func TestStreamLifeOverGRPC(t *testing.T) {
	h := newHouse()
	client := streamsClient(t, start(t, h.options()))
	ctx := t.Context()

	made, err := client.CreateStream(ctx, &klivev1.CreateStreamRequest{
		StreamId: "lobby", Stream: &klivev1.Stream{DisplayName: "Lobby", PartnerId: 102, Labels: map[string]string{"room": "1"}},
	})
	require.NoError(t, err)
	require.Equal(t, "streams/lobby", made.GetName())
	require.Equal(t, "secret-1", made.GetToken())
	require.Equal(t, klivev1.StreamOrigin_STREAM_ORIGIN_API, made.GetOrigin())
	require.Equal(t, birth, made.GetCreateTime().AsTime())
	require.NotEmpty(t, made.GetEtag())

	_, err = client.CreateStream(ctx, &klivev1.CreateStreamRequest{StreamId: "lobby"})
	requireFault(t, err, codes.AlreadyExists, fault.AlreadyExistsReason)
	_, err = client.CreateStream(ctx, &klivev1.CreateStreamRequest{})
	require.Equal(t, "stream_id", requireFault(t, err, codes.InvalidArgument, fault.InvalidField)["field"])

	got, err := client.GetStream(ctx, &klivev1.GetStreamRequest{Name: "streams/lobby"})
	require.NoError(t, err)
	require.Nil(t, got.Token)
	require.Equal(t, made.GetEtag(), got.GetEtag())
	require.Equal(t, klivev1.BroadcastState_BROADCAST_STATE_UNSPECIFIED, got.GetState())

	h.publish("lobby", stream.Playable)
	got, err = client.GetStream(ctx, &klivev1.GetStreamRequest{Name: "streams/lobby"})
	require.NoError(t, err)
	require.Equal(t, klivev1.BroadcastState_BROADCAST_STATE_PLAYABLE, got.GetState())
	require.EqualValues(t, 1, got.GetKalturaStatus())
	require.Equal(t, made.GetEtag(), got.GetEtag(), "the etag does not follow the state")
	rendition := got.GetBroadcasts()[0].GetRenditions()[0]
	require.Equal(t, "avc1.64001f", rendition.GetTracks()[0].GetCodec())
	require.EqualValues(t, 720, rendition.GetTracks()[0].GetVideo().GetHeight())
	require.EqualValues(t, 48000, rendition.GetTracks()[1].GetAudio().GetSampleRate())
	require.Equal(t, "streams/lobby/sessions/s1-lobby", rendition.GetSession())

	rotated, err := client.RotateStreamToken(ctx, &klivev1.RotateStreamTokenRequest{Name: "streams/lobby"})
	require.NoError(t, err)
	require.Equal(t, "secret-1-again", rotated.GetToken())

	book, err := client.GetPublishAddresses(ctx, &klivev1.GetPublishAddressesRequest{Name: "streams/lobby"})
	require.NoError(t, err)
	require.Equal(t, "secret-1-again", book.GetToken())
	require.Equal(t, "lobby_1", book.GetAddresses()[0].GetStreamKey())
	require.Equal(t, "http://host/live/lobby/", book.GetPlayerUrl())

	stopped, err := client.StopStream(ctx, &klivev1.StopStreamRequest{Name: "streams/lobby"})
	require.NoError(t, err)
	require.Equal(t, klivev1.BroadcastState_BROADCAST_STATE_STOPPED, stopped.GetState())
	require.Equal(t, fault.StoppedByOperator, fault.ReasonOf(h.stopped["lobby"]))

	_, err = client.DeleteStream(ctx, &klivev1.DeleteStreamRequest{Name: "streams/lobby", Etag: "zz"})
	requireFault(t, err, codes.Aborted, fault.EtagMismatch)
	_, err = client.DeleteStream(ctx, &klivev1.DeleteStreamRequest{Name: "streams/lobby", Etag: made.GetEtag()})
	require.NoError(t, err)
	require.Equal(t, fault.StreamDeleted, fault.ReasonOf(h.stopped["lobby"]), "its publisher is dismissed")
	h.vanish("lobby")
	_, err = client.GetStream(ctx, &klivev1.GetStreamRequest{Name: "streams/lobby"})
	requireFault(t, err, codes.NotFound, fault.StreamNotFound)

	var types []string
	for _, e := range h.events {
		types = append(types, string(e.Type))
		require.Equal(t, "anonymous", e.Facts["principal"])
	}
	require.Equal(t, "STREAM_CREATED TOKEN_ROTATED PUBLISH_ADDRESSES_SHOWN STREAM_DELETED", strings.Join(types, " "))
}

func TestOnlyThreeCallsShowSecrets(t *testing.T) {
	h := newHouse()
	s := start(t, h.options())
	conn := dial(t, s)
	client, ctx := klivev1.NewStreamServiceClient(conn), t.Context()
	made, err := client.CreateStream(ctx, &klivev1.CreateStreamRequest{
		StreamId: "lobby", Token: "TOPSECRET-T", Stream: &klivev1.Stream{SrtPassphrase: new("TOPSECRET-P")},
	})
	require.NoError(t, err)
	require.Equal(t, "TOPSECRET-P", made.GetSrtPassphrase())
	require.True(t, made.GetSrtEncrypted())
	rotated, err := client.RotateStreamToken(ctx, &klivev1.RotateStreamTokenRequest{Name: "streams/lobby"})
	require.NoError(t, err)
	require.Equal(t, "TOPSECRET-P", rotated.GetSrtPassphrase())
	book, err := client.GetPublishAddresses(ctx, &klivev1.GetPublishAddressesRequest{Name: "streams/lobby"})
	require.NoError(t, err)
	require.Equal(t, "TOPSECRET-P", book.GetAddresses()[1].GetPassphrase())
	require.Empty(t, book.GetAddresses()[0].GetPassphrase())
	h.publish("lobby", stream.Playable)

	var seen strings.Builder
	get, err := client.GetStream(ctx, &klivev1.GetStreamRequest{Name: "streams/lobby"})
	require.NoError(t, err)
	list, err := client.ListStreams(ctx, &klivev1.ListStreamsRequest{})
	require.NoError(t, err)
	update, err := client.UpdateStream(ctx, &klivev1.UpdateStreamRequest{
		Stream: &klivev1.Stream{Name: "streams/lobby", DisplayName: "x", SrtPassphrase: new("TOPSECRET-Q")},
	})
	require.NoError(t, err)
	stop, err := client.StopStream(ctx, &klivev1.StopStreamRequest{Name: "streams/lobby"})
	require.NoError(t, err)
	sessions, err := klivev1.NewSessionServiceClient(conn).ListSessions(ctx, &klivev1.ListSessionsRequest{Parent: "streams/-"})
	require.NoError(t, err)
	events, err := klivev1.NewEventServiceClient(conn).ListEvents(ctx, &klivev1.ListEventsRequest{})
	require.NoError(t, err)
	watch, err := client.WatchStreams(ctx, &klivev1.WatchStreamsRequest{})
	require.NoError(t, err)
	first, err := watch.Recv()
	require.NoError(t, err)
	for _, m := range []interface{ String() string }{get, list, update, stop, sessions, events, first} {
		seen.WriteString(m.String())
	}
	require.NotEmpty(t, list.GetStreams())
	for _, p := range []*klivev1.Stream{get, list.GetStreams()[0], update, stop, first.GetStream()} {
		require.True(t, p.GetSrtEncrypted())
		require.Nil(t, p.SrtPassphrase)
	}
	require.Contains(t, seen.String(), "lobby")
	require.NotContains(t, seen.String(), "TOPSECRET")
}

func TestUpdateStream(t *testing.T) {
	before := stream.Entry{ID: "a", DisplayName: "old", Partner: 1, Labels: map[string]string{"k": "v"}}
	for _, c := range []struct {
		name   string
		wish   *klivev1.Stream
		mask   []string
		etag   string // "right", "wrong", or none
		want   stream.Entry
		code   codes.Code
		reason fault.Reason
		pass   string // that it has afterwards, where it is not the one of before
	}{
		{name: "one field", wish: &klivev1.Stream{DisplayName: "new", PartnerId: 9}, mask: []string{"display_name"}, want: stream.Entry{DisplayName: "new", Partner: 1, Labels: map[string]string{"k": "v"}}},
		{name: "to zero", wish: &klivev1.Stream{}, mask: []string{"display_name", "labels"}, want: stream.Entry{Partner: 1}},
		{name: "no mask: what is set", wish: &klivev1.Stream{PartnerId: 9}, want: stream.Entry{DisplayName: "old", Partner: 9, Labels: map[string]string{"k": "v"}}},
		{name: "star: all", wish: &klivev1.Stream{DisplayName: "new"}, mask: []string{"*"}, want: stream.Entry{DisplayName: "new"}},
		{name: "output only is ignored", wish: &klivev1.Stream{DisplayName: "new", State: 4}, mask: []string{"name", "state", "etag", "create_time", "broadcasts", "display_name"}, want: stream.Entry{DisplayName: "new", Partner: 1, Labels: map[string]string{"k": "v"}}},
		{name: "passphrase", wish: &klivev1.Stream{SrtPassphrase: new("another one")}, mask: []string{"srt_passphrase"}, want: before, pass: "another one"},
		{name: "passphrase without mask", wish: &klivev1.Stream{SrtPassphrase: new("another one")}, want: before, pass: "another one"},
		{name: "passphrase taken away", wish: &klivev1.Stream{}, mask: []string{"srt_passphrase"}, want: before, pass: "none"},
		{name: "passphrase taken away without mask", wish: &klivev1.Stream{SrtPassphrase: new("")}, want: before, pass: "none"},
		{name: "star with passphrase", wish: &klivev1.Stream{SrtPassphrase: new("")}, mask: []string{"*"}, pass: "none"},
		{name: "srt_encrypted is ignored", wish: &klivev1.Stream{SrtEncrypted: false}, mask: []string{"srt_encrypted"}, want: before},
		{name: "right etag", wish: &klivev1.Stream{DisplayName: "new"}, etag: "right", want: stream.Entry{DisplayName: "new", Partner: 1, Labels: map[string]string{"k": "v"}}},
		{name: "wrong etag", wish: &klivev1.Stream{DisplayName: "new"}, etag: "zz", code: codes.Aborted, reason: fault.EtagMismatch},
		{name: "no etag of ours", wish: &klivev1.Stream{DisplayName: "new"}, etag: "W/\"1\"", code: codes.Aborted, reason: fault.EtagMismatch},
		{name: "unknown field", wish: &klivev1.Stream{}, mask: []string{"colour"}, code: codes.InvalidArgument, reason: fault.InvalidField},
		{name: "inside a map", wish: &klivev1.Stream{}, mask: []string{"labels.k"}, code: codes.InvalidArgument, reason: fault.InvalidField},
		{name: "star and more", wish: &klivev1.Stream{}, mask: []string{"*", "labels"}, code: codes.InvalidArgument, reason: fault.InvalidField},
		{name: "token", wish: &klivev1.Stream{}, mask: []string{"token"}, want: before},
		{name: "name", wish: &klivev1.Stream{Name: "lobby"}, code: codes.InvalidArgument, reason: fault.InvalidField},
		{name: "nobody", wish: &klivev1.Stream{Name: "streams/nobody", DisplayName: "x"}, code: codes.NotFound, reason: fault.StreamNotFound},
		{name: "declared", wish: &klivev1.Stream{Name: "streams/fixed", DisplayName: "x"}, code: codes.FailedPrecondition, reason: fault.ManagedByConfig},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse()
			h.declare("fixed")
			made, _, err := catalog{h}.Create(t.Context(), before, stream.Secrets{Passphrase: "of before"})
			require.NoError(t, err)
			service := &streamService{entries: catalog{h}, live: air{h}, journal: journal{h}}
			if c.wish.GetName() == "" {
				c.wish.Name = "streams/a"
			}
			if c.wish.Etag = c.etag; c.etag == "right" {
				c.wish.Etag = etag(made.Revision)
			}
			request := &klivev1.UpdateStreamRequest{Stream: c.wish}
			if c.mask != nil {
				request.UpdateMask = &fieldmaskpb.FieldMask{Paths: c.mask}
			}
			got, err := service.UpdateStream(t.Context(), request)
			if c.code != codes.OK {
				requireFault(t, statusOf(err).Err(), c.code, c.reason)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want.DisplayName, got.GetDisplayName())
			require.EqualValues(t, c.want.Partner, got.GetPartnerId())
			require.Equal(t, c.want.Labels, got.GetLabels())
			if c.pass == "none" {
				c.pass = ""
			} else if c.pass == "" {
				c.pass = "of before"
			}
			require.Equal(t, c.pass, h.secrets["a"].Passphrase)
			require.Equal(t, c.pass != "", got.GetSrtEncrypted())
			require.NotEqual(t, etag(made.Revision), got.GetEtag())
		})
	}
}

func TestListStreams(t *testing.T) {
	h := newHouse()
	h.declare("a")
	h.declare("c")
	h.publish("b", stream.Broadcasting) // on air, though its entry was deleted
	h.publish("c", stream.Playable)
	client := streamsClient(t, start(t, h.options()))

	var ids []string
	request := &klivev1.ListStreamsRequest{PageSize: 2}
	for {
		page, err := client.ListStreams(t.Context(), request)
		require.NoError(t, err)
		for _, p := range page.GetStreams() {
			ids = append(ids, p.GetId()+":"+p.GetState().String()[len("BROADCAST_STATE_"):])
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			break
		}
	}
	require.Equal(t, []string{"a:UNSPECIFIED", "b:BROADCASTING", "c:PLAYABLE"}, ids)

	page, err := client.ListStreams(t.Context(), &klivev1.ListStreamsRequest{Filter: "state = PLAYABLE"})
	require.NoError(t, err)
	require.Len(t, page.GetStreams(), 1)
	_, err = client.ListStreams(t.Context(), &klivev1.ListStreamsRequest{Filter: "colour = red"})
	require.Equal(t, "filter", requireFault(t, err, codes.InvalidArgument, fault.InvalidField)["field"])
	_, err = client.ListStreams(t.Context(), &klivev1.ListStreamsRequest{PageToken: "x"})
	requireFault(t, err, codes.InvalidArgument, fault.InvalidField)
}

func TestBadNames(t *testing.T) {
	for _, name := range []string{"", "lobby", "streams/", "streams/a/b", "streams/../x", "streams/a b", "streams/-", "streams/ä", "streams/" + strings.Repeat("x", 129)} {
		_, err := parseStreamName("name", name)
		require.Equal(t, fault.InvalidField, fault.ReasonOf(err), name)
	}
	for _, name := range []string{"", "streams/a", "streams/a/sessions/", "sessions/a", "streams//sessions/x", "streams/a/sessions/b/c"} {
		_, _, err := parseSessionName(name)
		require.Equal(t, fault.InvalidField, fault.ReasonOf(err), name)
	}
	require.Equal(t, fault.InvalidField, fault.ReasonOf(checkSingleton("nodes/1", nodeName)))
}

func TestErrorsBecomeStatuses(t *testing.T) {
	for _, reason := range fault.Reasons() {
		s := statusOf(fault.New(reason, "a sentence").With("k", "v").Because(errors.New("inside")))
		require.Equal(t, faultCodes[reason.Code()], s.Code(), reason)
		require.Equal(t, "a sentence", s.Message())
		facts := requireFault(t, s.Err(), s.Code(), reason)
		require.Equal(t, "v", facts["k"])
	}
	require.Nil(t, statusOf(nil))
	s := statusOf(errors.New("open /secret/file"))
	require.Equal(t, codes.Internal, s.Code())
	require.NotContains(t, s.Message(), "secret")
	requireFault(t, s.Err(), codes.Internal, fault.InternalError)
	requireFault(t, statusOf(fmt.Errorf("ask: %w", context.DeadlineExceeded)).Err(), codes.DeadlineExceeded, fault.CallTimedOut)
	requireFault(t, statusOf(context.Canceled).Err(), codes.Canceled, fault.CallCancelled)
	requireFault(t, statusOf(status.Error(codes.Unimplemented, "no")).Err(), codes.Unimplemented, fault.UnknownMethod)
	requireFault(t, statusOf(fault.New(fault.InvalidField, "no")).Err(), codes.InvalidArgument, fault.InvalidField)
}

func TestStateTable(t *testing.T) {
	want := map[stream.State]int32{stream.StateUnspecified: 0, stream.Connecting: 0, stream.Authenticated: 3, stream.Broadcasting: 2, stream.Playable: 1, stream.Stopped: 0, stream.Failed: -1}
	for state, kaltura := range want {
		require.Equal(t, kaltura, states[state].kaltura)
		require.Equal(t, "BROADCAST_STATE_"+state.String(), states[state].state.String())
	}
	require.Len(t, states, len(want))
	_, err := protojson.Marshal(streamProto(known{id: "x"}))
	require.NoError(t, err)
}

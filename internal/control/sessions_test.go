package control

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/stream"
)

func TestSessions(t *testing.T) {
	h := newHouse()
	h.declare("quiet")
	for range 3 {
		h.publish("a", stream.Playable)
	}
	h.publish("b", stream.Broadcasting)
	client, ctx := klivev1.NewSessionServiceClient(dial(t, start(t, h.options()))), t.Context()

	var ids []string
	request := &klivev1.ListSessionsRequest{Parent: "streams/-", PageSize: 3}
	for {
		page, err := client.ListSessions(ctx, request)
		require.NoError(t, err)
		for _, s := range page.GetSessions() {
			ids = append(ids, s.GetId())
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			break
		}
	}
	require.Equal(t, []string{"s4-b", "s3-a", "s2-a", "s1-a"}, ids, "newest first")

	for parent, want := range map[string]int{"streams/a": 3, "streams/b": 1, "streams/quiet": 0} {
		page, err := client.ListSessions(ctx, &klivev1.ListSessionsRequest{Parent: parent})
		require.NoError(t, err)
		require.Len(t, page.GetSessions(), want, parent)
	}
	_, err := client.ListSessions(ctx, &klivev1.ListSessionsRequest{Parent: "streams/nobody"})
	requireFault(t, err, codes.NotFound, fault.StreamNotFound)
	page, err := client.ListSessions(ctx, &klivev1.ListSessionsRequest{Parent: "streams/-", Filter: "state = BROADCASTING AND protocol = rtmp AND ingest_index = 1"})
	require.NoError(t, err)
	require.Len(t, page.GetSessions(), 1)
	_, err = client.ListSessions(ctx, &klivev1.ListSessionsRequest{Parent: "streams/a", PageToken: encodePageToken(1, "x")})
	requireFault(t, err, codes.InvalidArgument, fault.InvalidField)

	got, err := client.GetSession(ctx, &klivev1.GetSessionRequest{Name: "streams/-/sessions/s4-b"})
	require.NoError(t, err)
	require.Equal(t, "streams/b/sessions/s4-b", got.GetName())
	require.Equal(t, "FMLE/3.0", got.GetUserAgent())
	require.Equal(t, klivev1.TimeJoinMethod_TIME_JOIN_METHOD_WIRE_CLOCK, got.GetTimeJoin().GetMethod())
	require.EqualValues(t, 40e6, got.GetTimeJoin().GetOffset().AsDuration())
	require.EqualValues(t, 2_700_000, got.GetBitrate())
	_, err = client.GetSession(ctx, &klivev1.GetSessionRequest{Name: "streams/a/sessions/s4-b"})
	requireFault(t, err, codes.NotFound, fault.SessionNotFound)

	gone, err := client.DisconnectSession(ctx, &klivev1.DisconnectSessionRequest{Name: "streams/b/sessions/s4-b"})
	require.NoError(t, err)
	require.Equal(t, "STOPPED_BY_OPERATOR", gone.GetReason())
	require.NotNil(t, gone.GetEndTime())
}

func TestTheLinkOfASessionIsShown(t *testing.T) {
	h := newHouse()
	h.publish("a", stream.Playable)
	h.publish("b", stream.Playable)
	h.sessions[0].Protocol, h.sessions[0].Link = "srt", &stream.LinkStatus{
		RTT: 30 * time.Millisecond, Latency: 120 * time.Millisecond, Rate: 2_800_000, Bandwidth: 95_000_000,
		Packets: 1000, Lost: 6, Retransmitted: 5, Dropped: 1, Undecrypted: 2, Discontinuities: 3, Encrypted: true,
	}
	client := klivev1.NewSessionServiceClient(dial(t, start(t, h.options())))
	got, err := client.GetSession(t.Context(), &klivev1.GetSessionRequest{Name: "streams/-/sessions/s2-b"})
	require.NoError(t, err)
	want := &klivev1.Link{
		Rtt: durationpb.New(30 * time.Millisecond), Latency: durationpb.New(120 * time.Millisecond), Buffered: durationpb.New(0),
		ReceiveBitrate: 2_800_000, Bandwidth: 95_000_000, Encrypted: true,
		PacketCount: 1000, LostPacketCount: 6, RetransmittedPacketCount: 5, DroppedPacketCount: 1, UndecryptedPacketCount: 2, DiscontinuityCount: 3,
	}
	require.True(t, proto.Equal(want, got.GetLink()), got.GetLink())
	got, err = client.GetSession(t.Context(), &klivev1.GetSessionRequest{Name: "streams/-/sessions/s1-a"})
	require.NoError(t, err)
	require.Nil(t, got.GetLink(), "RTMP tells nothing of the network")
}

func TestNode(t *testing.T) {
	h := newHouse()
	h.declare("a")
	h.publish("b", stream.Playable)
	h.publish("c", stream.Failed)
	client := klivev1.NewNodeServiceClient(dial(t, start(t, h.options())))
	got, err := client.GetNode(t.Context(), &klivev1.GetNodeRequest{})
	require.NoError(t, err)
	require.Equal(t, klivev1.NodeState_NODE_STATE_SERVING, got.GetState())
	require.Equal(t, []int32{3, 1, 1}, []int32{got.GetStreamCount(), got.GetOnAirCount(), got.GetSessionCount()})
	require.Equal(t, "127.0.0.1:1935", got.GetListeners()[0].GetAddress())
	_, err = client.DrainNode(t.Context(), &klivev1.DrainNodeRequest{Name: "nodes/other"})
	requireFault(t, err, codes.InvalidArgument, fault.InvalidField)
}

func TestListEvents(t *testing.T) {
	h := newHouse()
	for i := range 1203 {
		kind := stream.SessionStarted
		if i%400 == 0 {
			kind = stream.SessionEnded
		}
		journal{h}.Record(stream.Event{Type: kind, Stream: "a", Session: "s", Facts: map[string]string{"n": strconv.Itoa(i)}})
	}
	service := &eventService{journal: journal{h}}
	walk := func(size int32, filter string) (sequences []int64) {
		request := &klivev1.ListEventsRequest{PageSize: size, Filter: filter}
		for pages := 0; ; pages++ {
			require.Less(t, pages, 100)
			page, err := service.ListEvents(t.Context(), request)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page.GetEvents()), int(size))
			for _, e := range page.GetEvents() {
				sequences = append(sequences, e.GetSequence())
			}
			if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
				return sequences
			}
		}
	}
	everything := walk(100, "")
	require.Len(t, everything, 1203)
	for i, sequence := range everything {
		require.EqualValues(t, 1203-i, sequence)
	}
	require.Equal(t, []int64{1201, 801, 401, 1}, walk(3, "type = SESSION_ENDED"))
	require.Equal(t, []int64{8}, walk(10, "attributes.n = 7"))
	require.Empty(t, walk(10, "stream = streams/b"))
	h.drop(1200)
	require.Equal(t, []int64{1203, 1202, 1201}, walk(2, ""))

	for _, token := range []string{"x", encodePageToken(pageQuery{method: "events"}.sum(), "0"), encodePageToken(pageQuery{method: "events"}.sum(), "5000")} {
		_, err := service.ListEvents(t.Context(), &klivev1.ListEventsRequest{PageToken: token})
		require.Equal(t, fault.InvalidField, fault.ReasonOf(err), token)
	}
}

// The journal's types are texts and the API's an enum: each text must have
// its value, or callers see UNSPECIFIED.
func TestEveryEventTypeIsInTheContract(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../stream/status.go", nil, 0)
	require.NoError(t, err)
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "EventType" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			require.Contains(t, klivev1.EventType_value, eventTypePrefix+text)
			found++
		}
		return true
	})
	require.Equal(t, len(klivev1.EventType_value)-1, found, "the contract has a type that nothing records")
	require.Equal(t, "EVENT_TYPE_UNSPECIFIED", eventProto(&stream.Event{Type: "NEWER"}).GetType().String())
	require.Equal(t, "streams/a/sessions/b", eventProto(&stream.Event{Stream: "a", Session: "b"}).GetSession(), fmt.Sprint(found))
}

package control

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/stream"
)

// constants counts the constants of a type in a file.
func constants(t *testing.T, path, name string) int {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	require.NoError(t, err)
	found := 0
	for _, d := range file.Decls {
		group, ok := d.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		kind := "" // a line without type and value repeats the one before
		for _, s := range group.Specs {
			spec := s.(*ast.ValueSpec)
			if spec.Type != nil || spec.Values != nil {
				kind = ""
				if ident, ok := spec.Type.(*ast.Ident); ok {
					kind = ident.Name
				}
			}
			if kind == name {
				found += len(spec.Names)
			}
		}
	}
	require.NotZero(t, found, "%s has no constants of the type %s", path, name)
	return found
}

func TestRecordings(t *testing.T) {
	h, a := newHouse(), &annex{}
	h.adopt("quiet")
	h.adopt("a")
	a.record("r1", "a", birth, 2, stream.DeliveryDelivered)
	a.record("r2", "a", birth.Add(time.Hour), 3, stream.DeliveryDelivered, stream.DeliveryInDoubt, stream.DeliveryRefused)
	a.record("r3", "b", birth.Add(2*time.Hour), 1)
	client, ctx := klivev1.NewRecordingServiceClient(dial(t, start(t, h.withAnnex(a)))), t.Context()

	list := func(parent, filter string) (ids []string) {
		t.Helper()
		request := &klivev1.ListRecordingsRequest{Parent: parent, Filter: filter, PageSize: 2}
		for {
			page, err := client.ListRecordings(ctx, request)
			require.NoError(t, err)
			for _, r := range page.GetRecordings() {
				ids = append(ids, r.GetId())
			}
			if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
				return ids
			}
		}
	}
	require.Equal(t, []string{"r3", "r2", "r1"}, list("streams/-", ""), "newest first")
	require.Equal(t, []string{"r2", "r1"}, list("streams/a", ""))
	require.Empty(t, list("streams/quiet", ""))
	require.Equal(t, []string{"r2"}, list("streams/-", "delivery_state = REFUSED"))
	require.Equal(t, []string{"r3"}, list("streams/-", "delivery_state = UNSPECIFIED AND mode = APPENDED AND partner_id = 102"))
	require.Equal(t, []string{"r2", "r1"}, list("streams/-", "broadcast_id = b-a AND server_index = 0"))
	_, err := client.ListRecordings(ctx, &klivev1.ListRecordingsRequest{Parent: "streams/nobody"})
	requireFault(t, err, codes.NotFound, fault.StreamNotFound)
	_, err = client.ListRecordings(ctx, &klivev1.ListRecordingsRequest{Parent: "streams/-", Filter: "file = x"})
	requireFault(t, err, codes.InvalidArgument, fault.InvalidField)
	_, err = client.ListRecordings(ctx, &klivev1.ListRecordingsRequest{Parent: "streams/-", PageToken: "x"})
	requireFault(t, err, codes.InvalidArgument, fault.InvalidField)

	got, err := client.GetRecording(ctx, &klivev1.GetRecordingRequest{Name: "streams/-/recordings/r2"})
	require.NoError(t, err)
	require.Equal(t, "streams/a/recordings/r2", got.GetName())
	require.Equal(t, klivev1.RecordingMode_RECORDING_MODE_APPENDED, got.GetMode())
	require.Nil(t, got.GetEndTime(), "more may come")
	require.Len(t, got.GetPieces(), 6)
	piece := got.GetPieces()[2]
	require.Equal(t, "32", piece.GetRendition())
	require.EqualValues(t, 3, piece.GetNumber())
	require.Equal(t, 2*time.Minute, piece.GetOffset().AsDuration())
	require.EqualValues(t, 1<<20, piece.GetSizeBytes())
	require.True(t, piece.GetFinished())
	require.Equal(t, klivev1.DeliveryState_DELIVERY_STATE_REFUSED, piece.GetDelivery().GetState())
	require.Equal(t, "FLAVOR_ASSET_ID_NOT_FOUND", piece.GetDelivery().GetCode())
	require.Equal(t, "0_asset32", piece.GetDelivery().GetAssetId())
	require.EqualValues(t, 2, piece.GetDelivery().GetAttemptCount())
	require.Nil(t, piece.GetDelivery().GetNextAttemptTime())
	require.NotContains(t, got.String(), "secret", "where a piece is stays on this machine")
	for _, name := range []string{"streams/b/recordings/r2", "streams/a/recordings/r9"} {
		_, err = client.GetRecording(ctx, &klivev1.GetRecordingRequest{Name: name})
		requireFault(t, err, codes.NotFound, fault.RecordingNotFound)
	}
	_, err = client.GetRecording(ctx, &klivev1.GetRecordingRequest{Name: "recordings/r2"})
	requireFault(t, err, codes.InvalidArgument, fault.InvalidField)
}

func TestPagesOfRecordingsWithManyPieces(t *testing.T) {
	a := &annex{}
	for i := range 3 { // two of them fit, a third does not; and one is more than a page alone
		a.record(fmt.Sprintf("r%d", i), "a", birth.Add(time.Duration(i)*time.Hour), maxPagePieces/4)
	}
	a.record("r3", "a", birth.Add(3*time.Hour), maxPagePieces)
	service := &recordingService{live: air{newHouse()}, entries: catalog{newHouse()}, recordings: recorder{a}}
	request := &klivev1.ListRecordingsRequest{Parent: "streams/-"}
	for _, want := range []string{"[r3]", "[r2 r1]", "[r0]"} {
		page, err := service.ListRecordings(t.Context(), request)
		require.NoError(t, err)
		var ids []string
		for _, r := range page.GetRecordings() {
			ids = append(ids, r.GetId())
		}
		require.Equal(t, want, fmt.Sprint(ids))
		request.PageToken = page.GetNextPageToken()
	}
	require.Empty(t, request.PageToken)
}

func TestRetryDelivery(t *testing.T) {
	for _, c := range []struct {
		name    string
		request *klivev1.RetryDeliveryRequest
		want    int32
		code    codes.Code
		reason  fault.Reason
	}{
		{name: "all", request: &klivev1.RetryDeliveryRequest{Name: "streams/a/recordings/r1"}, want: 4},
		{name: "any stream", request: &klivev1.RetryDeliveryRequest{Name: "streams/-/recordings/r1"}, want: 4},
		{name: "a rendition", request: &klivev1.RetryDeliveryRequest{Name: "streams/a/recordings/r1", Rendition: "36"}, want: 2},
		{name: "a piece", request: &klivev1.RetryDeliveryRequest{Name: "streams/a/recordings/r1", Rendition: "36", Number: 2}, want: 1},
		{name: "a delivered piece", request: &klivev1.RetryDeliveryRequest{Name: "streams/a/recordings/r1", Rendition: "36", Number: 1}, code: codes.FailedPrecondition, reason: fault.NothingToDeliver},
		{name: "a number of no rendition", request: &klivev1.RetryDeliveryRequest{Name: "streams/a/recordings/r1", Number: 2}, code: codes.InvalidArgument, reason: fault.InvalidField},
		{name: "a negative number", request: &klivev1.RetryDeliveryRequest{Name: "streams/a/recordings/r1", Rendition: "36", Number: -1}, code: codes.InvalidArgument, reason: fault.InvalidField},
		{name: "of another stream", request: &klivev1.RetryDeliveryRequest{Name: "streams/b/recordings/r1"}, code: codes.NotFound, reason: fault.RecordingNotFound},
		{name: "no name", request: &klivev1.RetryDeliveryRequest{}, code: codes.InvalidArgument, reason: fault.InvalidField},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &annex{}
			a.record("r1", "a", birth, 4, stream.DeliveryDelivered, stream.DeliveryInDoubt, stream.DeliveryRefused)
			service := &recordingService{recordings: recorder{a}, deliveries: queue{a}}
			got, err := service.RetryDelivery(t.Context(), c.request)
			if c.code != codes.OK {
				requireFault(t, statusOf(err).Err(), c.code, c.reason)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got.GetPieceCount())
			queued := int32(0)
			for _, p := range got.GetRecording().GetPieces() {
				if p.GetDelivery().GetState() == klivev1.DeliveryState_DELIVERY_STATE_QUEUED {
					queued++
				}
			}
			require.Equal(t, c.want, queued)
		})
	}
}

func TestAcceptDelivery(t *testing.T) {
	for _, c := range []struct {
		name    string
		request *klivev1.AcceptDeliveryRequest
		want    int32
		from    klivev1.DeliveryState
		code    codes.Code
		reason  fault.Reason
	}{
		{name: "all in doubt", request: &klivev1.AcceptDeliveryRequest{Name: "streams/a/recordings/r1"}, want: 2, from: klivev1.DeliveryState_DELIVERY_STATE_IN_DOUBT},
		{name: "any stream", request: &klivev1.AcceptDeliveryRequest{Name: "streams/-/recordings/r1"}, want: 2, from: klivev1.DeliveryState_DELIVERY_STATE_IN_DOUBT},
		{name: "a rendition", request: &klivev1.AcceptDeliveryRequest{Name: "streams/a/recordings/r1", Rendition: "36"}, want: 1, from: klivev1.DeliveryState_DELIVERY_STATE_IN_DOUBT},
		{name: "a piece", request: &klivev1.AcceptDeliveryRequest{Name: "streams/a/recordings/r1", Rendition: "36", Number: 2}, want: 1, from: klivev1.DeliveryState_DELIVERY_STATE_IN_DOUBT},
		{name: "a refused piece", request: &klivev1.AcceptDeliveryRequest{Name: "streams/a/recordings/r1", Rendition: "36", Number: 3}, want: 1, from: klivev1.DeliveryState_DELIVERY_STATE_REFUSED},
		{name: "a delivered piece", request: &klivev1.AcceptDeliveryRequest{Name: "streams/a/recordings/r1", Rendition: "36", Number: 1}, code: codes.FailedPrecondition, reason: fault.NothingToDeliver},
		{name: "a number of no rendition", request: &klivev1.AcceptDeliveryRequest{Name: "streams/a/recordings/r1", Number: 2}, code: codes.InvalidArgument, reason: fault.InvalidField},
		{name: "a negative number", request: &klivev1.AcceptDeliveryRequest{Name: "streams/a/recordings/r1", Rendition: "36", Number: -1}, code: codes.InvalidArgument, reason: fault.InvalidField},
		{name: "of another stream", request: &klivev1.AcceptDeliveryRequest{Name: "streams/b/recordings/r1"}, code: codes.NotFound, reason: fault.RecordingNotFound},
		{name: "no name", request: &klivev1.AcceptDeliveryRequest{}, code: codes.InvalidArgument, reason: fault.InvalidField},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &annex{}
			a.record("r1", "a", birth, 4, stream.DeliveryDelivered, stream.DeliveryInDoubt, stream.DeliveryRefused)
			service := &recordingService{recordings: recorder{a}, deliveries: queue{a}}
			got, err := service.AcceptDelivery(auth.NewContext(t.Context(), auth.Principal{Name: "jane", Role: auth.Admin}), c.request)
			if c.code != codes.OK {
				requireFault(t, statusOf(err).Err(), c.code, c.reason)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got.GetPieceCount())
			accepted := int32(0)
			for _, p := range got.GetRecording().GetPieces() {
				if d := p.GetDelivery(); d.GetAcceptedBy() != "" {
					require.Equal(t, klivev1.DeliveryState_DELIVERY_STATE_DELIVERED, d.GetState())
					require.Equal(t, c.from, d.GetAcceptedFrom())
					require.Equal(t, "jane", d.GetAcceptedBy())
					accepted++
				} else {
					require.Zero(t, d.GetAcceptedFrom())
				}
			}
			require.Equal(t, c.want, accepted)
		})
	}
}

func TestSplitRecording(t *testing.T) {
	h, a := newHouse(), &annex{}
	h.adopt("a")
	h.adopt("quiet")
	a.record("r1", "a", birth, 2, stream.DeliveryDelivered)
	service := &recordingService{entries: catalog{h}, live: air{h}, recordings: recorder{a}}
	got, err := service.SplitRecording(t.Context(), &klivev1.SplitRecordingRequest{Name: "streams/a"})
	require.NoError(t, err)
	require.EqualValues(t, 2, got.GetRenditionCount())
	for name, reason := range map[string]fault.Reason{
		"streams/quiet": fault.NotRecording, "streams/nobody": fault.StreamNotFound, "streams/-": fault.InvalidField, "a": fault.InvalidField,
	} {
		_, err := service.SplitRecording(t.Context(), &klivev1.SplitRecordingRequest{Name: name})
		require.Equal(t, reason, fault.ReasonOf(err), name)
	}
}

package control

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/stream"
)

// streamFields are what a filter over streams may use.
var streamFields = map[string]filterField[*klivev1.Stream]{
	"id":           {get: (*klivev1.Stream).GetId, form: text},
	"display_name": {get: (*klivev1.Stream).GetDisplayName, form: text},
	"state": {
		get:  func(s *klivev1.Stream) string { return s.GetState().String() },
		form: enum("BROADCAST_STATE_", klivev1.BroadcastState_value),
	},
	"origin": {
		get:  func(s *klivev1.Stream) string { return s.GetOrigin().String() },
		form: enum("STREAM_ORIGIN_", klivev1.StreamOrigin_value),
	},
	"partner_id": {get: func(s *klivev1.Stream) string { return strconv.Itoa(int(s.GetPartnerId())) }, form: whole},
	"labels":     {key: func(s *klivev1.Stream, key string) string { return s.GetLabels()[key] }, form: text},
}

// streamService serves klive.v1.StreamService.
type streamService struct {
	klivev1.UnimplementedStreamServiceServer
	entries   stream.Entries
	live      stream.Live
	journal   stream.Journal
	addresses Addresses
	board     *board
	watches   *watches
}

func (s *streamService) ListStreams(ctx context.Context, r *klivev1.ListStreamsRequest) (*klivev1.ListStreamsResponse, error) {
	fits, err := parseFilter(r.GetFilter(), streamFields)
	if err != nil {
		return nil, err
	}
	entries, err := s.entries.List(ctx)
	if err != nil {
		return nil, err
	}
	statuses, _ := s.live.Statuses()
	var found []*klivev1.Stream
	for _, k := range merge(entries, statuses) {
		if p := streamProto(k); fits.match(p) {
			found = append(found, p)
		}
	}
	page, next, err := paginate(found, (*klivev1.Stream).GetId, pageQuery{
		size: r.GetPageSize(), token: r.GetPageToken(), method: "streams", filter: r.GetFilter(),
	})
	if err != nil {
		return nil, err
	}
	return &klivev1.ListStreamsResponse{Streams: page, NextPageToken: next}, nil
}

func (s *streamService) GetStream(ctx context.Context, r *klivev1.GetStreamRequest) (*klivev1.Stream, error) {
	id, err := parseStreamName("name", r.GetName())
	if err != nil {
		return nil, err
	}
	return s.get(ctx, id)
}

// get reads one stream from both sources; one of them is enough.
func (s *streamService) get(ctx context.Context, id string) (*klivev1.Stream, error) {
	k := known{id: id}
	if status, ok := s.live.Status(id); ok {
		k.status = &status
	}
	entry, err := s.entries.Get(ctx, id)
	switch {
	case err == nil:
		k.entry = &entry
	case k.status == nil || fault.ReasonOf(err) != fault.StreamNotFound:
		return nil, err
	}
	return streamProto(k), nil
}

func (s *streamService) CreateStream(ctx context.Context, r *klivev1.CreateStreamRequest) (*klivev1.Stream, error) {
	wish := r.GetStream()
	entry := stream.Entry{
		ID:          r.GetStreamId(),
		DisplayName: wish.GetDisplayName(),
		Partner:     int(wish.GetPartnerId()),
		Labels:      wish.GetLabels(),
	}
	if entry.ID == "" {
		return nil, fault.New(fault.InvalidField, "stream_id is missing; choose the id of the new stream").With("field", "stream_id")
	}
	made, secrets, err := s.entries.Create(ctx, entry, stream.Secrets{Token: r.GetToken(), Passphrase: wish.GetSrtPassphrase()})
	if err != nil {
		return nil, err
	}
	s.record(ctx, stream.StreamCreated, made.ID, "the stream was created")
	return s.withSecrets(made, secrets), nil
}

func (s *streamService) UpdateStream(ctx context.Context, r *klivev1.UpdateStreamRequest) (*klivev1.Stream, error) {
	wish := r.GetStream()
	id, err := parseStreamName("stream.name", wish.GetName())
	if err != nil {
		return nil, err
	}
	set, err := settable(r.GetUpdateMask(), wish)
	if err != nil {
		return nil, err
	}
	revision, err := revisionOf(wish.GetEtag())
	if err != nil {
		return nil, err
	}
	entry, err := s.entries.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if revision == 0 {
		// Between the read and the write nobody may have changed the fields that
		// the mask leaves alone.
		revision = entry.Revision
	}
	change := changes{entry: entry}
	for _, field := range set {
		field(&change, wish)
	}
	if _, err := s.entries.Update(ctx, change.entry, change.passphrase, revision); err != nil {
		return nil, err
	}
	s.record(ctx, stream.StreamUpdated, id, "the stream was changed")
	return s.get(ctx, id)
}

func (s *streamService) DeleteStream(ctx context.Context, r *klivev1.DeleteStreamRequest) (*emptypb.Empty, error) {
	id, err := parseStreamName("name", r.GetName())
	if err != nil {
		return nil, err
	}
	revision, err := revisionOf(r.GetEtag())
	if err != nil {
		return nil, err
	}
	if err := s.entries.Delete(ctx, id, revision); err != nil {
		return nil, err
	}
	s.record(ctx, stream.StreamDeleted, id, "the stream was deleted")
	if _, onAir := s.live.Status(id); onAir {
		err = s.live.Stop(ctx, id, fault.New(fault.StreamDeleted, "the stream was deleted"))
		if err != nil && fault.ReasonOf(err) != fault.StreamNotFound {
			return nil, err
		}
	}
	return &emptypb.Empty{}, nil
}

func (s *streamService) StopStream(ctx context.Context, r *klivev1.StopStreamRequest) (*klivev1.Stream, error) {
	id, err := parseStreamName("name", r.GetName())
	if err != nil {
		return nil, err
	}
	if _, err := s.get(ctx, id); err != nil {
		return nil, err
	}
	err = s.live.Stop(ctx, id, fault.New(fault.StoppedByOperator, "an operator stopped the stream").
		With("principal", auth.FromContext(ctx).Name))
	if err != nil {
		return nil, err
	}
	return s.get(ctx, id)
}

func (s *streamService) RotateStreamToken(ctx context.Context, r *klivev1.RotateStreamTokenRequest) (*klivev1.Stream, error) {
	id, err := parseStreamName("name", r.GetName())
	if err != nil {
		return nil, err
	}
	entry, secrets, err := s.entries.RotateToken(ctx, id)
	if err != nil {
		return nil, err
	}
	s.record(ctx, stream.TokenRotated, id, "the publishing token was replaced")
	return s.withSecrets(entry, secrets), nil
}

// record writes an event that says who did what.
func (s *streamService) record(ctx context.Context, t stream.EventType, id, message string) {
	s.journal.Record(stream.Event{
		Time: time.Now(), Type: t, Stream: id, Message: message,
		Facts: map[string]string{"principal": auth.FromContext(ctx).Name},
	})
}

// withSecrets is the answer of the two calls that show a stream's secrets.
func (s *streamService) withSecrets(entry stream.Entry, secrets stream.Secrets) *klivev1.Stream {
	k := known{id: entry.ID, entry: &entry}
	if status, ok := s.live.Status(entry.ID); ok {
		k.status = &status
	}
	out := streamProto(k)
	out.Token = &secrets.Token
	if secrets.Passphrase != "" {
		out.SrtPassphrase = &secrets.Passphrase
	}
	return out
}

func (s *streamService) GetPublishAddresses(ctx context.Context, r *klivev1.GetPublishAddressesRequest) (*klivev1.PublishAddresses, error) {
	id, err := parseStreamName("name", r.GetName())
	if err != nil {
		return nil, err
	}
	entry, err := s.entries.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	secrets, err := s.entries.Secrets(ctx, id)
	if err != nil {
		return nil, err
	}
	s.record(ctx, stream.AddressesShown, id, "the publish addresses were shown")
	book := s.addresses.Publish(entry, secrets)
	out := &klivev1.PublishAddresses{
		Name: streamName(id), Token: secrets.Token, PlayerUrl: book.Player, PlaylistUrl: book.Playlist,
		Addresses: make([]*klivev1.PublishAddress, len(book.Publish)),
	}
	for i, a := range book.Publish {
		out.Addresses[i] = &klivev1.PublishAddress{
			Protocol: a.Protocol, ServerIndex: int32(a.ServerIndex), //nolint:gosec // 0 or 1
			Url: a.URL, Server: a.Server, StreamKey: a.Key, Passphrase: a.Passphrase,
		}
	}
	return out, nil
}

package control

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"google.golang.org/protobuf/types/known/timestamppb"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/stream"
)

// sessionFields are what a filter over sessions may use.
var sessionFields = map[string]filterField[*klivev1.Session]{
	"id":           {get: (*klivev1.Session).GetId, form: text},
	"protocol":     {get: (*klivev1.Session).GetProtocol, form: text},
	"reason":       {get: (*klivev1.Session).GetReason, form: text},
	"broadcast_id": {get: (*klivev1.Session).GetBroadcastId, form: text},
	"state": {
		get:  func(s *klivev1.Session) string { return s.GetState().String() },
		form: enum("BROADCAST_STATE_", klivev1.BroadcastState_value),
	},
	"ingest_index": {get: func(s *klivev1.Session) string { return strconv.Itoa(int(s.GetIngestIndex())) }, form: whole},
	"server_index": {get: func(s *klivev1.Session) string { return strconv.Itoa(int(s.GetServerIndex())) }, form: whole},
}

// sessionService serves klive.v1.SessionService.
type sessionService struct {
	klivev1.UnimplementedSessionServiceServer
	entries stream.Entries
	live    stream.Live
}

func (s *sessionService) ListSessions(ctx context.Context, r *klivev1.ListSessionsRequest) (*klivev1.ListSessionsResponse, error) {
	id, err := parseParent(r.GetParent())
	if err != nil {
		return nil, err
	}
	fits, err := parseFilter(r.GetFilter(), sessionFields)
	if err != nil {
		return nil, err
	}
	sessions := s.live.Sessions(id)
	if len(sessions) == 0 && id != "" {
		// An empty list is the answer for a stream that is known.
		if err := checkStream(ctx, s.entries, s.live, id); err != nil {
			return nil, err
		}
	}
	var found []*klivev1.Session
	for i := range sessions {
		if p := sessionProto(&sessions[i]); fits.match(p) {
			found = append(found, p)
		}
	}
	page, next, err := paginate(found, sessionKey, pageQuery{
		size: r.GetPageSize(), token: r.GetPageToken(), method: "sessions", parent: r.GetParent(), filter: r.GetFilter(),
	})
	if err != nil {
		return nil, err
	}
	return &klivev1.ListSessionsResponse{Sessions: page, NextPageToken: next}, nil
}

func sessionKey(s *klivev1.Session) string { return newestFirst(s.GetStartTime(), s.GetId()) }

// newestFirst is a key that sorts what began later before what began earlier,
// and what began at the same moment by id.
func newestFirst(begin *timestamppb.Timestamp, id string) string {
	var start int64
	if begin != nil {
		start = begin.AsTime().UnixNano()
	}
	return fmt.Sprintf("%016x %s", uint64(math.MaxInt64-start), id) //nolint:gosec // sorts, nothing else
}

// checkStream returns nil when the stream is known: to its authority, or
// because it is or lately was on air.
func checkStream(ctx context.Context, entries stream.Entries, live stream.Live, id string) error {
	if _, onAir := live.Status(id); onAir {
		return nil
	}
	_, err := entries.Get(ctx, id)
	return err
}

func (s *sessionService) GetSession(_ context.Context, r *klivev1.GetSessionRequest) (*klivev1.Session, error) {
	return s.get(r.GetName())
}

func (s *sessionService) get(name string) (*klivev1.Session, error) {
	id, session, err := parseSessionName(name)
	if err != nil {
		return nil, err
	}
	status, ok := s.live.Session(session)
	if !ok || id != anyStream && status.Stream != id {
		return nil, fault.New(fault.SessionNotFound, "no session %s of the stream %s is known; it may have ended long ago", session, id).
			With("session", session)
	}
	return sessionProto(&status), nil
}

func (s *sessionService) DisconnectSession(ctx context.Context, r *klivev1.DisconnectSessionRequest) (*klivev1.Session, error) {
	found, err := s.get(r.GetName())
	if err != nil {
		return nil, err
	}
	if found.GetEndTime() != nil {
		return found, nil // somebody was faster; the wish is fulfilled
	}
	err = s.live.Disconnect(ctx, found.GetId(), fault.New(fault.StoppedByOperator, "an operator disconnected the session").
		With("principal", auth.FromContext(ctx).Name))
	if err != nil {
		return nil, err
	}
	return s.get(r.GetName())
}

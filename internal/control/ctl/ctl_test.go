package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a control API over a map, behind one token.
type server struct {
	klivev1.UnimplementedStreamServiceServer
	klivev1.UnimplementedSessionServiceServer
	klivev1.UnimplementedNodeServiceServer
	klivev1.UnimplementedEventServiceServer
	klivev1.UnimplementedRecordingServiceServer
	klivev1.UnimplementedKalturaBridgeServiceServer

	mu      sync.Mutex // guards streams
	streams []*klivev1.Stream
}

func (s *server) find(name string) (*klivev1.Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.streams {
		if p.GetName() == name {
			return p, nil
		}
	}
	return nil, refuse(codes.NotFound, "STREAM_NOT_FOUND", "no stream with this id is known")
}

func refuse(code codes.Code, reason, message string) error {
	s, err := status.New(code, message).WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "klive.media"})
	if err != nil {
		return err
	}
	return s.Err()
}

func (s *server) ListStreams(_ context.Context, r *klivev1.ListStreamsRequest) (*klivev1.ListStreamsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// One stream a page, so that the client must turn them.
	at := 0
	for at < len(s.streams) && r.GetPageToken() != "" && s.streams[at].GetId() <= r.GetPageToken() {
		at++
	}
	out := &klivev1.ListStreamsResponse{Streams: s.streams[at:min(at+1, len(s.streams))]}
	if at+1 < len(s.streams) {
		out.NextPageToken = s.streams[at].GetId()
	}
	return out, nil
}

func (s *server) GetStream(_ context.Context, r *klivev1.GetStreamRequest) (*klivev1.Stream, error) {
	return s.find(r.GetName())
}

func (s *server) CreateStream(_ context.Context, r *klivev1.CreateStreamRequest) (*klivev1.Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := "fresh"
	p := &klivev1.Stream{Name: "streams/" + r.GetStreamId(), Id: r.GetStreamId(), DisplayName: r.GetStream().GetDisplayName(), Labels: r.GetStream().GetLabels(), Token: &token, SrtPassphrase: r.GetStream().SrtPassphrase}
	s.streams = append(s.streams, p)
	return p, nil
}

func (s *server) UpdateStream(_ context.Context, r *klivev1.UpdateStreamRequest) (*klivev1.Stream, error) {
	p, err := s.find(r.GetStream().GetName())
	if err == nil {
		p.DisplayName = strings.Join(r.GetUpdateMask().GetPaths(), "+") + " " + r.GetStream().GetDisplayName()
		p.SrtEncrypted = r.GetStream().GetSrtPassphrase() != ""
	}
	return p, err
}

func (s *server) DeleteStream(_ context.Context, r *klivev1.DeleteStreamRequest) (*emptypb.Empty, error) {
	_, err := s.find(r.GetName())
	return &emptypb.Empty{}, err
}

func (s *server) StopStream(_ context.Context, r *klivev1.StopStreamRequest) (*klivev1.Stream, error) {
	return s.find(r.GetName())
}

func (s *server) RotateStreamToken(_ context.Context, r *klivev1.RotateStreamTokenRequest) (*klivev1.Stream, error) {
	token := "another"
	return &klivev1.Stream{Name: r.GetName(), Token: &token}, nil
}

func (s *server) GetPublishAddresses(_ context.Context, r *klivev1.GetPublishAddressesRequest) (*klivev1.PublishAddresses, error) {
	return &klivev1.PublishAddresses{
		Name: r.GetName(), PlayerUrl: "http://host/live/a/",
		Addresses: []*klivev1.PublishAddress{{Protocol: "rtmp", Url: "rtmp://host/kLive?t=x/a_1", Server: "rtmp://host/kLive?t=x", StreamKey: "a_1"}, {Protocol: "srt", Url: "srt://host:8890?x", Passphrase: "of the stream"}},
	}, nil
}

func (s *server) WatchStreams(_ *klivev1.WatchStreamsRequest, out grpc.ServerStreamingServer[klivev1.WatchStreamsResponse]) error {
	for _, m := range []*klivev1.WatchStreamsResponse{
		{Change: &klivev1.WatchStreamsResponse_Stream{Stream: &klivev1.Stream{Id: "a", DisplayName: "\x1b[2J"}}},
		{Change: &klivev1.WatchStreamsResponse_Synced{Synced: &klivev1.Synced{}}},
		{Change: &klivev1.WatchStreamsResponse_Heartbeat{Heartbeat: &klivev1.Heartbeat{}}},
		{Change: &klivev1.WatchStreamsResponse_Deleted{Deleted: "streams/a"}},
	} {
		if err := out.Send(m); err != nil {
			return err
		}
	}
	return refuse(codes.Aborted, "WATCH_LOST", "list again")
}

func session() *klivev1.Session {
	return &klivev1.Session{
		Name: "streams/a/sessions/s1", Id: "s1", Protocol: "rtmp", RemoteAddress: "192.0.2.7:4000", UserAgent: "OBS", IngestIndex: 2,
		State: klivev1.BroadcastState_BROADCAST_STATE_PLAYABLE, Bitrate: 2_700_000, StartTime: timestamppb.New(time.Unix(1e9, 0)),
		Tracks: []*klivev1.Track{
			{Kind: klivev1.TrackKind_TRACK_KIND_VIDEO, Codec: "avc1.64001f", Video: &klivev1.VideoFormat{Width: 1280, Height: 720, FrameRate: 29.97}},
			{Kind: klivev1.TrackKind_TRACK_KIND_AUDIO, Codec: "mp4a.40.2", Audio: &klivev1.AudioFormat{SampleRate: 48000, Channels: 2}},
			{Kind: klivev1.TrackKind_TRACK_KIND_DATA},
		},
		TimeJoin: &klivev1.TimeJoin{Method: klivev1.TimeJoinMethod_TIME_JOIN_METHOD_WALL_CLOCK},
		Link: &klivev1.Link{
			Rtt: durationpb.New(340 * time.Microsecond), Latency: durationpb.New(120 * time.Millisecond), Buffered: durationpb.New(0),
			ReceiveBitrate: 2_800_000, Bandwidth: 95_000_000, Encrypted: true,
			PacketCount: 1000, LostPacketCount: 6, RetransmittedPacketCount: 5, DroppedPacketCount: 1, DiscontinuityCount: 2,
		},
	}
}

func (s *server) ListSessions(_ context.Context, r *klivev1.ListSessionsRequest) (*klivev1.ListSessionsResponse, error) {
	if r.GetParent() != "streams/-" && r.GetParent() != "streams/a" {
		return &klivev1.ListSessionsResponse{}, nil
	}
	return &klivev1.ListSessionsResponse{Sessions: []*klivev1.Session{session()}}, nil
}

func (s *server) GetSession(context.Context, *klivev1.GetSessionRequest) (*klivev1.Session, error) {
	return session(), nil
}

func (s *server) DisconnectSession(context.Context, *klivev1.DisconnectSessionRequest) (*klivev1.Session, error) {
	p := session()
	p.Reason = "STOPPED_BY_OPERATOR"
	return p, nil
}

func (s *server) GetNode(context.Context, *klivev1.GetNodeRequest) (*klivev1.Node, error) {
	return &klivev1.Node{Id: "here", Version: "1.2.3", State: klivev1.NodeState_NODE_STATE_SERVING, Listeners: []*klivev1.Listener{{Name: "rtmp", Network: "tcp", Address: ":1935"}}}, nil
}

func (s *server) DrainNode(context.Context, *klivev1.DrainNodeRequest) (*klivev1.Node, error) {
	return &klivev1.Node{Id: "here", State: klivev1.NodeState_NODE_STATE_DRAINING}, nil
}

func event(sequence int64) *klivev1.Event {
	return &klivev1.Event{Sequence: sequence, Type: klivev1.EventType_EVENT_TYPE_SESSION_ENDED, Stream: "streams/a", Session: "streams/a/sessions/s1", Reason: "IDLE", Message: "no media came", Attributes: map[string]string{"b": "2", "a": "1"}}
}

func (s *server) ListEvents(_ context.Context, r *klivev1.ListEventsRequest) (*klivev1.ListEventsResponse, error) {
	if r.GetPageToken() == "" {
		return &klivev1.ListEventsResponse{Events: []*klivev1.Event{event(2)}, NextPageToken: "1"}, nil
	}
	return &klivev1.ListEventsResponse{Events: []*klivev1.Event{event(1)}}, nil
}

// WatchEvents never ends by itself.
func (s *server) WatchEvents(_ *klivev1.WatchEventsRequest, out grpc.ServerStreamingServer[klivev1.WatchEventsResponse]) error {
	if err := out.Send(&klivev1.WatchEventsResponse{Change: &klivev1.WatchEventsResponse_Event{Event: event(1)}}); err != nil {
		return err
	}
	<-out.Context().Done()
	return nil
}

// serve runs the server for the test and returns its address.
func serve(t *testing.T) string {
	t.Helper()
	check := func(ctx context.Context) error {
		if values := metadata.ValueFromIncomingContext(ctx, "authorization"); len(values) != 1 || values[0] != "Bearer right" {
			return refuse(codes.Unauthenticated, "NOT_AUTHENTICATED", "this call needs a credential")
		}
		return nil
	}
	g := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, r any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			if err := check(ctx); err != nil {
				return nil, err
			}
			return h(ctx, r)
		}),
		grpc.StreamInterceptor(func(s any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			if err := check(stream.Context()); err != nil {
				return err
			}
			return h(s, stream)
		}))
	s := &server{streams: []*klivev1.Stream{
		{Name: "streams/a", Id: "a", State: klivev1.BroadcastState_BROADCAST_STATE_PLAYABLE, Broadcasts: []*klivev1.Broadcast{{Id: "b1", Renditions: []*klivev1.Rendition{{Id: "1", Tracks: session().GetTracks(), IngestIndex: 1}}, PlayableTime: timestamppb.New(time.Unix(1e9, 0)), Policy: wishes()}}},
		{Name: "streams/b", Id: "b", DisplayName: "Second"},
	}}
	klivev1.RegisterStreamServiceServer(g, s)
	klivev1.RegisterSessionServiceServer(g, s)
	klivev1.RegisterNodeServiceServer(g, s)
	klivev1.RegisterEventServiceServer(g, s)
	klivev1.RegisterRecordingServiceServer(g, s)
	klivev1.RegisterKalturaBridgeServiceServer(g, s)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- g.Serve(listener) }()
	t.Cleanup(func() {
		g.Stop()
		<-done
	})
	return listener.Addr().String()
}

// ctl runs a command line as a program that embeds Command does.
func ctl(ctx context.Context, t *testing.T, out *bytes.Buffer, args ...string) error {
	t.Helper()
	var program struct {
		Ctl Command `cmd:""`
	}
	parser, err := kong.New(&program, kong.Exit(func(int) { t.Error("kong wants to exit") }))
	require.NoError(t, err)
	parsed, err := parser.Parse(append([]string{"ctl"}, args...))
	if err != nil {
		return err
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return parsed.Run(&IO{Out: out, Err: out})
}

func TestCommands(t *testing.T) {
	address := serve(t)
	t.Setenv("KLIVE_CTL_ADDRESS", address)
	t.Setenv("KLIVE_CTL_TOKEN", "right")
	for _, c := range []struct {
		line  string
		wants []string
		lacks string
		fails string
	}{
		{line: "streams list", wants: []string{"ID", "a ", "PLAYABLE", "primary: 1 renditions", "b ", "Second"}},
		{line: "streams", wants: []string{"ID", "Second"}},
		{line: "streams --filter state=PLAYABLE", wants: []string{"ID"}},
		{line: "streams get a", wants: []string{"Id:", "State:", "PLAYABLE", "Rendition 1:", "DVR 2h0m0s, recorded per session, segments of 4s, low latency", "Playable since:", "avc1.64001f 1280x720@29.97, mp4a.40.2 48000 Hz 2 ch"}},
		{line: "streams get nobody", fails: "no stream with this id is known (STREAM_NOT_FOUND)"},
		{line: "streams create c --name Third --label room=1 --label floor=2", wants: []string{"Token:", "fresh", "floor=2, room=1"}},
		{line: "streams create d --srt-passphrase of-the-stream", wants: []string{"SRT passphrase:", "of-the-stream"}},
		{line: "streams update b --srt-passphrase of-the-stream", wants: []string{"srt_passphrase ", "with a passphrase of its own"}},
		{line: "streams update b --srt-passphrase=", wants: []string{"srt_passphrase "}, lacks: "passphrase of its own"},
		{line: "streams update b --name New --label x=y", wants: []string{"display_name+labels New"}},
		{line: "streams update b", fails: "nothing to change"},
		{line: "streams delete b", wants: []string{"b is deleted"}},
		{line: "streams stop a", wants: []string{"PLAYABLE"}},
		{line: "streams rotate-token a", wants: []string{"another\n"}},
		{line: "streams addresses a", wants: []string{"rtmp://host/kLive?t=x/a_1", "Stream key:", "a_1", "Player:", "Passphrase:", "of the stream"}},
		{line: "sessions", wants: []string{"s1", "a_2", "primary", "PLAYABLE", "OBS", "2.70 Mbit/s"}},
		{line: "sessions list a", wants: []string{"s1"}},
		{line: "sessions get s1", wants: []string{
			"192.0.2.7:4000", "0s, by wall clock", "Encrypted:    yes", "340µs", "120ms, 0s buffered", "2.80 Mbit/s", "95.00 Mbit/s",
			"1000 received, 6 lost, 5 retransmitted, 1 dropped, 0 undecrypted; 2 gaps in the media",
		}},
		{line: "sessions disconnect streams/a/sessions/s1", wants: []string{"STOPPED_BY_OPERATOR"}},
		{line: "streams split a", wants: []string{"a new piece begins at the next key frame in 2 renditions of a\n"}},
		{line: "streams split b", fails: "nothing is recorded (NOT_RECORDING)"},
		{line: "recordings", wants: []string{"RECORDING", "r1", "primary", "appended", "25m0s", "IN_DOUBT", "r2", "per session"}},
		{line: "recordings list a --filter mode=APPENDED", wants: []string{"r1"}},
		{line: "recordings get a r1", wants: []string{"Length:", "25m0s", "Broadcast:", "RENDITION", "2 (last)", "3 (grows)", "DELIVERED", "1.5 MB", "E_LOST: the answer was lost"}},
		{line: "recordings get - nobody", fails: "no recording with this id is known (RECORDING_NOT_FOUND)"},
		{line: "recordings retry a r1", wants: []string{"3 pieces of r1 will be delivered again\n"}},
		{line: "recordings retry a r1 --rendition 36 --number 2", wants: []string{"1 piece of r1 will be delivered again\n"}},
		{line: "recordings retry a r1 --number 2", fails: "--number needs --rendition"},
		{line: "recordings accept a r1", wants: []string{"2 pieces of r1 count as delivered\n"}},
		{line: "recordings accept a r1 --rendition 36 --number 2", wants: []string{"1 piece of r1 counts as delivered\n"}},
		{line: "recordings accept a r1 --number 2", fails: "--number needs --rendition"},
		{line: "kaltura", wants: []string{
			"https://kaltura.example", "saas, partner -5", "no, since ", "connection refused", "yes, as server node 7", "2 refused, 1 in doubt, 4 queued",
			"0_abc", "backup", "PLAYABLE (1)", "32 720p, 36", "32 34", "taken over by another host; preview; the end is told by ",
			"recorded as 0_vod; no ladder: no profile; failed 3 times: timeout", "and 9 more", "r1", "2 (last)", "REFUSED", "and 6 more",
		}},
		{line: "kaltura status", wants: []string{"kaltura.example"}},
		{line: "kaltura resync", wants: []string{"none waits", "Registered:", "no\n"}},
		{line: "events", wants: []string{"SESSION_ENDED  a  s1  IDLE  no media came  a=1  b=2"}},
		{line: "events --limit 1", wants: []string{"IDLE"}},
		{line: "node", wants: []string{"here", "1.2.3", "SERVING", "Listener rtmp:", "tcp :1935"}},
		{line: "drain", wants: []string{"DRAINING"}},
		{line: "watch streams", wants: []string{"a  ?[2J\n", "waiting for changes", "a  deleted"}, fails: "list again (WATCH_LOST)"},
		{line: "--token wrong node", fails: "this call needs a credential (NOT_AUTHENTICATED)"},
		{line: "--address 127.0.0.1:1 node", fails: "cannot reach the server at 127.0.0.1:1: is it running"},
		{line: "--address klive.example:9090 node", fails: "without TLS the token would cross the network in the clear"},
		{line: "--tls-ca /nowhere node", fails: "read --tls-ca"},
		{line: "--tls-cert x node", fails: "--tls-cert and --tls-key go together"},
		{line: "paint", fails: "unexpected argument paint"},
	} {
		t.Run(c.line, func(t *testing.T) {
			var out bytes.Buffer
			err := ctl(t.Context(), t, &out, strings.Fields(c.line)...)
			if c.fails != "" {
				require.ErrorContains(t, err, c.fails)
			} else {
				require.NoError(t, err)
			}
			for _, want := range c.wants {
				require.Contains(t, out.String(), want)
			}
			if c.lacks != "" {
				require.NotContains(t, out.String(), c.lacks)
			}
			require.NotContains(t, out.String(), "\x1b")
		})
	}
}

func TestJSON(t *testing.T) {
	t.Setenv("KLIVE_CTL_ADDRESS", serve(t))
	t.Setenv("KLIVE_CTL_TOKEN", "right")
	for line, objects := range map[string]int{
		"streams list": 2, "streams get a": 1, "streams addresses a": 1, "streams rotate-token a": 1, "sessions": 1, "sessions get s1": 1,
		"recordings": 2, "recordings get a r1": 1, "recordings retry a r1": 1, "recordings accept a r1": 1, "streams split a": 1, "kaltura": 1, "kaltura resync": 1,
		"events": 2, "node": 1, "drain": 1,
	} {
		var out bytes.Buffer
		require.NoError(t, ctl(t.Context(), t, &out, append([]string{"--json"}, strings.Fields(line)...)...), line)
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		require.Len(t, lines, objects, line)
		for _, text := range lines {
			require.True(t, json.Valid([]byte(text)), text)
		}
	}
}

// firstWrite tells when something was printed.
type firstWrite struct {
	once sync.Once
	told chan struct{}
}

func (w *firstWrite) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.told) })
	return len(p), nil
}

func TestWatchEndsWhenInterrupted(t *testing.T) {
	c := &Command{Address: serve(t), Token: "right", Timeout: time.Second}
	ctx, cancel := context.WithCancel(t.Context())
	out := &firstWrite{told: make(chan struct{})}
	go func() {
		<-out.told
		cancel()
	}()
	require.NoError(t, (&WatchEvents{}).Run(ctx, c, &IO{Out: out, Err: out}))
}

func TestErrorKeepsItsReason(t *testing.T) {
	c := &Command{Address: serve(t), Timeout: time.Second}
	err := (&NodeCommand{}).Run(t.Context(), c, &IO{})
	var refused *Error
	require.True(t, errors.As(err, &refused))
	require.Equal(t, "NOT_AUTHENTICATED", refused.Reason)
	require.Equal(t, codes.Unauthenticated, refused.Code)
}

func TestTheServerIsFoundWhereTheConfigurationSays(t *testing.T) {
	address := serve(t)
	asked := false
	c := &Command{Token: "right", Timeout: time.Minute, Server: func() (Server, error) { asked = true; return Server{Address: address}, nil }}
	var out bytes.Buffer
	require.NoError(t, (&NodeCommand{}).Run(t.Context(), c, &IO{Out: &out}))
	require.Contains(t, out.String(), "1.2.3")
	require.True(t, asked)

	broken := errors.New("klive.yaml:1: no such key")
	none := &Command{Timeout: time.Minute, Server: func() (Server, error) { return Server{}, broken }}
	require.ErrorIs(t, (&NodeCommand{}).Run(t.Context(), none, &IO{Out: &out}), broken)
	none.Address = "127.0.0.1:1" // what was given needs no configuration
	require.ErrorContains(t, (&NodeCommand{}).Run(t.Context(), none, &IO{Out: &out}), "cannot reach the server at 127.0.0.1:1")

	free := &Command{}
	require.NoError(t, free.locate())
	require.Equal(t, DefaultAddress, free.Address)
}

func TestBadUsageIsTold(t *testing.T) {
	t.Setenv("KLIVE_CTL_ADDRESS", serve(t))
	var out bytes.Buffer
	for _, line := range []string{"--tls-cert x node", "streams update a", "--token x --address klive.example:9090 node"} {
		err := ctl(t.Context(), t, &out, strings.Fields(line)...)
		_, usage := errors.AsType[*UsageError](err)
		require.True(t, usage, "%s: %v", line, err)
	}
	_, usage := errors.AsType[*UsageError](ctl(t.Context(), t, &out, "node"))
	require.False(t, usage, "a refusal of the server is no bad usage")
}

package control

import (
	"context"
	"crypto/tls"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha" // older grpcurl speaks it

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/fault"
)

// access says which role a method needs: viewers read, administrators do
// everything, and the addresses of a stream hold its token. Health is open, as
// probes carry no credential. A method without a row needs an administrator.
var access = map[string]auth.Role{
	klivev1.StreamService_ListStreams_FullMethodName:         auth.Viewer,
	klivev1.StreamService_GetStream_FullMethodName:           auth.Viewer,
	klivev1.StreamService_CreateStream_FullMethodName:        auth.Admin,
	klivev1.StreamService_UpdateStream_FullMethodName:        auth.Admin,
	klivev1.StreamService_DeleteStream_FullMethodName:        auth.Admin,
	klivev1.StreamService_StopStream_FullMethodName:          auth.Admin,
	klivev1.StreamService_RotateStreamToken_FullMethodName:   auth.Admin,
	klivev1.StreamService_GetPublishAddresses_FullMethodName: auth.Admin,
	klivev1.StreamService_WatchStreams_FullMethodName:        auth.Viewer,

	klivev1.SessionService_ListSessions_FullMethodName:      auth.Viewer,
	klivev1.SessionService_GetSession_FullMethodName:        auth.Viewer,
	klivev1.SessionService_DisconnectSession_FullMethodName: auth.Admin,

	klivev1.RecordingService_ListRecordings_FullMethodName: auth.Viewer,
	klivev1.RecordingService_GetRecording_FullMethodName:   auth.Viewer,
	klivev1.RecordingService_RetryDelivery_FullMethodName:  auth.Admin,
	klivev1.RecordingService_AcceptDelivery_FullMethodName: auth.Admin,
	klivev1.RecordingService_SplitRecording_FullMethodName: auth.Admin,

	klivev1.KalturaBridgeService_GetKalturaBridge_FullMethodName:    auth.Viewer,
	klivev1.KalturaBridgeService_ResyncKalturaBridge_FullMethodName: auth.Admin,

	klivev1.NodeService_GetNode_FullMethodName:   auth.Viewer,
	klivev1.NodeService_DrainNode_FullMethodName: auth.Admin,

	klivev1.EventService_ListEvents_FullMethodName:  auth.Viewer,
	klivev1.EventService_WatchEvents_FullMethodName: auth.Viewer,

	healthv1.Health_Check_FullMethodName: auth.None,
	healthv1.Health_List_FullMethodName:  auth.None,
	healthv1.Health_Watch_FullMethodName: auth.None,

	reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName:      auth.Viewer,
	reflectionv1alpha.ServerReflection_ServerReflectionInfo_FullMethodName: auth.Viewer,
}

// needs is the role a method needs.
func needs(method string) auth.Role {
	if role, ok := access[method]; ok {
		return role
	}
	return auth.Admin
}

// identify finds out who makes a call.
type identify func(ctx context.Context) (auth.Principal, error)

// identifyPeer authenticates callers of the gRPC listener.
func identifyPeer(a auth.Authenticator) identify {
	return func(ctx context.Context) (auth.Principal, error) {
		var state *tls.ConnectionState
		if p, ok := peer.FromContext(ctx); ok {
			if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
				state = &info.State
			}
		}
		var header string
		if values := metadata.ValueFromIncomingContext(ctx, "authorization"); len(values) > 0 {
			header = values[0]
		}
		return a.Authenticate(ctx, header, state)
	}
}

// Metadata that carries the principal from the HTTP listener to the in-process
// server. Only our own gateway can dial that one.
const (
	principalName   = "klive-principal-name-bin"
	principalRole   = "klive-principal-role"
	principalMethod = "klive-principal-method"
)

func principalMetadata(p auth.Principal) metadata.MD {
	return metadata.Pairs(principalName, p.Name, principalRole, p.Role.String(), principalMethod, p.Method)
}

// identifyGateway takes the word of our own gateway.
func identifyGateway(ctx context.Context) (auth.Principal, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	one := func(key string) string {
		if values := md.Get(key); len(values) == 1 {
			return values[0]
		}
		return ""
	}
	role, err := auth.ParseRole(one(principalRole))
	if err != nil {
		return auth.Principal{}, fault.New(fault.NotAuthenticated, "the call carries no principal").Because(err)
	}
	return auth.Principal{Name: one(principalName), Role: role, Method: one(principalMethod)}, nil
}

// admit authenticates a call and checks the role its method needs.
func admit(ctx context.Context, method string, who identify) (context.Context, error) {
	need := needs(method)
	p, err := who(ctx)
	if err != nil {
		if need == auth.None {
			return ctx, nil
		}
		return ctx, err
	}
	ctx = auth.NewContext(ctx, p)
	return ctx, auth.Require(ctx, need)
}

type deniedKey struct{}

// newDenied keeps why a request over HTTP was not authenticated until
// something needs a role.
func newDenied(ctx context.Context, why error) context.Context {
	return context.WithValue(ctx, deniedKey{}, why)
}

// requireHTTP returns nil when the request may do what needs the role.
func requireHTTP(ctx context.Context, need auth.Role) error {
	if need == auth.None {
		return nil
	}
	if why, ok := ctx.Value(deniedKey{}).(error); ok {
		return why
	}
	return auth.Require(ctx, need)
}

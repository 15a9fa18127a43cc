package control

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/auth"
)

// newGateway makes the handler that turns REST under /v1/ into gRPC calls on
// the connection. The connection leads to the in-process server, which runs
// the same interceptors as the one outside.
func newGateway(ctx context.Context, conn *grpc.ClientConn) (http.Handler, error) {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, ndjson{newJSON()}),
		runtime.WithMarshalerOption(eventStream, sse{newJSON()}),
		runtime.WithErrorHandler(gatewayError),
		runtime.WithRoutingErrorHandler(routingError),
		// No header of the caller becomes metadata: the principal travels there.
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithMetadata(func(ctx context.Context, _ *http.Request) metadata.MD {
			return principalMetadata(auth.FromContext(ctx))
		}),
	)
	for _, register := range []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
		klivev1.RegisterStreamServiceHandler,
		klivev1.RegisterSessionServiceHandler,
		klivev1.RegisterRecordingServiceHandler,
		klivev1.RegisterKalturaBridgeServiceHandler,
		klivev1.RegisterNodeServiceHandler,
		klivev1.RegisterEventServiceHandler,
	} {
		if err := register(ctx, mux, conn); err != nil {
			return nil, err
		}
	}
	return accepting(mux), nil
}

func newJSON() *runtime.JSONPb {
	return &runtime.JSONPb{
		// A state or a status of zero is said, not left to be guessed.
		MarshalOptions: protojson.MarshalOptions{EmitDefaultValues: true},
		// A misspelt field is an error, not a silent nothing.
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
	}
}

// accepting decides the format once: Server-Sent Events for a watch whose
// client accepts them, JSON for everything else. It also lets a browser's
// EventSource resume, which repeats the last id in a header of its own.
func accepting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		watch := strings.HasSuffix(r.URL.Path, ":watch")
		if watch && accepts(r, eventStream) {
			r.Header.Set("Accept", eventStream)
			if last := r.Header.Get("Last-Event-ID"); last != "" {
				r = resumeAt(r, last)
			}
		} else {
			r.Header.Del("Accept")
		}
		// The marshaler is the same whatever the body is called.
		r.Header.Del("Content-Type")
		next.ServeHTTP(w, r)
	})
}

// accepts reports whether the Accept header names the media type. Wildcards
// do not count: a watch is NDJSON unless the client asks for more.
func accepts(r *http.Request, media string) bool {
	for _, line := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(part, ";")
			if strings.EqualFold(strings.TrimSpace(name), media) {
				return true
			}
		}
	}
	return false
}

// resumeAt returns the request with the resume token in its query, replacing
// the one of the address the EventSource was opened with.
func resumeAt(r *http.Request, token string) *http.Request {
	query := r.URL.Query()
	query.Del("resume_token")
	query.Set("resumeToken", token)
	u := new(url.URL)
	*u = *r.URL
	u.RawQuery = query.Encode()
	clone := r.Clone(r.Context())
	clone.URL = u
	clone.Form = nil
	return clone
}

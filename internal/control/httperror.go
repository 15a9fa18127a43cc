package control

import (
	"context"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/klive-media/klive/internal/fault"
)

// writeError answers with the standard shape of the gateway:
// {"code": …, "message": …, "details": [ErrorInfo, …]}.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	writeStatus(w, r, statusOf(err), 0)
}

// writeStatus writes s with the HTTP status its code maps to, or with the
// given one when it is not 0.
func writeStatus(w http.ResponseWriter, r *http.Request, s *status.Status, httpStatus int) {
	if httpStatus == 0 {
		httpStatus = runtime.HTTPStatusFromCode(s.Code())
		if s.Code() == codes.PermissionDenied && reasonIn(s) == string(fault.ForeignOrigin) {
			httpStatus = http.StatusForbidden
		}
	}
	body, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(s.Proto())
	if err != nil { // a detail of an unknown type: the code is still right
		body = []byte(`{"code":13,"message":"the error could not be written","details":[]}`)
	}
	h := w.Header()
	h.Set("Content-Type", jsonContentType)
	if s.Code() == codes.Unauthenticated {
		h.Set("WWW-Authenticate", `Bearer realm="klive"`)
	}
	w.WriteHeader(httpStatus)
	if r.Method != http.MethodHead {
		_, _ = w.Write(append(body, '\n')) // the caller is gone; nobody to tell
	}
}

// gatewayError is called for errors of calls and of requests that do not
// parse. What does not parse comes without a reason and gets one here.
func gatewayError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	var httpStatus int
	if custom, ok := err.(*runtime.HTTPStatusError); ok { //nolint:errorlint // the gateway hands it over bare
		httpStatus, err = custom.HTTPStatus, custom.Err
	}
	writeStatus(w, r, explain(status.Convert(err)), httpStatus)
}

// routingError is called when no path or method fits.
func routingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, httpStatus int) {
	switch httpStatus {
	case http.StatusMethodNotAllowed:
		writeStatus(w, r, explain(status.Newf(codes.Unimplemented, "%s is not a method of this path; /openapi.json lists them", r.Method)), httpStatus)
	case http.StatusBadRequest:
		writeStatus(w, r, explain(status.New(codes.InvalidArgument, "the path cannot be read; /openapi.json lists the paths")), httpStatus)
	default:
		writeStatus(w, r, explain(status.New(codes.NotFound, "the API has no such path; /openapi.json lists the paths")), http.StatusNotFound)
	}
}

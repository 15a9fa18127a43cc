package control

import (
	"context"
	"errors"
	"maps"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/klive-media/klive/internal/fault"
)

// Domain is the domain of every google.rpc.ErrorInfo the API sends.
const Domain = "klive.media"

// faultCodes turns the class of a fault into the canonical code.
var faultCodes = map[fault.Code]codes.Code{
	fault.Unknown:            codes.Unknown,
	fault.InvalidArgument:    codes.InvalidArgument,
	fault.NotFound:           codes.NotFound,
	fault.AlreadyExists:      codes.AlreadyExists,
	fault.PermissionDenied:   codes.PermissionDenied,
	fault.Unauthenticated:    codes.Unauthenticated,
	fault.ResourceExhausted:  codes.ResourceExhausted,
	fault.FailedPrecondition: codes.FailedPrecondition,
	fault.Aborted:            codes.Aborted,
	fault.Unavailable:        codes.Unavailable,
	fault.DeadlineExceeded:   codes.DeadlineExceeded,
	fault.Internal:           codes.Internal,
}

// foreignReasons gives a reason to the errors that gRPC and the gateway make
// before our code is reached.
var foreignReasons = map[codes.Code]fault.Reason{
	codes.InvalidArgument:   fault.InvalidField,
	codes.OutOfRange:        fault.InvalidField,
	codes.NotFound:          fault.UnknownMethod,
	codes.Unimplemented:     fault.UnknownMethod,
	codes.ResourceExhausted: fault.LimitExceeded,
	codes.Unauthenticated:   fault.NotAuthenticated,
	codes.PermissionDenied:  fault.NotAllowed,
	codes.DeadlineExceeded:  fault.CallTimedOut,
	codes.Canceled:          fault.CallCancelled,
	codes.Unavailable:       fault.ServerDraining,
}

// statusOf turns any error into the status a caller gets. What is not a fault
// becomes INTERNAL and keeps its text to itself.
func statusOf(err error) *status.Status {
	switch {
	case err == nil:
		return nil
	case fault.ReasonOf(err) != "": // below
	case errors.Is(err, context.DeadlineExceeded):
		return explain(status.New(codes.DeadlineExceeded, "the call took longer than its deadline; try again"))
	case errors.Is(err, context.Canceled):
		return explain(status.New(codes.Canceled, "the call was cancelled"))
	default:
		if s, ok := errors.AsType[interface {
			error
			GRPCStatus() *status.Status
		}](err); ok {
			return explain(s.GRPCStatus())
		}
	}
	f := fault.From(err)
	code, known := faultCodes[f.Code]
	if !known {
		code = codes.Internal
	}
	return withReason(status.New(code, f.Message), f.Reason, f.Metadata)
}

// explain adds a reason to a status that has none.
func explain(s *status.Status) *status.Status {
	for _, detail := range s.Details() {
		if _, ok := detail.(*errdetails.ErrorInfo); ok {
			return s
		}
	}
	reason, ok := foreignReasons[s.Code()]
	if !ok {
		reason = fault.InternalError
	}
	return withReason(s, reason, nil)
}

// withReason adds ErrorInfo, and BadRequest where the metadata names a field.
func withReason(s *status.Status, reason fault.Reason, metadata map[string]string) *status.Status {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{
		Reason: string(reason), Domain: Domain, Metadata: maps.Clone(metadata),
	}}
	if field := metadata["field"]; field != "" && s.Code() == codes.InvalidArgument {
		details = append(details, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{
			Field: field, Description: s.Message(), Reason: string(reason),
		}}})
	}
	full, err := s.WithDetails(details...)
	if err != nil { // only for codes.OK
		return s
	}
	return full
}

// reasonIn is the reason a status carries; "" when it carries none.
func reasonIn(s *status.Status) string {
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

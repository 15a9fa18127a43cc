package rtmp

import (
	"github.com/klive-media/klive/internal/fault"
	wire "github.com/klive-media/klive/internal/rtmp"
)

// refusalCodes gives the RTMP code for a reason; what is not here goes by
// classCodes. Encoders show their users the description; a code that an
// encoder does not know does no harm, as the connection is closed behind it.
var refusalCodes = map[fault.Reason]string{
	fault.MissingArgument: wire.PublishUnauthorized,
	fault.TooManyAttempts: wire.PublishUnauthorized,
	fault.StreamStopped:   wire.PublishBadName,
	fault.ServerDraining:  wire.ConnectAppShutdown,
}

var classCodes = map[fault.Code]string{
	fault.Unauthenticated:  wire.PublishUnauthorized,
	fault.PermissionDenied: wire.PublishUnauthorized,
	fault.AlreadyExists:    wire.PublishBadName,
	fault.NotFound:         wire.PublishBadName,
}

// badNames are the reasons of class InvalidArgument that are about the name.
// The others are about the media.
var badNames = map[fault.Reason]bool{fault.BadStreamName: true, fault.BadAddress: true}

// refusalCode is the NetStream.Publish code for a reason.
func refusalCode(e *fault.Error) string {
	if code, ok := refusalCodes[e.Reason]; ok {
		return code
	}
	if badNames[e.Reason] {
		return wire.PublishBadName
	}
	if code, ok := classCodes[e.Code]; ok {
		return code
	}
	return wire.PublishFailed
}

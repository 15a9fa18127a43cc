package rtmp

import (
	"fmt"
	"strings"

	"github.com/klive-media/klive/internal/rtmp/amf"
)

// The levels of an Info.
const (
	LevelStatus = "status"
	LevelError  = "error"
)

// The codes of an Info that are said here. Adobe's ActionScript reference
// lists them under NetStatusEvent; Unauthorized is used by several servers and
// understood by encoders through its description.
const (
	ConnectSuccess      = "NetConnection.Connect.Success"
	ConnectRejected     = "NetConnection.Connect.Rejected"
	ConnectAppShutdown  = "NetConnection.Connect.AppShutdown"
	ReconnectRequest    = "NetConnection.Connect.ReconnectRequest" // Enhanced RTMP v2
	CallFailed          = "NetConnection.Call.Failed"
	PublishStart        = "NetStream.Publish.Start"
	PublishBadName      = "NetStream.Publish.BadName"
	PublishUnauthorized = "NetStream.Publish.Unauthorized"
	PublishRejected     = "NetStream.Publish.Rejected"
	PublishFailed       = "NetStream.Publish.Failed"
	UnpublishSuccess    = "NetStream.Unpublish.Success"
	PlayFailed          = "NetStream.Play.Failed"
)

// Info is the information object of onStatus, _result and _error (section
// 7.2.2).
type Info struct{ Level, Code, Description string }

// maxDescription bounds what is said to and taken from a peer, in bytes.
const maxDescription = 1024

// object is the AMF form, with further properties as name and value pairs.
func (i Info) object(more ...amf.Value) amf.Object {
	o := amf.Object{
		{Name: "level", Value: i.Level},
		{Name: "code", Value: i.Code},
		{Name: "description", Value: clip(i.Description, maxDescription)},
	}
	for ; len(more) > 1; more = more[2:] {
		name, _ := more[0].(string)
		o = append(o, amf.Property{Name: name, Value: more[1]})
	}
	return o
}

// infoOf finds the information object among the arguments of a command.
func infoOf(object amf.Value, args []amf.Value) Info {
	for _, v := range append(args, object) {
		if code := amf.LookupString(v, "code"); code != "" {
			return Info{
				Level:       amf.LookupString(v, "level"),
				Code:        code,
				Description: clip(amf.LookupString(v, "description"), maxDescription),
			}
		}
	}
	return Info{}
}

// StatusError is a server's refusal, or its word at the end of a publication.
type StatusError struct{ Info }

// Error gives the code and the description.
func (e *StatusError) Error() string {
	return fmt.Sprintf("the RTMP server said %s: %s", e.Code, e.Description)
}

// nameOnly is a stream name without the query, which holds the token and must
// not be repeated.
func nameOnly(name string) string {
	name, _, _ = strings.Cut(name, "?")
	return clip(name, maxDescription/2)
}

func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "?")
}

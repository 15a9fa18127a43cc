package control

import (
	"bytes"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const eventStream = "text/event-stream"

// ndjson writes watches as newline-delimited JSON: {"result": …} for each
// message and {"error": …} when the watch fails, as the OpenAPI document says.
// Everything else is plain JSON.
type ndjson struct{ *runtime.JSONPb }

var _ runtime.StreamContentType = ndjson{}

// StreamContentType is asked for watches only.
func (ndjson) StreamContentType(any) string { return "application/x-ndjson" }

// sse writes watches as Server-Sent Events (WHATWG HTML section 9.2): the name
// of the event is the kind of change ("stream", "deleted", "synced",
// "heartbeat", "event" or "error"), its id the resume token, its data the
// message as JSON.
type sse struct{ *runtime.JSONPb }

var (
	_ runtime.Marshaler         = sse{}
	_ runtime.Delimited         = sse{}
	_ runtime.StreamContentType = sse{}
)

func (sse) ContentType(any) string       { return eventStream }
func (sse) StreamContentType(any) string { return eventStream }
func (sse) Delimiter() []byte            { return []byte("\n\n") }

// Marshal gets what the gateway wraps messages in: a map with the one key
// "result" or "error".
func (s sse) Marshal(v any) ([]byte, error) {
	name, id, message := "error", "", v
	switch wrapped := v.(type) {
	case map[string]any:
		if result, ok := wrapped["result"]; ok {
			message = result
			if m, ok := result.(proto.Message); ok {
				name, id = describeChange(m.ProtoReflect())
			}
		}
	case map[string]proto.Message:
		if failure, ok := wrapped["error"]; ok {
			message = failure
		}
	}
	data, err := s.JSONPb.Marshal(message)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("event: " + name + "\n")
	if id != "" {
		b.WriteString("id: " + id + "\n")
	}
	b.WriteString("data: ")
	b.Write(bytes.ReplaceAll(data, []byte("\n"), []byte(" "))) // one line; JSON holds newlines only between tokens
	return b.Bytes(), nil
}

// describeChange reads the two fields that every watch response has.
func describeChange(m protoreflect.Message) (name, id string) {
	name = "message"
	fields := m.Descriptor().Fields()
	if oneof := m.Descriptor().Oneofs().ByName("change"); oneof != nil {
		if field := m.WhichOneof(oneof); field != nil {
			name = string(field.Name())
		}
	}
	if token := fields.ByName("resume_token"); token != nil {
		id = m.Get(token).String()
	}
	return name, id
}

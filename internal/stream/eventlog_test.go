package stream

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnEventsLogLineSaysWhatThereIs(t *testing.T) {
	var out bytes.Buffer
	e := Event{Type: StreamCreated, Stream: "lobby", Message: "made"}
	slog.New(slog.NewJSONHandler(&out, nil)).LogAttrs(t.Context(), slog.LevelInfo, "event", e.attrs()...)
	require.Contains(t, out.String(), `"msg":"event","type":"STREAM_CREATED","stream":"lobby","message":"made"}`)
	out.Reset()
	e.Facts = map[string]string{"remote": "192.0.2.1:4000", "count": "3"}
	slog.New(slog.NewJSONHandler(&out, nil)).LogAttrs(t.Context(), slog.LevelInfo, "event", e.attrs()...)
	require.Contains(t, out.String(), `"facts":{"count":"3","remote":"192.0.2.1:4000"}}`)
}

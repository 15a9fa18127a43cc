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
}

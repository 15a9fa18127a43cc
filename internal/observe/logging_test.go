package observe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLoggerFormats(t *testing.T) {
	for _, format := range []string{"json", "auto", ""} {
		var out bytes.Buffer
		log, level, err := NewLogger(LogOptions{Level: "warn", Format: format, Output: &out})
		require.NoError(t, err)
		log.Info("hidden")
		require.Empty(t, out.String())
		level.Set(slog.LevelDebug)
		log.Debug("shown", "n", 1)
		var line map[string]any
		require.NoError(t, json.Unmarshal(out.Bytes(), &line), "a buffer is no terminal")
		require.Equal(t, "shown", line["msg"])
	}
	var out bytes.Buffer
	log, _, err := NewLogger(LogOptions{Level: "info", Format: "text", Output: &out})
	require.NoError(t, err)
	log.Info("hello", "n", 1)
	require.Contains(t, out.String(), "level=INFO msg=hello n=1\n")

	_, _, err = NewLogger(LogOptions{Level: "loud", Format: "text"})
	require.ErrorContains(t, err, "set log level")
	_, _, err = NewLogger(LogOptions{Level: "info", Format: "xml"})
	require.ErrorContains(t, err, `"xml" is not auto, text or json`)
}

func TestDurationsAreText(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		var out bytes.Buffer
		log, _, err := NewLogger(LogOptions{Level: "info", Format: format, Output: &out})
		require.NoError(t, err)
		log.Info("stopping", "drain_timeout", 3*time.Second)
		require.Regexp(t, `drain_timeout"?[:=]"?3s`, out.String())
	}
}

func TestFileIsNoTerminal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	require.False(t, isTerminal(f))
	require.NoError(t, f.Close())
	require.False(t, isTerminal(f))
}

func TestSecretsAreNotLogged(t *testing.T) {
	const secret = "hunter2"
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		log, _, err := NewLogger(LogOptions{Level: "debug", Format: format, Output: &out})
		require.NoError(t, err)
		log.Info("a",
			"value", Secret(secret),
			"token", secret,
			"Authorization", "Bearer "+secret,
			"header", "bearer "+secret,
			"address", "rtmp://host/kLive/?p=102&e=lobby&i=0&t="+secret,
			"error", fmt.Errorf("dial: %w", errors.New("rtmp://host/kLive?token="+secret)),
			slog.Group("peer", "passphrase", secret, "streamid", "#:::e=lobby,st=0,p="+secret),
		)
		log.With("token", secret).WithGroup("g").Info("b", "ks", secret)
		require.NotContains(t, out.String(), secret)
		require.Contains(t, out.String(), "p=102")
	}
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", Secret(secret), Secret(secret), Secret(secret), Secret(secret)), secret)
	text, err := json.Marshal(map[string]Secret{"t": Secret(secret)})
	require.NoError(t, err)
	require.JSONEq(t, `{"t":"********"}`, string(text))
	require.Empty(t, Secret("").String())
	require.Equal(t, secret, Secret(secret).Reveal())
}

func TestRedact(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"nothing here", "nothing here"},
		{"t=abc", "t=********"},
		{"kLive/?p=102&e=x&i=0&t=abc", "kLive/?p=102&e=x&i=0&t=********"},
		{"kLive?T=abc&p=5", "kLive?T=********&p=5"},
		{"lobby_1?token=abc def", "lobby_1?token=******** def"},
		{"#!::r=x_1,m=publish,u=102,token=abc,index=0", "#!::r=x_1,m=publish,u=102,token=********,index=0"},
		{"#:::e=x,st=0,p=abc", "#:::e=x,st=0,p=********"},
		{"#:::p=abc,e=x", "#:::p=********,e=x"},
		{"Authorization: Bearer abc", "Authorization: Bearer ********"},
		{"format=json&start=1", "format=json&start=1"},
		{"count=5", "count=5"},
	} {
		require.Equal(t, c.want, Redact(c.in))
	}
}

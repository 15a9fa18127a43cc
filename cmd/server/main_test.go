package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// configured writes a configuration on free ports and returns its file.
func configured(t *testing.T, more string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "klive.yaml")
	text := "data_dir: " + filepath.Join(dir, "data") + `
log: { format: text }
rtmp: { listen: "127.0.0.1:0" }
media_http: { listen: "127.0.0.1:0" }
` + more
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func TestExitCodes(t *testing.T) {
	t.Setenv("KLIVE_CTL_ADDRESS", "")
	file := configured(t, `control: { grpc_listen: "127.0.0.1:1", http_listen: "127.0.0.1:2" }`)
	free := configured(t, `control: { grpc_listen: "127.0.0.1:0" }`)
	broken := configured(t, "no_such_key: 1")
	for line, want := range map[string]struct {
		code int
		says string
	}{
		"version":                                   {exitOK, "klive " + version},
		"--config " + file + " config check":        {exitOK, "good"},
		"--config " + broken + " config check":      {exitUsage, "no_such_key"},
		"--config " + file + " healthcheck":         {exitFailure, "ask the server"},
		"--config " + file + " ctl node":            {exitFailure, "cannot reach the server at 127.0.0.1:1"},
		"--config " + broken + " ctl node":          {exitUsage, "no_such_key"},
		"--config " + free + " ctl node":            {exitUsage, "control.grpc_listen picks a free port"},
		"ctl --address 127.0.0.1:1 node":            {exitFailure, "cannot reach the server at 127.0.0.1:1"},
		"ctl --tls-cert x node":                     {exitUsage, "--tls-cert and --tls-key go together"},
		"ctl streams update live":                   {exitUsage, "nothing to change"},
		"paint":                                     {exitUsage, "unexpected argument paint"},
		"ctl --address localhost:1 --timeout x get": {exitUsage, "timeout"},
	} {
		var out bytes.Buffer
		require.Equal(t, want.code, realMain(strings.Fields(line), &out, &out), "%s: %s", line, &out)
		require.Contains(t, out.String(), want.says, line)
	}
}

func TestAStopDuringTheStartIsNoFailure(t *testing.T) {
	c := &commandLine{Config: configured(t, `control: { grpc_listen: "127.0.0.1:0", http_listen: "127.0.0.1:0" }`)}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var log bytes.Buffer
	require.NoError(t, serveCommand{}.Run(ctx, c, &streams{io.Discard, &log}))
	require.Contains(t, log.String(), "stopped")
}

func TestAHangupIsAnsweredAndEndsNothing(t *testing.T) {
	hangups := make(chan os.Signal)
	ctx, cancel := context.WithCancel(t.Context())
	var log bytes.Buffer
	ended := make(chan error, 1)
	go func() { ended <- answerHangups(ctx, hangups, slog.New(slog.NewTextHandler(&log, nil))) }()
	hangups <- syscall.SIGHUP
	hangups <- syscall.SIGHUP
	cancel()
	require.NoError(t, <-ended)
	require.Equal(t, 2, strings.Count(log.String(), "reload is not available in this version"))
}

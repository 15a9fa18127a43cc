package config

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the generated files instead of comparing them")

// samples is a value for every key that is valid and not the default.
var samples = map[string]string{
	"data_dir":                     "/var/lib/klive",
	"log.level":                    "debug",
	"log.format":                   "json",
	"rtmp.listen":                  "127.0.0.1:0",
	"rtmp.max_connections":         "7",
	"rtmp.max_waiting_per_address": "9",
	"rtmp.handshake_timeout":       "3s",
	"rtmp.write_timeout":           "4s",
	"media_http.listen":            "[::1]:8443",
	"rtmp.tls.listen":              "127.0.0.1:1",
	"srt.listen":                   "[::]:9000",
	"srt.latency":                  "2s",
	"srt.passphrase":               "mnopqrstuv",
	"srt.max_connections":          "11",
	"srt.max_waiting_per_address":  "12",
	"kaltura.srt_key":              "wxyz1234",
	"kaltura.srt_iv":               "5678wxyz",
	"rtmp.tls.cert":                "/etc/klive/rtmp.pem",
	"rtmp.tls.key":                 "/etc/klive/rtmp.key",
	"media_http.tls.cert":          "/etc/klive/media.pem",
	"media_http.tls.key":           "/etc/klive/media.key",
	"media_http.cors_origins":      "[https://a.example, http://b.example:8000]",
	"control.grpc_listen":          "0.0.0.0:9091",
	"control.http_listen":          "10.0.0.1:8082",
	"control.tls.cert":             "/etc/klive/control.pem",
	"control.tls.key":              "/etc/klive/control.key",
	"control.tls.client_ca":        "/etc/klive/ca.pem",
	"auth.tokens":                  "[{ name: ops, token: \"12345678\", role: admin }, { name: wall, token: abcdefgh, role: viewer }]",
	"streams":                      "[{ id: lobby, token: s3cret, partner: 102 }, { id: \"event-*\", token: 0123456789, srt_passphrase: klmnopqrstuv }]",
	"kaltura.url":                  "http://backend.example/api_v3",
	"kaltura.partner_id":           "102",
	"kaltura.admin_secret":         "ab12cd34",
	"kaltura.hostname":             "live1.example.com",
	"kaltura.application":          "kLiveOTD",
	"kaltura.reconnect_window":     "2m",
	"kaltura.profile":              "flavors",
	"kaltura.encoding":             "form",
	"kaltura.session":              "start",
	"kaltura.session_version":      "1",
	"kaltura.timeout":              "20s",
	"kaltura.node_type":            "KalturaLiveClusterMediaServerNode",
	"kaltura.node_report":          "none",
	"kaltura.delivery":             "upload",
	"kaltura.shared_directory":     "/mnt/kaltura/live",
	"kaltura.backend_directory":    "/opt/kaltura/web/live",
	"kaltura.upload_chunk":         "4MiB",
	"recording.segment_duration":   "1m",
	"recording.group":              "kaltura",
	"recording.directory":          "/var/lib/klive-recordings",
	"recording.retention":          "72h",
	"hls.segment_duration":         "2s",
	"hls.part_duration":            "500ms",
	"hls.low_latency":              "false",
	"hls.window":                   "1m",
	"limits.reconnect_window":      "0",
	"limits.takeover_after":        "5s",
	"limits.idle_timeout":          "1h",
	"limits.drain_timeout":         "10s",
	"limits.max_streams":           "50",
	"limits.max_viewers":           "1000",
	"limits.log_bytes":             "16MiB",
	"limits.log_duration":          "1m",
	"telemetry.metrics":            "false",
}

// modeKey has no sample: whatever it is set to forbids one of the others. TestKalturaModes tries it.
const modeKey = "kaltura.mode"

// sampleFile is a configuration file with every sample.
func sampleFile() []byte {
	var b bytes.Buffer
	walk(reflect.ValueOf(Default()), "", 0, func(n node) {
		if n.path == modeKey {
			return
		}
		fmt.Fprintf(&b, "%s%s: ", strings.Repeat("  ", n.depth), n.name)
		switch {
		case n.section:
		case n.value.Kind() == reflect.String:
			fmt.Fprintf(&b, "%q", samples[n.path])
		default:
			b.WriteString(samples[n.path])
		}
		b.WriteByte('\n')
	})
	return b.Bytes()
}

func TestDefaultsAreValid(t *testing.T) {
	require.NoError(t, Default().Validate())
	l, err := build("", nil, []string{})
	require.NoError(t, err)
	require.Equal(t, Default(), l.Config)
}

func TestEveryKeyByFileAndByEnvironment(t *testing.T) {
	var env []string
	for _, k := range Keys() {
		if k.Path == modeKey {
			continue
		}
		require.Contains(t, samples, k.Path, "add a sample for the new key")
		env = append(env, k.Env+"="+samples[k.Path])
	}
	require.Len(t, samples, len(env))

	byFile, err := build("klive.yaml", sampleFile(), nil)
	require.NoError(t, err)
	byEnv, err := build("", nil, env)
	require.NoError(t, err)
	require.Equal(t, byFile.Config, byEnv.Config)

	defaults := make(map[string]any)
	walk(reflect.ValueOf(Default()), "", 0, func(n node) { defaults[n.path] = n.value.Interface() })
	walk(reflect.ValueOf(byFile.Config), "", 0, func(n node) {
		if n.path == modeKey {
			return
		}
		require.NotEqual(t, defaults[n.path], n.value.Interface(), "%s was not set", n.path)
	})

	c := byFile.Config
	require.Equal(t, []Token{{"ops", "12345678", RoleAdmin}, {"wall", "abcdefgh", RoleViewer}}, c.Auth.Tokens)
	require.Equal(t, []Stream{{"lobby", "s3cret", "", 102}, {"event-*", "0123456789", "klmnopqrstuv", 0}}, c.Streams)
	require.Equal(t, []string{"https://a.example", "http://b.example:8000"}, c.MediaHTTP.CORSOrigins)
	require.Equal(t, Size(16<<20), c.Limits.LogBytes)
	require.Equal(t, 500*time.Millisecond, c.HLS.PartDuration)
	require.Zero(t, c.Limits.ReconnectWindow)
	require.True(t, c.MediaHTTP.TLS.Enabled())
	require.True(t, c.Control.TLS.Enabled())
}

func TestKeysAreDocumented(t *testing.T) {
	duration, size := reflect.TypeFor[time.Duration](), reflect.TypeFor[Size]()
	var check func(s reflect.Type, prefix string)
	check = func(s reflect.Type, prefix string) {
		for _, f := range reflect.VisibleFields(s) {
			path := prefix + f.Tag.Get("key")
			require.Regexp(t, `^[a-z][a-z0-9_]*$`, f.Tag.Get("key"), path)
			require.Regexp(t, `^[A-Z].*\.$`, f.Tag.Get("doc"), path)
			for _, tag := range []string{"min", "max"} {
				text := f.Tag.Get(tag)
				var err error
				switch {
				case f.Type == duration:
					_, err = parseDuration(text)
				case f.Type == size:
					_, err = parseSize(text)
				case f.Type.Kind() == reflect.Int:
					require.NotEmpty(t, text, "%s has no %s", path, tag)
				}
				require.NoError(t, err, "%s of %s", tag, path)
			}
			switch f.Type.Kind() {
			case reflect.Struct:
				check(f.Type, path+".")
			case reflect.Slice:
				require.NotEmpty(t, f.Tag.Get("example"), path)
				if f.Type.Elem().Kind() == reflect.Struct {
					check(f.Type.Elem(), path+".")
				}
			}
		}
	}
	check(reflect.TypeFor[Config](), "")
	for _, k := range Keys() {
		require.NotEmpty(t, k.Type)
		if k.Example != "" {
			_, err := build("", nil, []string{k.Env + "=" + k.Example})
			require.NoError(t, err, "the example of %s must be valid", k.Path)
		}
	}
}

func TestPrecedence(t *testing.T) {
	l, err := build("k.yaml", []byte("log: { level: warn, format: json }\nstreams: [{id: a, token: x}, {id: b, token: y}]\n"),
		[]string{"KLIVE_LOG_LEVEL=error", "KLIVE_RTMP_LISTEN=", "KLIVE_STREAMS={id: c, token: z}"})
	require.NoError(t, err)
	require.Equal(t, "error", l.Log.Level, "environment over file")
	require.Equal(t, "json", l.Log.Format, "file over default")
	require.Equal(t, ":1935", l.RTMP.Listen, "an empty variable is not set")
	require.Equal(t, []Stream{{ID: "c", Token: "z"}}, l.Streams, "a list is replaced as a whole; one entry needs no brackets")
}

func TestEnvironmentLists(t *testing.T) {
	for value, want := range map[string][]string{
		"https://a.example":                        {"https://a.example"},
		"https://a.example, https://b.example,":    {"https://a.example", "https://b.example"},
		`["https://a.example", https://b.example]`: {"https://a.example", "https://b.example"},
		"[]":   {},
		" [ ]": {},
	} {
		l, err := build("", nil, []string{"KLIVE_MEDIA_HTTP_CORS_ORIGINS=" + value})
		require.NoError(t, err, value)
		require.Equal(t, want, l.MediaHTTP.CORSOrigins, value)
	}
}

func TestForeignVariables(t *testing.T) {
	l, err := build("", nil, []string{
		"PATH=/bin", "KLIVE_CONFIG=x", "KLIVE_DEMO_PORT_OF_MINE=1",
		"KLIVE_SERVICE_HOST=10.0.0.1", "KLIVE_SERVICE_PORT=1", "KLIVE_SERVICE_PORT_RTMP=1", "KLIVE_PORT=tcp://10.0.0.1:1",
		"KLIVE_PORT_1935_TCP=tcp://10.0.0.1:1", "KLIVE_PORT_1935_TCP_ADDR=10.0.0.1", "KLIVE_RTMP_SERVICE_HOST=10.0.0.1",
		"KLIVE_MEDIA_HTTP_PORT_8080_TCP_PROTO=tcp", "not a variable",
	})
	require.NoError(t, err)
	require.Equal(t, []string{"the environment variable KLIVE_DEMO_PORT_OF_MINE is not a configuration key and is ignored"}, l.Warnings)
}

func TestSearch(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(name, level string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte("log: { level: "+level+" }"), 0o600))
		return path
	}
	load := func(o Options) Loaded {
		t.Helper()
		l, err := Load(o)
		require.NoError(t, err)
		return l
	}
	none := []string{}
	require.Empty(t, load(Options{Env: none}).File)

	write("klive.yaml", "debug")
	l := load(Options{Env: none})
	require.Equal(t, "./klive.yaml", l.File)
	require.Equal(t, "debug", l.Log.Level)

	byEnv := write("env.yaml", "warn")
	require.Equal(t, "warn", load(Options{Env: []string{"KLIVE_CONFIG=" + byEnv}}).Log.Level)
	byFlag := write("flag.yaml", "error")
	require.Equal(t, "error", load(Options{File: byFlag, Env: []string{"KLIVE_CONFIG=" + byEnv}}).Log.Level)

	_, err := Load(Options{File: "missing.yaml", Env: none})
	require.EqualError(t, err, "missing.yaml: the configuration file cannot be read: no such file or directory")
	_, err = Load(Options{Env: []string{"KLIVE_CONFIG=" + dir}})
	require.EqualError(t, err, dir+": the configuration file cannot be read: is a directory")
	require.NoError(t, os.WriteFile("large.yaml", bytes.Repeat([]byte("#"), maxFile+1), 0o600))
	_, err = Load(Options{File: "large.yaml", Env: none})
	require.EqualError(t, err, "large.yaml: is larger than 256KiB")
	require.NoError(t, os.Remove("klive.yaml"))
	require.NoError(t, os.Mkdir("klive.yaml", 0o700))
	_, err = Load(Options{Env: none})
	require.ErrorContains(t, err, "./klive.yaml: the configuration file cannot be read: is a directory")

	t.Setenv("KLIVE_LOG_LEVEL", "warn")
	require.Equal(t, "warn", load(Options{File: byFlag}).Log.Level, "the process's own environment")
}

func TestGeneratedFiles(t *testing.T) {
	var reference, table bytes.Buffer
	require.NoError(t, WriteReference(&reference))
	require.NoError(t, WriteTable(&table))
	compare(t, "../../klive.yaml", reference.Bytes())

	const page, begin, end = "../../docs/configuration.md", "<!-- keys: generated from internal/config -->\n", "<!-- end of keys -->"
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok, "docs/configuration.md has no place for the table")
	_, tail, ok := strings.Cut(rest, end)
	require.True(t, ok, "docs/configuration.md has no end of the table")
	compare(t, page, []byte(head+begin+table.String()+end+tail))
}

// compare holds a committed file to its generated content, or writes it.
func compare(t *testing.T, path string, want []byte) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(path, want, 0o644)) //nolint:gosec // a file of the repository, for everybody
		return
	}
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "%s is not up to date: run go generate ./internal/config", path)
}

// The reference file changes nothing as it is, and nothing either when every key is uncommented.
func TestReferenceEqualsDefaults(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, WriteReference(&b))
	l, err := build("klive.yaml", b.Bytes(), nil)
	require.NoError(t, err)
	require.Equal(t, Default(), l.Config)

	keys := regexp.MustCompile(`(?m)^( *)#([a-z_]+:)`)
	require.Len(t, keys.FindAll(b.Bytes(), -1), len(Keys()))
	l, err = build("klive.yaml", keys.ReplaceAll(b.Bytes(), []byte("$1$2")), nil)
	require.NoError(t, err)
	want := Default()
	want.Auth.Tokens, want.Streams = []Token{}, []Stream{} // written as [] in the file
	require.Equal(t, want, l.Config)

	for line := range strings.Lines(b.String()) {
		if !strings.Contains(line, "# Example: ") {
			require.LessOrEqual(t, len(line), referenceWidth+1, line)
		}
	}
}

func TestPrint(t *testing.T) {
	l, err := build("klive.yaml", sampleFile(), nil)
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, l.Print(&b))
	for _, secret := range []string{"12345678", "abcdefgh", "s3cret", "0123456789", "ab12cd34", "klmnopqrstuv", "mnopqrstuv", "wxyz"} {
		require.NotContains(t, b.String(), secret)
	}
	require.Contains(t, b.String(), `  - { id: "event-*", token: "********", srt_passphrase: "********", partner: 0 }`)
	require.Contains(t, b.String(), "  log_bytes: 16MiB\n")

	// What is printed is a configuration again, but for the secrets.
	_, err = build("printed.yaml", b.Bytes(), nil)
	require.ErrorContains(t, err, "streams[0].token: is the mask that a printed configuration shows")
	restored := strings.ReplaceAll(b.String(), mask, "xxxxxxxxxx")
	restored = strings.Replace(restored, `token: "xxxxxxxxxx", role: viewer`, `token: "y", role: viewer`, 1)
	again, err := build("printed.yaml", []byte(restored), nil)
	require.NoError(t, err)
	l.Kaltura.AdminSecret, l.Kaltura.SRTKey, l.Kaltura.SRTIV = again.Kaltura.AdminSecret, again.Kaltura.SRTKey, again.Kaltura.SRTIV
	l.SRT.Passphrase = again.SRT.Passphrase
	for i := range l.Auth.Tokens {
		l.Auth.Tokens[i].Token = again.Auth.Tokens[i].Token
	}
	for i := range l.Streams {
		l.Streams[i].Token, l.Streams[i].SRTPassphrase = again.Streams[i].Token, again.Streams[i].SRTPassphrase
	}
	require.Equal(t, l.Config, again.Config)
}

func TestSecretsDoNotLeak(t *testing.T) {
	s := Stream{ID: "lobby", Token: "hunter2", SRTPassphrase: "hunter2hunter2"}
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", s, s, s, s.Token), "hunter2")
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "stream", s, "token", s.Token)
	require.NotContains(t, b.String(), "hunter2")
	require.Equal(t, "hunter2", s.Token.Reveal())
	require.Empty(t, Secret("").String())
}

func TestTemplates(t *testing.T) {
	require.True(t, Stream{ID: "event-*"}.IsTemplate())
	require.Equal(t, "event-", Stream{ID: "event-*"}.Prefix())
	require.False(t, Stream{ID: "lobby"}.IsTemplate())
	require.Equal(t, "lobby", Stream{ID: "lobby"}.Prefix())
	require.Equal(t, "klive", Kaltura{}.SealKey())
	require.Equal(t, "other", Kaltura{SRTKey: "other"}.SealKey())
	require.False(t, Stream{}.IsTemplate())
}

package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// mistake is a configuration that is refused.
type mistake struct {
	name string
	file string
	env  []string
	want []string // everything the user is told
}

// wrong is a table of configurations that are refused, each with everything the user is told. It also
// seeds the fuzz target.
var wrong = []mistake{
	{"unknown key", "rtmp:\n  listn: \":1935\"\n", nil,
		[]string{"k.yaml:2: rtmp.listn: unknown key; did you mean rtmp.listen?"}},
	{"unknown section", "rtnp: {}\n", nil,
		[]string{"k.yaml:1: rtnp: unknown key; did you mean rtmp?"}},
	{"key in the wrong place", "\nmax_viewers: 5\n", nil,
		[]string{"k.yaml:2: max_viewers: unknown key; did you mean limits.max_viewers?"}},
	{"key of several sections", "listen: x\n", nil,
		[]string{"k.yaml:1: listen: unknown key; did you mean rtmp.listen or rtmp.tls.listen or srt.listen or media_http.listen?"}},
	{"section in the wrong place", "hls: { tls: {} }\n", nil,
		[]string{"k.yaml:1: hls.tls: unknown key; did you mean rtmp.tls or media_http.tls or control.tls?"}},
	{"nothing like it", "zzzzzzzzzzzzzzzz: 1\n", nil,
		[]string{"k.yaml:1: zzzzzzzzzzzzzzzz: unknown key; the closest is data_dir"}},
	{"every problem at once", "log:\n  level: loud\nrtmp:\n  max_connections: -1\n  listen: here\nhls:\n  part_duration: 4\n", nil,
		[]string{
			"k.yaml:2: log.level: must be debug, info, warn or error, not \"loud\"",
			"k.yaml:7: hls.part_duration: must be a duration with a unit, such as 4s or 4ms, not \"4\"",
			"k.yaml:4: rtmp.max_connections: must be between 0 and 1000000, not -1",
			"k.yaml:5: rtmp.listen: must be an address with a port, such as \":8080\" or \"127.0.0.1:8080\", not \"here\"",
		}},
	{"wrong types", "log: 5\nrtmp: [a]\nstreams: lobby\nhls: { low_latency: yes, window: [1s], segment_duration: soon }\nlimits: { log_bytes: 8MB, max_streams: 1.5 }\n", nil,
		[]string{
			"k.yaml:1: log: this must hold keys (level, format), not a single value",
			"k.yaml:2: rtmp: this must hold keys (listen, max_connections, max_waiting_per_address, handshake_timeout, write_timeout, tls), not a list",
			"k.yaml:3: streams: must be a list, such as [{ id: lobby, token: \"s3cret\" }, { id: \"event-*\", token: \"s3cret\", partner: 102 }]",
			"k.yaml:4: hls.low_latency: must be true or false, not \"yes\"",
			"k.yaml:4: hls.window: must be a single value, not a list",
			"k.yaml:4: hls.segment_duration: must be a duration such as 250ms, 4s or 1m30s, not \"soon\"",
			"k.yaml:5: limits.log_bytes: must be a size such as 512KiB or 8MiB, not \"8MB\"",
			"k.yaml:5: limits.max_streams: must be a whole number, not \"1.5\"",
		}},
	{"not YAML", "rtmp:\n  listen: \"open\nlog: {}\n", nil,
		[]string{"k.yaml:2: is not valid YAML: could not find end character of double-quoted text"}},
	{"key twice", "log: {}\nlog: {}\n", nil,
		[]string{"k.yaml:2: is not valid YAML: mapping key \"log\" already defined at [1:1]"}},
	{"two documents", "log: {}\n---\nrtmp: {}\n", nil,
		[]string{"k.yaml:3: holds more than one YAML document; keep one"}},
	{"no keys", "just text\n", nil,
		[]string{"k.yaml:1: the file must hold keys (data_dir, log, rtmp, srt, media_http, control, auth, streams, kaltura, hls, recording, limits, telemetry), not a single value"}},
	{"anchor, alias and merge", "log: &a { level: info }\nhls: *a\nlimits:\n  <<: *a\n", nil,
		[]string{
			"k.yaml:1: log: YAML anchors, aliases and tags are not supported; write the value out",
			"k.yaml:2: hls: YAML anchors, aliases and tags are not supported; write the value out",
			"k.yaml:4: limits: YAML anchors, aliases and tags are not supported; write the value out",
		}},
	{"later release", "webrtc: { ice_listen: \":8189\" }\nplayback: {}\ndvr:\n  max_window: 2h\nstreams:\n  - { id: a, token: x, dvr: { enabled: true }, recording: {}, ladder: hd }\n", nil,
		[]string{
			"k.yaml:1: webrtc: is not available in this version yet; remove it",
			"k.yaml:2: playback: is not available in this version yet; remove it",
			"k.yaml:3: dvr: is not available in this version yet; remove it",
			"k.yaml:6: streams[0].dvr: is not available in this version yet; remove it",
			"k.yaml:6: streams[0].recording: is not available in this version yet; remove it",
			"k.yaml:6: streams[0].ladder: is not available in this version yet; remove it",
		}},
	{"later release by environment", "", []string{"KLIVE_WEBRTC_ICE_LISTEN=x", "KLIVE_PUSH_LISTEN=x"},
		[]string{
			"KLIVE_PUSH_LISTEN: is not available in this version yet; remove it",
			"KLIVE_WEBRTC_ICE_LISTEN: is not available in this version yet; remove it",
		}},
	{"environment", "", []string{"KLIVE_RTMP_LISTN=x", "KLIVE_LOGLEVEL=info", "KLIVE_HLS_WINDOW=30", "KLIVE_STREAMS=[{id: a}]", "KLIVE_AUTH_TOKENS=["},
		[]string{
			"KLIVE_AUTH_TOKENS: is not valid YAML: sequence end token ']' not found",
			"KLIVE_HLS_WINDOW: hls.window: must be a duration with a unit, such as 30s or 30ms, not \"30\"",
			"KLIVE_LOGLEVEL: unknown variable; did you mean KLIVE_LOG_LEVEL?",
			"KLIVE_RTMP_LISTN: unknown variable; did you mean KLIVE_RTMP_LISTEN?",
			"KLIVE_STREAMS: streams[0].token: is missing; set a long random token",
		}},
	{"control without authentication", "control:\n  http_listen: \":8081\"\n", []string{"KLIVE_CONTROL_GRPC_LISTEN=0.0.0.0:9090"},
		[]string{
			"KLIVE_CONTROL_GRPC_LISTEN: control.grpc_listen: \"0.0.0.0:9090\" can be reached from other machines and no authentication is configured; set auth.tokens (or control.tls with client_ca), or listen on 127.0.0.1",
			"k.yaml:2: control.http_listen: \":8081\" can be reached from other machines and no authentication is configured; set auth.tokens (or control.tls with client_ca), or listen on 127.0.0.1",
		}},
	{"certificates", "media_http: { tls: { cert: a.pem } }\ncontrol:\n  tls:\n    key: b.key\n    client_ca: ca.pem\n", nil,
		[]string{
			"k.yaml:1: media_http.tls.cert: has no key; set media_http.tls.key to the certificate's private key",
			"k.yaml:4: control.tls.key: has no certificate; set control.tls.cert",
			"k.yaml:5: control.tls.client_ca: needs a server certificate; set control.tls.cert and control.tls.key",
		}},
	{"passphrases of streams", "streams:\n  - { id: a, token: x, srt_passphrase: ninechars }\n  - { id: \"b*\", token: x, srt_passphrase: \"tab\\tulator tabulator\" }\n  - { id: c, token: x, srt_passphrase: \"********\" }\n", nil,
		[]string{
			"k.yaml:2: streams[0].srt_passphrase: must have 10 to 79 bytes, or be empty for none",
			"k.yaml:3: streams[1].srt_passphrase: may hold only printable characters",
			"k.yaml:4: streams[2].srt_passphrase: is the mask that a printed configuration shows, not a passphrase; set the passphrase itself",
		}},
	{"srt", "srt: { listen: here, latency: 1ms, passphrase: short }\n", nil,
		[]string{
			"k.yaml:1: srt.latency: must be between 20ms and 1m, not 1ms",
			"k.yaml:1: srt.listen: must be an address with a port, such as \":8080\" or \"127.0.0.1:8080\", not \"here\"",
			"k.yaml:1: srt.passphrase: must have 10 to 79 bytes, or be empty for none",
		}},
	{"addresses", "rtmp: { listen: \":8080\" }\ncontrol: { grpc_listen: \"localhost:70000\", http_listen: \"\" }\ndata_dir: \"\"\n", nil,
		[]string{
			"k.yaml:3: data_dir: is empty; name a directory, such as ./data",
			"media_http.listen: is the same address as rtmp.listen; give each listener its own",
			"k.yaml:2: control.grpc_listen: must be an address with a port, such as \":8080\" or \"127.0.0.1:8080\", not \"localhost:70000\"",
			"k.yaml:2: control.http_listen: must be an address with a port, such as \":8080\" or \"127.0.0.1:8080\", not \"\"",
		}},
	{"stream ids", "streams:\n- { id: a b, token: x }\n- { id: lobby_1, token: x }\n- { id: \"e*t\", token: x }\n- { id: \"-*\", token: x }\n- { token: x }\n- { id: a, token: x }\n- { id: a, token: x }\n-\n", nil,
		[]string{
			"k.yaml:9: streams[7]: is empty; fill it in or remove it",
			"k.yaml:2: streams[0].id: stream id \"a b\" must begin with a letter or digit and hold only letters, digits, _ and -, at most 63",
			"k.yaml:3: streams[1].id: stream id \"lobby_1\" ends in _ and 1 to 4 digits, which is how a stream name gives its ingest index; choose another ending",
			"k.yaml:4: streams[2].id: template \"e*t\" must be letters, digits, _ and -, with one * at the end",
			"k.yaml:5: streams[3].id: template \"-*\" must be letters, digits, _ and -, with one * at the end",
			"k.yaml:6: streams[4].id: is missing; set one, such as lobby",
			"k.yaml:8: streams[6].id: stream \"a\" is declared twice; keep one",
		}},
	{"tokens", "auth:\n  tokens:\n  - { name: ops, token: two words, role: admin }\n  - { name: ops, token: same, role: root }\n  - { name: \"\", token: same }\n  - { name: x, role: viewer }\n", nil,
		[]string{
			"k.yaml:4: auth.tokens[1].role: must be admin or viewer, not \"root\"",
			"k.yaml:5: auth.tokens[2].role: must be admin or viewer, not \"\"",
			"k.yaml:3: auth.tokens[0].token: may hold only visible ASCII characters without spaces (it travels in an HTTP header)",
			"k.yaml:4: auth.tokens[1].name: \"ops\" names two tokens; give each its own name",
			"k.yaml:5: auth.tokens[2].name: must begin with a letter or digit and hold only letters, digits, . _ @ and -, at most 63",
			"k.yaml:5: auth.tokens[2].token: is the same as another token's; give each caller its own",
			"k.yaml:6: auth.tokens[3].token: is missing; set a long random token",
		}},
	{"forgotten key of a token", "auth: { tokens: [ { name: ops, hunter2, role: admin } ] }\n", nil,
		[]string{"k.yaml:1: auth.tokens[0]: an entry has no value; the keys here are name, token, role"}},
	{"durations that bound each other", "hls: { segment_duration: 12s, part_duration: 1s }\nlimits: { idle_timeout: 1s }\n", nil,
		[]string{
			"hls.window: must be at least 3 times hls.segment_duration (36s), not 30s",
			"k.yaml:2: limits.idle_timeout: must not be shorter than limits.takeover_after (3s), not 1s",
		}},
	{"part longer than half a segment", "hls: { segment_duration: 1s, part_duration: 600ms }\n", nil,
		[]string{"k.yaml:1: hls.part_duration: must be at most half of hls.segment_duration (1s), not 600ms"}},
	{"origins", "media_http:\n  cors_origins:\n  - https://a.example/path\n  - \"*\"\n  - ftp://x\n", nil,
		[]string{
			"k.yaml:3: media_http.cors_origins[0]: must be * or an origin such as https://www.example.com, without a path, not \"https://a.example/path\"",
			"k.yaml:3: media_http.cors_origins: * allows every origin; remove the others or the *",
			"k.yaml:5: media_http.cors_origins[2]: must be * or an origin such as https://www.example.com, without a path, not \"ftp://x\"",
		}},
}

func TestWrongConfigurations(t *testing.T) {
	for _, c := range slices.Concat(wrong, wrongKaltura) {
		t.Run(c.name, func(t *testing.T) {
			_, err := build("k.yaml", []byte(c.file), c.env)
			problems, ok := errors.AsType[Problems](err)
			require.True(t, ok, "%v", err)
			var got []string
			for _, p := range problems {
				got = append(got, p.Error())
			}
			require.Equal(t, c.want, got)
			require.Equal(t, strings.Join(c.want, "\n"), err.Error())
		})
	}
}

func TestSecretsAreNotInErrors(t *testing.T) {
	const secret = "hunter2"
	for _, file := range []string{
		"auth: { tokens: [ { name: ops, token: \"hunter2 with spaces\", role: x } ] }",
		"auth: { tokens: [ { name: ops, hunter2, role: admin } ] }",
		"auth: { tokens: [ { name: ops, token: [hunter2], role: admin } ] }",
		"auth: { tokens: [ { name: ops, token: { hunter2: 1 }, role: admin } ] }",
		"auth: { tokens: [ { name: a, token: hunter2, role: admin }, { name: b, token: hunter2, role: admin } ] }",
		"streams:\n- { id: a_1, token: \"hunter2\\n\" }",
		"streams:\n- { id: a, token: \"hunter2 }",
		"streams:\n- id: a\n  token: hunter2\n bad",
		"streams:\n- id: a\n  token: &x hunter2",
		"streams:\n- id: a\n  token: !!int hunter2",
		"streams:\n- id: a\n  token: hunter2: x",
		"streams:\n- id: a\n  token: @hunter2",
		"streams:\n- { id: a, token: hunter2" + strings.Repeat("x", maxToken) + " }",
	} {
		for _, source := range []string{"file", "environment"} {
			var err error
			if source == "file" {
				_, err = build("k.yaml", []byte(file), nil)
			} else {
				section, value, _ := strings.Cut(file, ":")
				name := "KLIVE_STREAMS"
				if section == "auth" {
					name = "KLIVE_AUTH_TOKENS"
					value = strings.TrimSuffix(strings.TrimPrefix(value, " { tokens: "), " }")
				}
				_, err = build("", nil, []string{name + "=" + value})
			}
			require.Error(t, err, file)
			require.NotContains(t, err.Error(), secret, file)
		}
	}
}

func TestControlAccess(t *testing.T) {
	token := []Token{{Name: "ops", Token: "x", Role: RoleAdmin}}
	tls := ControlTLS{Cert: "a", Key: "b"}
	mutual := ControlTLS{Cert: "a", Key: "b", ClientCA: "c"}
	for _, c := range []struct {
		address string
		tokens  []Token
		tls     ControlTLS
		ok      bool
	}{
		{"127.0.0.1:1", nil, ControlTLS{}, true},
		{"127.8.8.8:1", nil, ControlTLS{}, true},
		{"[::1]:1", nil, ControlTLS{}, true},
		{"[::ffff:127.0.0.1]:1", nil, ControlTLS{}, true},
		{"localhost:1", nil, ControlTLS{}, true},
		{":1", nil, ControlTLS{}, false},
		{"0.0.0.0:1", nil, ControlTLS{}, false},
		{"[::]:1", nil, ControlTLS{}, false},
		{"10.0.0.1:1", nil, ControlTLS{}, false},
		{"example.com:1", nil, ControlTLS{}, false},
		{"localhost.example.com:1", nil, ControlTLS{}, false},
		{":1", nil, tls, false},
		{":1", token, ControlTLS{}, true},
		{":1", nil, mutual, true},
	} {
		config := Default()
		config.Control.HTTPListen, config.Auth.Tokens, config.Control.TLS = c.address, c.tokens, c.tls
		require.Equal(t, c.ok, config.Validate() == nil, "%+v: %v", c, config.Validate())
		require.Equal(t, c.tokens != nil || c.tls.ClientCA != "", config.Authenticated())
	}
}

func TestStreamIDs(t *testing.T) {
	for _, id := range []string{"a", "lobby", "0_rkij47dr", "lobby_12345", "a_b", "x_", strings.Repeat("a", 63)} {
		require.NoError(t, ValidateStreamID(id), id)
	}
	for _, id := range []string{"", "_a", "-a", "a b", "a.b", "ä", "a_1", "a_1234", "event-*", "a\n", strings.Repeat("a", 64)} {
		require.Error(t, ValidateStreamID(id), id)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "1": 1, "1B": 1, "512KiB": 512 << 10, "8MiB": 8 << 20, "8 MiB": 8 << 20, "1GiB": 1 << 30, "2TiB": 2 << 40} {
		got, err := parseSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		again, err := parseSize(got.String())
		require.NoError(t, err)
		require.Equal(t, got, again)
	}
	for _, text := range []string{"", "-1", "MiB", "1.5MiB", "8MB", "8mib", "99999999TiB", "9223372036854775808"} {
		_, err := parseSize(text)
		require.Error(t, err, text)
	}
}

func TestDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 250 * time.Millisecond: "250ms", 4 * time.Second: "4s", time.Minute: "1m", 90 * time.Second: "1m30s",
		time.Hour: "1h", time.Hour + time.Minute: "1h1m", time.Hour + time.Second: "1h0m1s",
	} {
		require.Equal(t, want, formatDuration(d))
		got, err := parseDuration(want)
		require.NoError(t, err)
		require.Equal(t, d, got)
	}
}

func FuzzLoad(f *testing.F) {
	for _, c := range slices.Concat(wrong, wrongKaltura) {
		f.Add([]byte(c.file), strings.Join(c.env, "\x00"))
	}
	f.Add(sampleFile(), "KLIVE_STREAMS=[{id: a, token: b}]")
	f.Fuzz(func(t *testing.T, file []byte, env string) {
		l, err := build("k.yaml", file, strings.Split(env, "\x00"))
		if err != nil {
			problems, ok := errors.AsType[Problems](err)
			if !ok || len(problems) == 0 {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		// What was accepted is valid, and printing it gives the same configuration again.
		if err := l.Validate(); err != nil {
			t.Fatalf("accepted and not valid: %v", err)
		}
		var b strings.Builder
		if err := l.Print(&b); err != nil {
			t.Fatal(err)
		}
		if len(l.Auth.Tokens) > 0 || len(l.Streams) > 0 || l.Kaltura.AdminSecret != "" || len(b.String()) > maxFile {
			return // the secrets are masked; other tests look at these
		}
		again, err := build("printed.yaml", []byte(b.String()), nil)
		if err != nil {
			t.Fatalf("printed and not accepted: %v\n%s", err, b.String())
		}
		var b2 strings.Builder
		if err := again.Print(&b2); err != nil || b2.String() != b.String() {
			t.Fatalf("printed again differs: %v\n%s\n%s", err, b.String(), b2.String())
		}
	})
}

// A file that is no configuration must be refused before it costs memory: the parser's needs grow with
// the square of the depth.
func TestDeepNestingIsRefused(t *testing.T) {
	for _, file := range []string{
		strings.Repeat("[", maxFile),
		"a: " + strings.Repeat("[", maxFile/2-2) + strings.Repeat("]", maxFile/2-2),
		strings.Repeat("{a: ", maxFile/4),
		strings.Repeat("- ", maxFile/2),
	} {
		_, err := build("k.yaml", []byte(file), nil)
		require.EqualError(t, err, "k.yaml: is nested deeper than any configuration; is it the right file?")
	}
	_, err := build("k.yaml", []byte("streams:\n"+strings.Repeat("- {id: \"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\", token: x}\n", 40)), nil)
	require.NotContains(t, err.Error(), "nested", "brackets in texts and entries below each other are no nesting")
}

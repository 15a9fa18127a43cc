package config

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// backend is the least that a mode needs.
const backend = "url: https://www.example.com, admin_secret: hunter2"

// wrongKaltura is the part of the table wrong that is about the bridge.
var wrongKaltura = []mistake{
	{"backend missing", "kaltura:\n  mode: saas\n", nil,
		[]string{
			"kaltura.url: is missing; set the address of the backend, such as https://www.example.com",
			"kaltura.admin_secret: is missing; set the admin secret of partner -5 (KLIVE_KALTURA_ADMIN_SECRET keeps it out of the file)",
		}},
	{"no such mode", "kaltura: { mode: cloud }\n", nil,
		[]string{"k.yaml:1: kaltura.mode: must be off, saas or ecdn, not \"cloud\""}},
	{"streams beside a backend", "kaltura: { mode: saas, " + backend + " }\nstreams:\n- { id: a, token: x }\n", nil,
		[]string{"k.yaml:3: streams: cannot stand beside kaltura.mode: saas: the backend says which entries exist and who may publish; remove the streams, or set kaltura.mode: off"}},
	{"ecdn as the media servers' partner", "kaltura: { mode: ecdn, " + backend + " }\n", nil,
		[]string{"kaltura.partner_id: must be your own partner number in ecdn mode, not -5; -5 is for media servers of the whole backend (saas)"}},
	{"a partner of the backend itself", "kaltura: { mode: saas, partner_id: -2, " + backend + " }\n", nil,
		[]string{"k.yaml:1: kaltura.partner_id: must be -5, or the number of a partner, not -2"}},
	{"paths in ecdn", "kaltura: { mode: ecdn, partner_id: 102, delivery: shared_disk, " + backend + " }\n", nil,
		[]string{"k.yaml:1: kaltura.delivery: cannot be shared_disk for partner 102: the backend takes files by path only from partner -5; set upload or auto"}},
	{"shared directory with uploads", "kaltura: { mode: ecdn, partner_id: 102, shared_directory: /mnt/x, " + backend + " }\n", nil,
		[]string{"k.yaml:1: kaltura.shared_directory: is only for delivery over a shared disk, and recordings are uploaded here; remove it, or set kaltura.delivery: shared_disk"}},
	{"relative and missing directories", "kaltura: { mode: saas, backend_directory: x, " + backend + " }\n", nil,
		[]string{
			"k.yaml:1: kaltura.backend_directory: must be an absolute path, such as /mnt/kaltura/live, because the backend is told it, not \"x\"",
			"k.yaml:1: kaltura.backend_directory: has no kaltura.shared_directory; set the folder that the backend sees under this path",
		}},
	{"names", "kaltura: { mode: saas, hostname: \"live1:1935\", application: \"k live\", " + backend + " }\n", nil,
		[]string{
			"k.yaml:1: kaltura.hostname: must be a host name such as live1.example.com, without a port, not \"live1:1935\"",
			"k.yaml:1: kaltura.application: must be 1 to 64 letters, digits, _ and -, such as kLive, not \"k live\"",
		}},
	{"backend address", "kaltura: { mode: saas, url: www.example.com, admin_secret: x }\n", nil,
		[]string{"k.yaml:1: kaltura.url: must be an address such as https://www.example.com, not \"www.example.com\""}},
	{"secret in the backend address", "kaltura: { mode: saas, url: \"https://me:hunter2@www.example.com\", admin_secret: x }\n", nil,
		[]string{"k.yaml:1: kaltura.url: holds a user name; remove it: the backend is called with sessions made of kaltura.admin_secret"}},
	{"masked secret", "kaltura: { admin_secret: \"********\" }\n", nil,
		[]string{"k.yaml:1: kaltura.admin_secret: is the mask that a printed configuration shows, not a secret; set the secret itself"}},
	{"bounds", "kaltura: { session_version: 3, timeout: 10m, upload_chunk: 1B }\nrecording: { segment_duration: 5s }\n", nil,
		[]string{
			"k.yaml:1: kaltura.session_version: must be between 1 and 2, not 3",
			"k.yaml:1: kaltura.timeout: must be between 1s and 5m, not 10m",
			"k.yaml:1: kaltura.upload_chunk: must be between 64KiB and 1GiB, not 1B",
			"k.yaml:2: recording.segment_duration: must be between 10s and 2h, not 5s",
		}},
}

func TestKalturaModes(t *testing.T) {
	for _, c := range []struct {
		section string
		shared  bool
	}{
		{"{ mode: off }", false},
		{"{ mode: \"off\", url: nonsense, partner_id: -3, hostname: \"a b\", delivery: shared_disk, shared_directory: x }", true},
		{"{ mode: saas, " + backend + " }", true},
		{"{ mode: saas, partner_id: 102, " + backend + " }", false},
		{"{ mode: saas, delivery: upload, " + backend + " }", false},
		{"{ mode: saas, shared_directory: /mnt/a, backend_directory: /web/a, " + backend + " }", true},
		{"{ mode: ecdn, partner_id: 102, " + backend + " }", false},
		{"{ mode: saas, url: \"http://10.0.0.1:8088/api_v3/\", admin_secret: \"two,secrets\", hostname: ms1 }", true},
	} {
		l, err := build("k.yaml", []byte("kaltura: "+c.section), nil)
		require.NoError(t, err, c.section)
		require.Equal(t, c.shared, l.Kaltura.SharedDisk(), c.section)
		require.Equal(t, !strings.Contains(c.section, "off"), l.Kaltura.Enabled(), c.section)
		require.Equal(t, l.Kaltura.Enabled(), l.Authenticated(), c.section)
		require.Empty(t, l.Warnings)
	}
	byEnv, err := build("", nil, []string{"KLIVE_KALTURA_MODE=ecdn", "KLIVE_KALTURA_PARTNER_ID=102", "KLIVE_KALTURA_URL=https://a.example",
		"KLIVE_KALTURA_ADMIN_SECRET=hunter2", "KLIVE_CONTROL_HTTP_LISTEN=:8081"})
	require.NoError(t, err, "an admin KS is a credential, so control may be opened")
	require.Equal(t, KalturaECDN, byEnv.Kaltura.Mode)
	require.Equal(t, 102, byEnv.Kaltura.PartnerID)
}

// The line the documentation of the configuration began with, but for the keys that come with SRT.
func TestKalturaLineOfTheInterface(t *testing.T) {
	l, err := build("k.yaml", []byte(`kaltura: { mode: "off", url: "", partner_id: -5, admin_secret: "", hostname: "", application: kLive, reconnect_window: 180s }
recording: { segment_duration: 15m }
`), nil)
	require.NoError(t, err)
	require.Equal(t, Default(), l.Config)
	require.Equal(t, 3*time.Minute, l.Kaltura.ReconnectWindow)
}

func TestKalturaSecretIsMasked(t *testing.T) {
	l, err := build("k.yaml", []byte("kaltura: { mode: saas, "+backend+" }"), nil)
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, l.Print(&b))
	require.Contains(t, b.String(), "  admin_secret: \"********\"\n")
	require.NotContains(t, b.String()+fmt.Sprintf("%v %+v %#v", l, l.Kaltura, l.Kaltura), "hunter2")
	for _, section := range []string{
		"{ mode: saas, url: x, admin_secret: hunter2 }",
		"{ mode: ecdn, url: x, admin_secret: \"hunter2\\n\" }",
		"{ mode: ecdn, admin_secret: hunter2" + strings.Repeat("x", maxToken) + " }",
		"{ mode: saas, admin_secret: [hunter2] }",
		"{ mode: saas, hunter2 }",
		"{ mode: saas, url: \"http://x:hunter2@h\" }",
		"{ mode: saas, url: \"http://x:hunter2@h h\" }",
	} {
		_, err := build("k.yaml", []byte("kaltura: "+section), nil)
		require.Error(t, err, section)
		require.NotContains(t, err.Error(), "hunter2", section)
	}
}

func TestSecretInTheClearIsWarnedOf(t *testing.T) {
	l, err := build("k.yaml", []byte("kaltura: { mode: saas, url: \"http://10.0.0.1\", session: start, admin_secret: hunter2 }"), nil)
	require.NoError(t, err)
	require.Equal(t, []string{"kaltura.session: start sends the admin secret to the backend in the clear, because kaltura.url is not https"}, l.Warnings)
}

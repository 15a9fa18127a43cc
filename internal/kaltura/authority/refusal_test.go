package authority_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
)

// codes are what the backend may answer, and what the publisher is told.
var codes = map[string]struct {
	want fault.Reason
	says string
}{
	"ENTRY_ID_NOT_FOUND":                               {fault.StreamNotFound, "no live entry 0_rkij47dr of partner 102"},
	"INVALID_ENTRY_TYPE":                               {fault.StreamNotFound, "is no live entry"},
	"LIVE_STREAM_INVALID_TOKEN":                        {fault.BadToken, "copy the address"},
	"INVALID_PARAMETER_CHAR":                           {fault.BadToken, "characters"},
	"LIVE_STREAM_EXCEEDED_MAX_PASSTHRU":                {fault.QuotaExceeded, "stop another one"},
	"LIVE_STREAM_EXCEEDED_MAX_TRANSCODED":              {fault.QuotaExceeded, "transcoded"},
	"LIVE_STREAM_EXCEEDED_MAX_CONCURRENT_BY_ADMIN_TAG": {fault.QuotaExceeded, "admin tag"},
	"LIVE_STREAM_EXCEEDED_MAX_RTC_STREAMS":             {fault.QuotaExceeded, "WebRTC"},
	"LIVE_STREAM_EXCEEDED_MAX_OF_SOMETHING_NEW":        {fault.QuotaExceeded, "stop another one"},
	"LIVE_STREAM_ALREADY_BROADCASTING":                 {fault.OnAirElsewhere, "another environment"},
	"MEDIA_SERVER_NOT_FOUND":                           {fault.NodeNotRegistered, host},
	"SERVER_NODE_NOT_FOUND":                            {fault.NodeNotRegistered, "kaltura.hostname"},
	"SERVICE_FORBIDDEN_CONTENT_BLOCKED":                {fault.PartnerBlocked, "unblocked"},
	"SERVICE_FORBIDDEN":                                {fault.BackendRefused, "live streaming feature"},
	"SERVICE_ACCESS_CONTROL_RESTRICTED":                {fault.BackendRefused, "access control"},
	"ACCESS_UNAUTHORIZED":                              {fault.BackendRefused, "internal_partner_access_allowed_ips"},
	"INVALID_KS":                                       {fault.BackendRefused, "kaltura.admin_secret"},
	"MISSING_KS":                                       {fault.BackendRefused, "kaltura.url"},
	"START_SESSION_ERROR":                              {fault.BackendRefused, "kaltura.partner_id"},
	"SERVICE_DOES_NOT_EXISTS":                          {fault.BackendRefused, "kaltura.url"},
	"ACTION_DOES_NOT_EXISTS":                           {fault.BackendRefused, "kaltura.url"},
	"SERVICE_NOT_SPECIFIED":                            {fault.BackendRefused, "kaltura.url"},
	"ACTION_BLOCKED":                                   {fault.BackendUnavailable, "again"},
	"INTERNAL_SERVERL_ERROR":                           {fault.BackendUnavailable, "again"},
	"INTERNAL_DATABASE_ERROR":                          {fault.BackendUnavailable, "again"},
	"LOCK_TIMED_OUT":                                   {fault.BackendUnavailable, "again"},
	"MISSING_MANDATORY_PARAMETER":                      {fault.BackendRefused, "MISSING_MANDATORY_PARAMETER"},
	"PROPERTY_VALIDATION_CANNOT_BE_NULL":               {fault.BackendRefused, "PROPERTY_VALIDATION_CANNOT_BE_NULL"},
	"SOMETHING_NEW":                                    {fault.BackendRefused, "with the code SOMETHING_NEW"},
}

func TestEveryCodeIsASentence(t *testing.T) {
	for code, c := range codes {
		t.Run(code, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, newBackend(t, nil), nil)
				b.inject(t, kalturatest.Fault{Kind: kalturatest.Code, Action: "authenticate", Code: code})
				_, err := b.try(t, request(nil))
				require.Equal(t, c.want, fault.ReasonOf(err), "%v", err)
				f := fault.From(err)
				require.Contains(t, f.Message, c.says)
				require.Equal(t, code, f.Metadata["code"])
				require.NotContains(t, f.Message, "{")
				require.Equal(t, strings.ToLower(f.Message[:1]), f.Message[:1])
				_, ok := b.book.Get(primary)
				require.False(t, ok)
				again, err := b.try(t, request(nil))
				require.Equal(t, f.Message, fault.From(err).Message, "the same from memory")
				require.Empty(t, again)
			})
		})
	}
}

func TestRealRefusalsOverHTTP(t *testing.T) {
	for name, c := range map[string]struct {
		backend func(*kalturatest.Options)
		request func(*ingest.Request)
		want    fault.Reason
	}{
		"unknown entry":             {request: func(r *ingest.Request) { r.Stream = "0_nosuch00" }, want: fault.StreamNotFound},
		"unknown entry, no partner": {request: func(r *ingest.Request) { r.Stream, r.Partner = "0_nosuch00", 0 }, want: fault.StreamNotFound},
		"wrong token":               {request: func(r *ingest.Request) { r.Token = "wrong" }, want: fault.BadToken},
		"blocked partner":           {backend: func(o *kalturatest.Options) { o.Partners[1].Blocked = true }, want: fault.PartnerBlocked},
		"no live feature":           {backend: func(o *kalturatest.Options) { o.Partners[1].Features = nil }, want: fault.BackendRefused},
		"node unknown":              {backend: func(o *kalturatest.Options) { o.Nodes = nil }, want: fault.NodeNotRegistered},
		"node disabled":             {backend: func(o *kalturatest.Options) { o.Nodes[0].Status = kalturatest.NodeDisabled }, want: fault.NodeNotRegistered},
		"quota": {backend: func(o *kalturatest.Options) {
			o.Entries[0].Profile = kalturatest.ProfileTranscode
			o.Partners[1].Features = features[:1]
		}, want: fault.QuotaExceeded},
		"wrong secret": {backend: func(o *kalturatest.Options) { o.Partners[0].Secret = "another" }, want: fault.BackendRefused},
		"let in":       {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := newBackend(t, c.backend)
			server := httptest.NewServer(backend)
			defer server.Close()
			b := newBench(t, backend, nil)
			b.client.URL, b.client.Transport = server.URL, &http.Transport{DisableKeepAlives: true}
			b.start(t)
			_, err := b.try(t, request(c.request))
			require.Equal(t, c.want, fault.ReasonOf(err), "%v", err)
			if err != nil {
				require.NotContains(t, err.Error(), token)
				require.NotContains(t, err.Error(), string(secret))
			}
		})
	}
}

// odd answers every call with one body.
type odd string

func (o odd) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(o))
}

func tryOdd(t *testing.T, body, token string) error {
	t.Helper()
	b := newBench(t, newBackend(t, nil), nil)
	b.client.Transport = direct{odd(body)}
	b.start(t)
	_, err := b.try(t, withToken(token))
	return err
}

func TestAnswersThatAreNoEntry(t *testing.T) {
	for _, body := range []string{`null`, `{}`, `{"id":"0_other000","partnerId":102}`, `true`} {
		require.Equal(t, fault.BackendUnavailable, fault.ReasonOf(tryOdd(t, body, token)), body)
	}
	// What it says of itself is passed on without the token, short, in one line.
	err := tryOdd(t, `{"objectType":"KalturaAPIException","code":"ODD CODE; DROP","message":"bad `+token+`\n`+strings.Repeat("long ", 100)+`","args":[]}`, token)
	f := fault.From(err)
	require.Equal(t, "ODDCODEDROP", f.Metadata["code"])
	require.Contains(t, f.Message, "(it says: bad [token] long long")
	require.NotContains(t, err.Error(), token)
	require.NotContains(t, f.Message, "\n")
	require.Less(t, len(f.Message), 400)
}

// FuzzRefusal: whatever the backend answers, the publisher gets one line of
// text without the token.
func FuzzRefusal(f *testing.F) {
	for code := range codes {
		f.Add(code, "Invalid token supplied for live entry [0_rkij47dr]")
	}
	f.Add("", "")
	f.Add("\x00", "dj94kfit%20\r\n{entry}")
	f.Fuzz(func(t *testing.T, code, message string) {
		synctest.Test(t, func(t *testing.T) { // some codes are asked for again after a pause
			err := tryOdd(t, fmt.Sprintf(`{"objectType":"KalturaAPIException","code":%s,"message":%s,"args":{}}`, quoted(code), quoted(message)), token)
			got := fault.From(err)
			require.NotEqual(t, fault.InternalError, got.Reason)
			require.NotEmpty(t, fault.ReasonOf(err))
			require.NotEmpty(t, got.Message)
			require.True(t, utf8.ValidString(got.Message))
			require.NotContains(t, got.Message, token)
			require.False(t, strings.ContainsAny(got.Message, "\r\n\x00"))
			require.LessOrEqual(t, len(got.Message), 1000)
			require.LessOrEqual(t, len(got.Metadata["code"]), 64)
		})
	})
}

// quoted is a JSON text of any bytes.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		if c < ' ' || c == '"' || c == '\\' || c > 0xffff {
			c &= 0xffff
			fmt.Fprintf(&b, `\u%04x`, c)
			continue
		}
		b.WriteRune(c)
	}
	b.WriteByte('"')
	return b.String()
}

package ingest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
)

// addressCase is one address and what becomes of it: a Request written as
// "stream index server partner token host", or a reason and a part of the
// sentence the user sees.
type addressCase struct {
	about string
	RTMPAddress
	want     string
	reason   fault.Reason
	sentence string
}

var catalogCases = []addressCase{
	{about: "query in app", RTMPAddress: RTMPAddress{"kLive?t=s3cret", "rtmp://h:1935/kLive?t=s3cret", "lobby_1"},
		want: "lobby 1 0 0 s3cret h"},
	{about: "OBS: slash before the query", RTMPAddress: RTMPAddress{"kLive/?t=s3cret", "rtmp://h/kLive/?t=s3cret", "lobby_1"},
		want: "lobby 1 0 0 s3cret h"},
	{about: "query behind the name", RTMPAddress: RTMPAddress{"kLive", "rtmp://h/kLive", "lobby_1?t=s3cret"},
		want: "lobby 1 0 0 s3cret h"},
	{about: "query behind the name, slash", RTMPAddress: RTMPAddress{"kLive", "rtmp://h/kLive", "lobby_1/?t=s3cret"},
		want: "lobby 1 0 0 s3cret h"},
	{about: "query only in tcUrl", RTMPAddress: RTMPAddress{"kLive", "rtmp://h/kLive?t=s3cret", "lobby_1"},
		want: "lobby 1 0 0 s3cret h"},
	{about: "query only in tcUrl, slash", RTMPAddress: RTMPAddress{"kLive/", "rtmp://h/kLive/?t=s3cret", "lobby_1"},
		want: "lobby 1 0 0 s3cret h"},
	{about: "ffmpeg splits before the query", RTMPAddress: RTMPAddress{"kLive/lobby_1", "rtmp://h/kLive/lobby_1", "?t=s3cret"},
		want: "lobby 1 0 0 s3cret h"},
	{about: "everything given", RTMPAddress: RTMPAddress{"kLive/?p=102&e=lobby&i=1&t=s3cret", "rtmp://h/kLive", "lobby_2"},
		want: "lobby 2 1 102 s3cret h"},
	{about: "arguments on both sides", RTMPAddress: RTMPAddress{"kLive?i=1&t=s3cret", "", "lobby_1?t=s3cret&p=7"},
		want: "lobby 1 1 7 s3cret "},
	{about: "app wins over tcUrl", RTMPAddress: RTMPAddress{"kLive?t=s3cret", "rtmp://h/kLive?t=s3", "lobby_1"},
		want: "lobby 1 0 0 s3cret h"},
	{about: "url-decoded", RTMPAddress: RTMPAddress{"kLive?t=a%2Fb%26c%3D%25", "rtmp://h/kLive", "lobby_1"},
		want: "lobby 1 0 0 a/b&c=% h"},
	{about: "plus and equals signs stay", RTMPAddress: RTMPAddress{"kLive?t=a+b==", "rtmp://h/kLive", "lobby_1"},
		want: "lobby 1 0 0 a+b== h"},
	{about: "unknown arguments pass", RTMPAddress: RTMPAddress{"kLive?x=1&&t=s3cret&y", "rtmp://h/kLive", "lobby_1"},
		want: "lobby 1 0 0 s3cret h"},
	{about: "blanks of a copied key", RTMPAddress: RTMPAddress{"kLive", "rtmp://h/kLive", " lobby_1?t=s3cret "},
		want: "lobby 1 0 0 s3cret h"},
	{about: "audio language", RTMPAddress: RTMPAddress{"kLive?t=s3cret", "rtmp://h/kLive", "lobby_1001"},
		want: "lobby 1001 0 0 s3cret h"},
	{about: "id with an underscore", RTMPAddress: RTMPAddress{"kLive?t=s3cret", "rtmp://h/kLive", "big_hall-3_1"},
		want: "big_hall-3 1 0 0 s3cret h"},
	{about: "Kaltura's address in the catalog", RTMPAddress: RTMPAddress{"kLive?t=s3cret", "rtmp://0_rkij47dr.b.eu.kpublish.kaltura.com/kLive", "0_rkij47dr_1"},
		want: "0_rkij47dr 1 1 0 s3cret 0_rkij47dr.b.eu.kpublish.kaltura.com"},
	{about: "IPv6 and user", RTMPAddress: RTMPAddress{"kLive?t=s3cret", "rtmps://u:p@[::1]:1936/kLive", "lobby_1"},
		want: "lobby 1 0 0 s3cret ::1"},

	{about: "no token", RTMPAddress: RTMPAddress{"kLive", "rtmp://h/kLive", "lobby_1"},
		reason: fault.MissingArgument, sentence: "the token (t) is missing in the address; use the server rtmp://HOST/kLive?t=TOKEN with the stream key lobby_1"},
	{about: "empty token", RTMPAddress: RTMPAddress{"kLive?t=", "rtmp://h/kLive", "lobby_1"},
		reason: fault.MissingArgument, sentence: "the token (t) is missing"},
	{about: "the token typed as the key is not repeated", RTMPAddress: RTMPAddress{"kLive", "rtmp://h/kLive", "s3cret"},
		reason: fault.MissingArgument, sentence: "with the stream key lobby_1"},
	{about: "name without index", RTMPAddress: RTMPAddress{"kLive?t=s3cret", "rtmp://h/kLive", "lobby"},
		reason: fault.BadStreamName, sentence: "use lobby_1"},
	{about: "name equal to the token is not repeated", RTMPAddress: RTMPAddress{"kLive?t=s3cret", "rtmp://h/kLive", "s3cret"},
		reason: fault.BadStreamName, sentence: "use lobby_1"},
	{about: "name with index 0", RTMPAddress: RTMPAddress{"kLive?t=s3cret&e=hall", "rtmp://h/kLive", "hall_0"},
		reason: fault.BadStreamName, sentence: "use hall_1"},
	{about: "no name", RTMPAddress: RTMPAddress{"kLive?t=s3cret&e=hall", "rtmp://h/kLive", ""},
		reason: fault.BadStreamName, sentence: "the stream name is missing; use hall_1"},
	{about: "name of another entry", RTMPAddress: RTMPAddress{"kLive?t=s3cret&e=hall", "rtmp://h/kLive", "lobby_2"},
		reason: fault.BadStreamName, sentence: `the stream name "lobby_2" does not fit the entry "hall" of the address; use hall_2`},
	{about: "name with a slash", RTMPAddress: RTMPAddress{"kLive?t=s3cret", "rtmp://h/kLive", "a/lobby_2"},
		reason: fault.BadStreamName, sentence: "use lobby_1"},
	{about: "entry that is none", RTMPAddress: RTMPAddress{"kLive?t=s3cret&e=.hall", "rtmp://h/kLive", "lobby_2"},
		reason: fault.BadAddress, sentence: `".hall" is not a stream id`},
	{about: "server index 2", RTMPAddress: RTMPAddress{"kLive?t=s3cret&i=2", "rtmp://h/kLive", "lobby_2"},
		reason: fault.BadAddress, sentence: "must be 0 for the primary or 1 for the backup"},
	{about: "partner that is no number", RTMPAddress: RTMPAddress{"kLive?t=s3cret&p=-5", "rtmp://h/kLive", "lobby_2"},
		reason: fault.BadAddress, sentence: "the partner (p) must be a number"},
	{about: "partner too large", RTMPAddress: RTMPAddress{"kLive?t=s3cret&p=4294967296", "rtmp://h/kLive", "lobby_2"},
		reason: fault.BadAddress, sentence: "the partner (p) must be a number"},
	{about: "two tokens", RTMPAddress: RTMPAddress{"kLive?t=s3cret", "rtmp://h/kLive", "lobby_1?t=s3cret2"},
		reason: fault.BadAddress, sentence: `the address gives "t" twice with different values`},
	{about: "two tokens in one query", RTMPAddress: RTMPAddress{"kLive?t=s3cret&t=s3cret2", "rtmp://h/kLive", "lobby_1"},
		reason: fault.BadAddress, sentence: `the address gives "t" twice with different values`},
	{about: "host and query disagree", RTMPAddress: RTMPAddress{"kLive?t=s3cret&i=1", "rtmp://0_rkij47dr.p.eu.kpublish.kaltura.com/kLive", "0_rkij47dr_1"},
		reason: fault.BadAddress, sentence: `the address gives "i" twice with different values`},
	{about: "broken escape", RTMPAddress: RTMPAddress{"kLive?t=s3cret%zz", "rtmp://h/kLive", "lobby_1"},
		reason: fault.BadAddress, sentence: "write % as %25"},
	{about: "escaped control character", RTMPAddress: RTMPAddress{"kLive?t=s3cret%00", "rtmp://h/kLive", "lobby_1"},
		reason: fault.BadAddress, sentence: "cannot be printed"},
	{about: "control character", RTMPAddress: RTMPAddress{"kLive", "rtmp://h/kLive", "lobby_1\n?t=s3cret"},
		reason: fault.BadAddress, sentence: "the stream name holds characters that cannot be printed"},
	{about: "not UTF-8", RTMPAddress: RTMPAddress{"kLive\xff", "rtmp://h/kLive", "lobby_1?t=s3cret"},
		reason: fault.BadAddress, sentence: "the application holds characters that cannot be printed"},
	{about: "long name", RTMPAddress: RTMPAddress{"kLive", "rtmp://h/kLive", strings.Repeat("s3cret", 400)},
		reason: fault.BadAddress, sentence: "the stream name is longer than 2048 bytes"},
	{about: "many arguments", RTMPAddress: RTMPAddress{"kLive?" + strings.Repeat("&", 40), "rtmp://h/kLive", "lobby_1"},
		reason: fault.BadAddress, sentence: "more than 32 arguments"},
	{about: "other application", RTMPAddress: RTMPAddress{"live?t=s3cret", "rtmp://h/live", "lobby_1"},
		reason: fault.UnknownApplication, sentence: `this server has no application "live"; use rtmp://HOST/kLive`},
	{about: "no application", RTMPAddress: RTMPAddress{"", "", ""},
		reason: fault.UnknownApplication, sentence: "use rtmp://HOST/kLive"},
	{about: "long application", RTMPAddress: RTMPAddress{strings.Repeat("é", 100), "", "lobby_1"},
		reason: fault.UnknownApplication, sentence: strings.Repeat("é", 32) + "…"},
}

var kalturaCases = []addressCase{
	{about: "query form", RTMPAddress: RTMPAddress{"kLive/?p=102&e=0_rkij47dr&i=0&t=s3cret", "rtmp://h/kLive", "0_rkij47dr_1"},
		want: "0_rkij47dr 1 0 102 s3cret h"},
	{about: "query form behind the name", RTMPAddress: RTMPAddress{"kLive", "rtmp://h/kLive", "0_rkij47dr_1?p=102&e=0_rkij47dr&i=1&t=s3cret"},
		want: "0_rkij47dr 1 1 102 s3cret h"},
	{about: "host form, primary", RTMPAddress: RTMPAddress{"kLive?t=s3cret", "rtmp://0_rkij47dr.p.eu.kpublish.kaltura.com:1935/kLive?t=s3cret", "0_rkij47dr_1"},
		want: "0_rkij47dr 1 0 0 s3cret 0_rkij47dr.p.eu.kpublish.kaltura.com"},
	{about: "host form, backup, with partner", RTMPAddress: RTMPAddress{"kLive?t=s3cret&p=102", "rtmp://0_rkij47dr.b.kpublish.example.com/kLive", "0_rkij47dr_3"},
		want: "0_rkij47dr 3 1 102 s3cret 0_rkij47dr.b.kpublish.example.com"},

	{about: "nothing: the entry first", RTMPAddress: RTMPAddress{"kLive", "rtmp://h/kLive", "0_rkij47dr_1"},
		reason: fault.MissingArgument, sentence: "the entry (e) is missing in the address; use the server rtmp://HOST/kLive/?p=PARTNER&e=ENTRY&i=0&t=TOKEN with the stream key 0_rkij47dr_1"},
	{about: "then the token", RTMPAddress: RTMPAddress{"kLive?e=0_rkij47dr", "rtmp://h/kLive", "0_rkij47dr_1"},
		reason: fault.MissingArgument, sentence: "the token (t) is missing"},
	{about: "then the partner", RTMPAddress: RTMPAddress{"kLive?e=0_rkij47dr&t=s3cret", "rtmp://h/kLive", "0_rkij47dr_1"},
		reason: fault.MissingArgument, sentence: "the partner (p) is missing"},
	{about: "then the server index", RTMPAddress: RTMPAddress{"kLive?e=0_rkij47dr&t=s3cret&p=1", "rtmp://h/kLive", "0_rkij47dr_1"},
		reason: fault.MissingArgument, sentence: "the server index (i) is missing"},
	{about: "host form without token", RTMPAddress: RTMPAddress{"kLive", "rtmp://0_rkij47dr.b.eu.kpublish.kaltura.com/kLive", "0_rkij47dr_1"},
		reason: fault.MissingArgument, sentence: "the token (t) is missing in the address; use the server rtmp://HOST/kLive?t=TOKEN with"},
	{about: "a catalog's id", RTMPAddress: RTMPAddress{"kLive?e=lobby&t=s3cret&p=1&i=0", "rtmp://h/kLive", "lobby_1"},
		reason: fault.BadAddress, sentence: `"lobby" is not a stream id`},
	{about: "name without index", RTMPAddress: RTMPAddress{"kLive?e=0_rkij4_11&t=s3cret&p=1&i=0", "rtmp://h/kLive", "0_rkij4_11"},
		reason: fault.BadStreamName, sentence: "use 0_rkij4_11_1"},
	{about: "host of another entry", RTMPAddress: RTMPAddress{"kLive?t=s3cret", "rtmp://0_rkij47ds.b.eu.kpublish.kaltura.com/kLive", "0_rkij47dr_1"},
		reason: fault.BadStreamName, sentence: "use 0_rkij47ds_1"},
}

func TestRTMPAddress(t *testing.T) {
	for mode, cases := range map[string][]addressCase{"catalog": catalogCases, "kaltura": kalturaCases} {
		g := CatalogGrammar("kLive")
		if mode == "kaltura" {
			g = KalturaGrammar("kLive")
		}
		for _, c := range cases {
			t.Run(mode+"/"+c.about, func(t *testing.T) {
				r, err := g.RTMP(c.RTMPAddress)
				if c.reason != "" {
					require.Equal(t, c.reason, fault.ReasonOf(err), "%v", err)
					require.Contains(t, err.Error(), c.sentence)
					require.NotContains(t, err.Error(), "s3cret")
					return
				}
				require.NoError(t, err)
				require.Equal(t, c.want, fmt.Sprint(r.Stream, " ", r.Index, " ", r.ServerIndex, " ", r.Partner, " ", r.Token, " ", r.Hostname))
				require.Equal(t, "rtmp", r.Protocol)
				require.Equal(t, "kLive", r.Application)
			})
		}
	}
}

// The backend hands out another application for entries with captions in their
// data messages.
func TestRTMPAddressOfCaptions(t *testing.T) {
	a := RTMPAddress{App: "kLiveOTD/?p=102&e=0_rkij47dr&i=0&t=s3cret", Name: "0_rkij47dr_1"}
	r, err := KalturaGrammar("kLive").RTMP(a)
	require.NoError(t, err)
	require.Equal(t, "kLiveOTD", r.Application)
	_, err = CatalogGrammar("kLive").RTMP(a)
	require.Equal(t, fault.UnknownApplication, fault.ReasonOf(err))
}

// asSent are the ways in which clients cut what the user pasted: OBS sends its
// two fields as they are, ffmpeg cuts the URL at the slash behind the
// application.
func asSent(p RTMPPaste) []RTMPAddress {
	_, path, _ := strings.Cut(p.URL, "://")
	_, path, _ = strings.Cut(path, "/")
	slash := strings.LastIndexByte(path, '/')
	return []RTMPAddress{
		{App: "kLive", TCURL: p.Server, Name: p.Key},
		{App: path[:slash], TCURL: strings.TrimSuffix(p.URL, path) + path[:slash], Name: path[slash+1:]},
	}
}

func TestPastedAddressIsReadBack(t *testing.T) {
	require.Equal(t, RTMPPaste{
		Server: "rtmp://studio.local/kLive", Key: "lobby_1?t=s3cret", URL: "rtmp://studio.local/kLive/lobby_1?t=s3cret",
	}, CatalogGrammar("kLive").RTMPPaste("rtmp", "studio.local", Request{Stream: "lobby", Index: 1, Token: "s3cret"}))
	require.Equal(t, "0_rkij47dr_2?p=102&e=0_rkij47dr&i=0&t=s3cret", KalturaGrammar("kLive").RTMPPaste("rtmp", "h",
		Request{Stream: "0_rkij47dr", Index: 2, Partner: 102, Token: "s3cret"}).Key)

	for _, g := range []Grammar{CatalogGrammar("kLive"), KalturaGrammar("kLive")} {
		for _, token := range []string{"s3cret", "a/b?c&d=e%f g+h", "ünïcode", "a=b", `"'$\`} {
			for i := range 2 {
				r := Request{Protocol: "rtmp", Stream: "0_rkij47dr", Index: 1 + i, ServerIndex: i, Partner: 102 * i, Token: token}
				for _, sent := range asSent(g.RTMPPaste("rtmps", "h:1936", r)) {
					got, err := g.RTMP(sent)
					require.NoError(t, err, "%+v", sent)
					require.Equal(t, "h", got.Hostname)
					got.Hostname, got.Application = "", ""
					require.Equal(t, r, got)
				}
			}
		}
	}
}

func TestIDs(t *testing.T) {
	for id, want := range map[string][2]bool{ // catalog, entry
		"":                      {false, false},
		"a":                     {true, false},
		"0_rkij47dr":            {true, true},
		"2_rkij47dr":            {true, false},
		"0_rkij47d-":            {true, false},
		"0_rkij47drr":           {true, false},
		"0_rkij47d/":            {false, false},
		"-a":                    {false, false},
		"_a":                    {false, false},
		strings.Repeat("a", 63): {true, false},
		strings.Repeat("a", 64): {false, false},
	} {
		require.Equal(t, want, [2]bool{IsCatalogID(id), IsEntryID(id)}, id)
	}
}

// FuzzRTMPAddress: whatever is sent is refused with a reason that holds no
// token, or means a Request that is read back from the address built of it.
func FuzzRTMPAddress(f *testing.F) {
	for _, c := range catalogCases {
		f.Add(c.App, c.TCURL, c.Name, false)
	}
	for _, c := range kalturaCases {
		f.Add(c.App, c.TCURL, c.Name, true)
	}
	f.Fuzz(func(t *testing.T, app, tcURL, name string, kaltura bool) {
		g := CatalogGrammar("kLive")
		if kaltura {
			g = KalturaGrammar("kLive")
		}
		r, err := g.RTMP(RTMPAddress{app, tcURL, name})
		if err != nil {
			require.NotEmpty(t, fault.ReasonOf(err))
			return
		}
		require.True(t, g.IsID(r.Stream))
		require.NotEmpty(t, r.Token)
		host := r.Hostname
		if strings.ContainsAny(host, ":@/? []") || host == "" {
			host = "h"
		}
		for _, sent := range asSent(g.RTMPPaste("rtmp", host, r)) {
			if len(sent.Name) > MaxAddressPart { // escaping can triple a token
				continue
			}
			got, err := g.RTMP(sent)
			require.NoError(t, err, "%+v", sent)
			got.Hostname = r.Hostname
			require.Equal(t, r, got)
		}
	})
}

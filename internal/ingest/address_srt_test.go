package ingest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
)

// streamIDCase is one stream id and what becomes of it: a Request written as
// "stream index server partner token", or a reason and a part of the sentence.
type streamIDCase struct {
	about, id, want string
	sealed          string
	reason          fault.Reason
	sentence        string
}

var catalogStreamIDs = []streamIDCase{
	{about: "access control", id: "#!::r=lobby_1,m=publish,u=102,token=s3cret,index=0", want: "lobby 1 0 102 s3cret"},
	{about: "access control, shortest", id: "#!::r=lobby_2,token=s3cret", want: "lobby 2 0 0 s3cret"},
	{about: "access control, foreign keys", id: "#!::h=live.example.com,r=kLive/lobby_1,s=4711,t=stream,m=publish,token=s3cret,index=1", want: "lobby 1 1 0 s3cret"},
	{about: "access control, whole id encoded", id: "%23%21%3A%3Ar%3Dlobby_1%2Cm%3Dpublish%2Ctoken%3Ds3cret", want: "lobby 1 0 0 s3cret"},
	{about: "access control, only the # encoded", id: "%23!::r=lobby_1,m=publish,token=s3cret", want: "lobby 1 0 0 s3cret"},
	{about: "access control, encoded twice", id: "%2523%2521%253A%253Ar%253Dlobby_1%252Ctoken%253Ds3cret", want: "lobby 1 0 0 s3cret"},
	{about: "access control, all but the #", id: "#!%3A%3Ar%3Dlobby_1%2Ctoken%3Ds3cret", want: "lobby 1 0 0 s3cret"},
	{about: "access control, encoded token", id: "#!::r=lobby_1,token=a%2cb%2Fc%3D", want: "lobby 1 0 0 a,b/c="},
	{about: "access control, per cent sign stays", id: "#!::r=lobby_1,token=50%off=%zz", want: "lobby 1 0 0 50%off=%zz"},
	{about: "blanks of a copied id", id: " #!::r=lobby_1, m=publish , token=s3cret ", want: "lobby 1 0 0 s3cret"},
	{about: "query", id: "kLive/lobby_1?p=102&e=lobby&i=1&t=s3cret", want: "lobby 1 1 102 s3cret"},
	{about: "query, slash before", id: "/kLive/lobby_1/?t=s3cret", want: "lobby 1 0 0 s3cret"},
	{about: "query without application", id: "lobby_1?t=s3cret", want: "lobby 1 0 0 s3cret"},
	{about: "query, encoded", id: "kLive%2Flobby_1%3Ft%3Ds3cret%26i%3D1", want: "lobby 1 1 0 s3cret"},
	{about: "query, value encoded", id: "kLive/lobby_1?t=a%26b", want: "lobby 1 0 0 a&b"},
	{about: "query, per cent sign stays", id: "kLive/lobby_1?t=50%", want: "lobby 1 0 0 50%"},
	{about: "short", id: "publish:lobby_1:102:s3cret", want: "lobby 1 0 102 s3cret"},
	{about: "short, no partner", id: "publish:lobby_1::s3cret", want: "lobby 1 0 0 s3cret"},
	{about: "short, three parts", id: "publish:lobby_1:s3cret", want: "lobby 1 0 0 s3cret"},
	{about: "short, application", id: "publish:kLive/lobby_1:s3cret", want: "lobby 1 0 0 s3cret"},
	{about: "short, encoded", id: "publish%3Alobby_1%3A102%3As3cret", want: "lobby 1 0 102 s3cret"},
	{about: "short, colon in the token", id: "publish:lobby_1:102:s3:cret", want: "lobby 1 0 102 s3:cret"},
	{about: "short with a query", id: "publish:lobby_1?t=s3cret", want: "lobby 1 0 0 s3cret"},
	{about: "Kaltura's form in the catalog", id: "#:::e=big-hall,st=1,p=s3cret,n=3", want: "big-hall 3 1 0 s3cret"},

	{about: "nothing", id: "", reason: fault.MissingArgument, sentence: "the stream id is missing in the address; use #!::r=lobby_1,m=publish,token=TOKEN"},
	{about: "no token", id: "#!::r=hall_2,m=publish", reason: fault.MissingArgument, sentence: "the token is missing in the stream id; use #!::r=hall_2,m=publish,token=TOKEN"},
	{about: "a name alone", id: "hall_2", reason: fault.MissingArgument, sentence: "use hall_2?t=TOKEN"},
	{about: "the token alone is not repeated", id: "s3cret", reason: fault.MissingArgument, sentence: "use lobby_1?t=TOKEN"},
	{about: "a reader", id: "#!::r=lobby_1,m=request,token=s3cret", reason: fault.BadAddress, sentence: "use m=publish"},
	{about: "no index", id: "#!::r=lobby,token=s3cret", reason: fault.BadStreamName, sentence: "use lobby_1"},
	{about: "no resource", id: "#!::token=s3cret", reason: fault.BadStreamName, sentence: "the stream name is missing"},
	{about: "another entry", id: "lobby_1?e=hall&t=s3cret", reason: fault.BadStreamName, sentence: "use hall_1"},
	{about: "another application", id: "live/lobby_1?t=s3cret", reason: fault.UnknownApplication, sentence: `no application "live"`},
	{about: "nested keys", id: "#!:{r=lobby_1,token=s3cret}", reason: fault.BadAddress, sentence: "use #!::r=lobby_1"},
	{about: "unknown beginning", id: "#r=lobby_1", reason: fault.BadAddress, sentence: "begins like none"},
	{about: "two tokens", id: "#!::r=lobby_1,token=s3cret,token=s3cret2", reason: fault.BadAddress, sentence: "twice"},
	{about: "server index 2", id: "#!::r=lobby_1,token=s3cret,index=2", reason: fault.BadAddress, sentence: "must be 0 for the primary or 1 for the backup"},
	{about: "partner that is no number", id: "publish:lobby_1:s3cret:s3cret", reason: fault.BadAddress, sentence: "the partner (p) must be a number"},
	{about: "control character", id: "#!::r=lobby_1,token=s3cret\x01", reason: fault.BadAddress, sentence: "cannot be printed"},
	{about: "control character, encoded", id: "#!::r=lobby_1,token=s3cret%01", reason: fault.BadAddress, sentence: "cannot be printed"},
	{about: "control character, short", id: "publish:lobby_1:s3cret%01", reason: fault.BadAddress, sentence: "cannot be printed"},
	{about: "too long", id: strings.Repeat("s3cret", 100), reason: fault.BadAddress, sentence: "longer than 512 bytes"},
	{about: "many keys", id: "#!::=" + strings.Repeat(",", 40), reason: fault.BadAddress, sentence: "more than 32 keys"},
	{about: "Kaltura's form without entry", id: "#:::st=0,p=s3cret", reason: fault.MissingArgument, sentence: "the entry (e) is missing"},
}

var kalturaStreamIDs = []streamIDCase{
	{about: "Kaltura's form", id: "#:::e=0_rkij47dr,st=0,p=s3cret", want: "0_rkij47dr 1 0 0 s3cret"},
	{about: "Kaltura's form, backend and ingest", id: "#:::e=7-0_rkij47dr,st=1,p=s3cret,n=2", want: "0_rkij47dr 2 1 0 s3cret"},
	{about: "Kaltura's form, encoded", id: "%23%3A%3A%3Ae%3D0_rkij47dr%2Cst%3D0%2Cp%3Ds3cret", want: "0_rkij47dr 1 0 0 s3cret"},
	{about: "Kaltura's form, only the # encoded", id: "%23:::e=0_rkij47dr,st=0,p=s3cret", want: "0_rkij47dr 1 0 0 s3cret"},
	{about: "sealed passphrase", id: "#:::e=0_rkij47dr,st=0,ep=DTBXaGMrEvtHaJ0e9XKRMT9ownkb_G-dq8dm2HHsT60",
		want: "0_rkij47dr 1 0 0 DTBXaGMrEvtHaJ0e9XKRMT9ownkb_G-dq8dm2HHsT60", sealed: "DTBXaGMrEvtHaJ0e9XKRMT9ownkb_G-dq8dm2HHsT60"},
	{about: "sealed passphrase and token", id: "#:::e=0_rkij47dr,p=s3cret,ep=DTBX", want: "0_rkij47dr 1 0 0 s3cret", sealed: "DTBX"},
	{about: "access control without partner", id: "#!::r=0_rkij47dr_1,m=publish,token=s3cret", want: "0_rkij47dr 1 0 0 s3cret"},
	{about: "query", id: "kLive/0_rkij47dr_1?p=102&e=0_rkij47dr&i=1&t=s3cret", want: "0_rkij47dr 1 1 102 s3cret"},
	{about: "short", id: "publish:0_rkij47dr_1:102:s3cret", want: "0_rkij47dr 1 0 102 s3cret"},

	{about: "query without partner", id: "kLive/0_rkij47dr_1?e=0_rkij47dr&i=1&t=s3cret", reason: fault.MissingArgument, sentence: "the partner (p) is missing in the address; use 0_rkij47dr_1?p=PARTNER&e=ENTRY&i=0&t=TOKEN"},
	{about: "a catalog's id", id: "#:::e=lobby,p=s3cret", reason: fault.BadAddress, sentence: `"lobby" is not a stream id`},
	{about: "ingest that is no number", id: "#:::e=0_rkij47dr,p=s3cret,n=x", reason: fault.BadStreamName, sentence: "use 0_rkij47dr_1"},
	{about: "no token", id: "#:::e=0_rkij47dr,st=0", reason: fault.MissingArgument, sentence: "use #!::r=0_rkij47dr_1,m=publish,token=TOKEN"},
	{about: "nothing", id: "", reason: fault.MissingArgument, sentence: "use #!::r=0_rkij47dr_1,"},
}

func srtGrammars() map[string]Grammar {
	return map[string]Grammar{"catalog": CatalogGrammar("kLive"), "kaltura": KalturaGrammar("kLive")}
}

func TestStreamID(t *testing.T) {
	for mode, cases := range map[string][]streamIDCase{"catalog": catalogStreamIDs, "kaltura": kalturaStreamIDs} {
		g := srtGrammars()[mode]
		for _, c := range cases {
			t.Run(mode+"/"+c.about, func(t *testing.T) {
				a, err := g.SRT(c.id)
				if c.reason != "" {
					require.Equal(t, c.reason, fault.ReasonOf(err), "%v", err)
					require.Contains(t, err.Error(), c.sentence)
					require.NotContains(t, err.Error(), "s3cret")
					return
				}
				require.NoError(t, err)
				require.Equal(t, c.want, fmt.Sprint(a.Stream, " ", a.Index, " ", a.ServerIndex, " ", a.Partner, " ", a.Token))
				require.Equal(t, c.sealed, a.Sealed)
				require.Equal(t, "srt", a.Protocol)
			})
		}
	}
	_, err := CatalogGrammar("kLive").SRT("#!::r=lobby_1,m=request,token=s3cret")
	require.Equal(t, ArgMode, fault.From(err).Metadata["argument"])
}

func TestUnseal(t *testing.T) {
	const sealed = "DTBXaGMrEvtHaJ0e9XKRMT9ownkb_G-dq8dm2HHsT60"
	for _, key := range []string{"klive", "klive\x00\x00"} {
		got, err := Unseal(sealed, key, "")
		require.NoError(t, err)
		require.Equal(t, "mySrtPassphrase1", got)
	}
	for about, c := range map[string][3]string{
		"other key":    {sealed, "kLive", ""},
		"other vector": {sealed, "klive", strings.Repeat("\xff", 16)},
		"cut":          {sealed[:30], "klive", ""},
		"empty":        {"", "klive", ""},
		"not base64":   {"!" + sealed[1:], "klive", ""},
	} {
		t.Run(about, func(t *testing.T) {
			_, err := Unseal(c[0], c[1], c[2])
			require.Equal(t, fault.BadAddress, fault.ReasonOf(err), "%v", err)
		})
	}
}

// asStreamIDs are the ways in which a client sends what the user pasted: the
// field as it is, the URL's value as it is, and the URL's value decoded.
func asStreamIDs(p SRTPaste) []string {
	_, inURL, _ := strings.Cut(p.URL, "streamid=")
	return []string{p.StreamID, inURL, unescapeLeniently(inURL)}
}

func TestPastedStreamIDIsReadBack(t *testing.T) {
	require.Equal(t, SRTPaste{
		Server: "srt://studio.local:8890", StreamID: "#!::r=lobby_1,m=publish,token=s3cret",
		URL: "srt://studio.local:8890?mode=caller&streamid=%23%21%3A%3Ar%3Dlobby_1%2Cm%3Dpublish%2Ctoken%3Ds3cret",
	}, CatalogGrammar("kLive").SRTPaste("studio.local:8890", Request{Stream: "lobby", Index: 1, Token: "s3cret"}))
	for _, g := range srtGrammars() {
		for _, token := range []string{"s3cret", "a/b?c&d=e%f g+h,i:j", "ünïcode", "a=b", `"'$\`, "%41"} {
			for i := range 2 {
				r := Request{Protocol: "srt", Stream: "0_rkij47dr", Index: 1 + i, ServerIndex: i, Partner: 102 * i, Token: token}
				for _, id := range asStreamIDs(g.SRTPaste("h:1", r)) {
					got, err := g.SRT(id)
					require.NoError(t, err, id)
					got.Application = ""
					require.Equal(t, r, got.Request, id)
				}
			}
		}
	}
}

// FuzzStreamID: whatever is sent is refused with a reason, or means a Request
// that is read back from the address built of it.
func FuzzStreamID(f *testing.F) {
	for _, c := range catalogStreamIDs {
		f.Add(c.id, false)
	}
	for _, c := range kalturaStreamIDs {
		f.Add(c.id, true)
	}
	f.Fuzz(func(t *testing.T, id string, kaltura bool) {
		g := CatalogGrammar("kLive")
		if kaltura {
			g = KalturaGrammar("kLive")
		}
		a, err := g.SRT(id)
		if err != nil {
			require.NotEmpty(t, fault.ReasonOf(err))
			return
		}
		require.True(t, g.IsID(a.Stream))
		require.NotEmpty(t, a.Token)
		if a.Sealed != "" {
			if pass, err := Unseal(a.Sealed, "klive", ""); err == nil {
				require.GreaterOrEqual(t, len(pass), MinPassphrase)
			}
		}
		for _, sent := range asStreamIDs(g.SRTPaste("h", a.Request)) {
			if len(sent) > MaxStreamID { // escaping makes ids longer
				continue
			}
			got, err := g.SRT(sent)
			require.NoError(t, err, sent)
			got.Hostname = a.Hostname
			require.Equal(t, a.Request, got.Request)
		}
	})
}

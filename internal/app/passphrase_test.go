package app

import (
	"net/http"
	"net/netip"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/config"
	"github.com/klive-media/klive/internal/control"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/stream"
)

// passphraseOf asks as the SRT door does.
func (st *started) passphraseOf(t *testing.T, id string) (string, error) {
	t.Helper()
	return st.passphrases()(t.Context(), ingest.Request{
		Protocol: "srt", Stream: id, Index: 1, Token: "tok12345", Remote: netip.MustParseAddrPort("127.0.0.1:4000"), Counters: new(ingest.Counters),
	})
}

func TestTheDoorIsToldThePassphraseOfAStream(t *testing.T) {
	c := testConfig(t)
	c.Streams = []config.Stream{
		{ID: "lobby", Token: "tok12345", SRTPassphrase: "of the lobby"}, {ID: "plain", Token: "tok12345"},
		{ID: "event-*", Token: "tok12345", SRTPassphrase: "of all events"},
	}
	st := start(t, c)
	for id, want := range map[string]string{"lobby": "of the lobby", "plain": "", "event-1": "of all events", "nobody": ""} {
		got, err := st.passphraseOf(t, id)
		require.NoError(t, err)
		require.Equal(t, want, got, id)
	}
	code, body := st.get(t, "/v1/streams/lobby")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, `"srtEncrypted":true`)
	require.NotContains(t, body, "of the lobby")
}

func TestAddressesOfSRTCarryThePassphrase(t *testing.T) {
	s := &Server{grammar: ingest.CatalogGrammar(application), listeners: []control.Listener{{Name: "srt", Address: "127.0.0.1:8890"}}}
	e := stream.Entry{ID: "lobby"}
	for _, c := range []struct{ own, ofServer, want string }{
		{"", "", ""}, {"of-the-stream", "", "of-the-stream"}, {"", "of-the-server", "of-the-server"}, {"of-the-stream", "of-the-server", "of-the-stream"},
	} {
		got := (*addresses)(s).srt(e, stream.Secrets{Token: "tok", Passphrase: c.own}, c.ofServer, 1)
		require.Equal(t, c.want, got.Passphrase)
		require.Equal(t, "srt://127.0.0.1:8890", got.Server)
		require.Equal(t, "#!::r=lobby_1,m=publish,index=1,token=tok", got.Key)
		u, err := url.Parse(got.URL)
		require.NoError(t, err)
		require.Equal(t, c.want, u.Query().Get("passphrase"))
		require.Equal(t, c.want != "", u.Query().Has("passphrase"))
		require.False(t, u.Query().Has("pbkeylen"), "the client chooses")
	}
}

func TestTheDoorIsToldThePassphraseOfAnEntry(t *testing.T) {
	b, url := backend(t)
	require.NoError(t, b.AddEntry(kalturatest.Entry{
		ID: "0_sealed00", Partner: 102, Token: "tok12345", SRTPassphrase: "mySrtPassphrase1", Profile: kalturatest.ProfilePassthrough,
	}))
	st := start(t, kalturaConfig(t, url))
	for id, want := range map[string]string{"0_sealed00": "mySrtPassphrase1", kalturaEntry: ""} {
		got, err := st.passphraseOf(t, id)
		require.NoError(t, err)
		require.Equal(t, want, got, id)
	}
	_, err := st.passphraseOf(t, "0_nobody00")
	require.Equal(t, fault.StreamNotFound, fault.ReasonOf(err))
}

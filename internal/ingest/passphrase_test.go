package ingest

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValidPassphrase(t *testing.T) {
	for text, want := range map[string]bool{
		"":                        false,
		"ninechars":               false,
		"tencharsxx":              true,
		"with blanks and ü €":     true,
		strings.Repeat("x", 79):   true,
		strings.Repeat("x", 80):   false,
		strings.Repeat("ü", 40):   false, // bytes count
		"tab\tulator tabulator":   false,
		"broken \xff utf-8 bytes": false,
	} {
		require.Equal(t, want, ValidPassphrase(text), "%q", text)
	}
}

func TestAPassphraseInAnAddress(t *testing.T) {
	paste := CatalogGrammar("kLive").SRTPaste("h:1", Request{Stream: "lobby", Index: 1, Token: "s3cret"})
	require.Equal(t, paste, paste.Encrypted(""))
	for _, pass := range []string{"mySrtPassphrase1", "a-b._~!()*,=:@/?c", `blanks + & ; # % ü ' " $x`} {
		got := paste.Encrypted(pass)
		require.Equal(t, paste.Server, got.Server)
		require.Equal(t, paste.StreamID, got.StreamID)
		u, err := url.Parse(got.URL)
		require.NoError(t, err)
		require.Equal(t, pass, u.Query()["passphrase"][0], "for whoever decodes")
		require.Equal(t, paste.StreamID, u.Query().Get("streamid"))
	}
	// For whoever does not decode, as ffmpeg.
	require.True(t, strings.HasSuffix(paste.Encrypted("a-b._~!()*,:@/?=c").URL, "&passphrase=a-b._~!()*,:@/?=c"))
	require.NotContains(t, paste.Encrypted(`$x'y"z<>\^{}| +#&%`).URL[len(paste.URL)+len("&passphrase="):], "$")
}

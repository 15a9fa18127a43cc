package catalog

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/stream"
)

func passphraseOf(t *testing.T, c *Catalog, id string) string {
	t.Helper()
	p, err := c.Passphrase(t.Context(), ingest.Request{Stream: id, Index: 1, Token: "whatever", Remote: here})
	require.NoError(t, err)
	return p
}

func TestPassphrasesOfDeclaredStreams(t *testing.T) {
	c := open(t, openStore(t, t.TempDir()),
		Declared{ID: "lobby", Token: "s3cret", Passphrase: "of the lobby"},
		Declared{ID: "plain", Token: "s3cret"},
		Declared{ID: "event-*", Token: "any-event", Passphrase: "of all events"},
		Declared{ID: "event-vip-*", Token: "vip-only", Passphrase: "of the vips"},
	)
	for id, want := range map[string]string{
		"lobby": "of the lobby", "plain": "", "event-7": "of all events", "event-vip-1": "of the vips", "nobody": "", "event-../x": "",
	} {
		require.Equal(t, want, passphraseOf(t, c, id), id)
		e, err := c.Get(t.Context(), id)
		if err == nil {
			require.Equal(t, want != "", e.Encrypted, id)
			require.NotContains(t, fmt.Sprintf("%+v", e), "of ", id)
		}
	}
	list, err := c.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 2, "asking makes nothing")
}

func TestAPassphraseIsSetChangedAndTakenAway(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	c := open(t, s)
	e, made, err := c.Create(t.Context(), stream.Entry{ID: "studio"}, stream.Secrets{Passphrase: "the first one"})
	require.NoError(t, err)
	require.True(t, e.Encrypted)
	require.Equal(t, "the first one", made.Passphrase)
	require.NotEmpty(t, made.Token)
	require.NotContains(t, fmt.Sprintf("%v %+v", made, made), "first")

	e.DisplayName = "Studio"
	e, err = c.Update(t.Context(), e, nil, e.Revision)
	require.NoError(t, err)
	require.True(t, e.Encrypted, "what is not named stays")
	_, rotated, err := c.RotateToken(t.Context(), "studio")
	require.NoError(t, err)
	require.Equal(t, "the first one", rotated.Passphrase)

	second := "the second one"
	e, err = c.Update(t.Context(), e, &second, 0)
	require.NoError(t, err)
	require.Equal(t, second, passphraseOf(t, c, "studio"))
	s.Close()

	c = open(t, openStore(t, dir))
	require.Equal(t, second, passphraseOf(t, c, "studio"), "it survives a restart")
	got, err := c.Get(t.Context(), "studio")
	require.NoError(t, err)
	require.True(t, got.Encrypted)
	require.Equal(t, "Studio", got.DisplayName)

	short, none := "short", ""
	_, err = c.Update(t.Context(), got, &short, 0)
	require.Equal(t, fault.InvalidField, fault.ReasonOf(err))
	require.NotContains(t, err.Error(), "short")
	got, err = c.Update(t.Context(), got, &none, e.Revision)
	require.NoError(t, err)
	require.False(t, got.Encrypted)
	require.Empty(t, passphraseOf(t, c, "studio"))
}

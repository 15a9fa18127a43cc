package catalog

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/store"
	"github.com/klive-media/klive/internal/stream"
)

func openStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func open(t *testing.T, s *store.Store, declared ...Declared) *Catalog {
	t.Helper()
	c, err := Open(t.Context(), Options{Store: s, Declared: declared, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return c
}

var here = netip.MustParseAddrPort("127.0.0.1:5000")

func TestAuthenticate(t *testing.T) {
	c := open(t, openStore(t, t.TempDir()),
		Declared{ID: "lobby", Token: "s3cret", Partner: 102},
		Declared{ID: "event-*", Token: "any-event"},
		Declared{ID: "event-vip-*", Token: "vip-only"},
	)
	for name, k := range map[string]struct {
		stream, token string
		partner       int
		want          fault.Reason
		says          string
	}{
		"right":                       {"lobby", "s3cret", 0, "", ""},
		"right with partner":          {"lobby", "s3cret", 102, "", ""},
		"wrong partner":               {"lobby", "s3cret", 7, fault.WrongPartner, "does not belong to partner 7"},
		"wrong token":                 {"lobby", "s3creT", 0, fault.BadToken, "copy the stream key again"},
		"no token":                    {"lobby", "", 0, fault.MissingArgument, "?t=TOKEN"},
		"unknown":                     {"loby", "s3cret", 0, fault.StreamNotFound, `no stream "loby"`},
		"template":                    {"event-7", "any-event", 0, "", ""},
		"template, wrong token":       {"event-7", "vip-only", 0, fault.BadToken, ""},
		"longest template wins":       {"event-vip-1", "vip-only", 0, "", ""},
		"template, id that cannot be": {"event-../x", "any-event", 0, fault.StreamNotFound, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := c.Authenticate(t.Context(), ingest.Request{Stream: k.stream, Index: 2, ServerIndex: 1, Token: k.token, Partner: k.partner, Remote: here})
			require.Equal(t, k.want, fault.ReasonOf(err), "%v", err)
			if k.want == "" {
				require.Equal(t, k.stream, g.Stream)
				require.Equal(t, 2, g.Index)
				require.Equal(t, 1, g.ServerIndex)
				return
			}
			require.ErrorContains(t, err, k.says)
			require.NotContains(t, err.Error(), "s3cret")
		})
	}
	list, err := c.List(t.Context())
	require.NoError(t, err)
	var ids []string
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	require.Equal(t, []string{"event-7", "event-vip-1", "lobby"}, ids)
}

func TestAWrongTokenNeverLocksOutARightOne(t *testing.T) {
	c := open(t, openStore(t, t.TempDir()), Declared{ID: "lobby", Token: "s3cret"})
	wrong := ingest.Request{Stream: "lobby", Index: 1, Token: "guess", Remote: here}
	right := wrong
	right.Token = "s3cret"
	for range 2 * maxAttempts {
		c.throttle.failed(here.Addr(), "lobby", time.Now())
	}
	start := time.Now()
	_, err := c.Authenticate(t.Context(), right)
	require.NoError(t, err)
	require.Less(t, time.Since(start), firstWait)
}

func TestThrottle(t *testing.T) {
	th, now := newThrottle(), time.Unix(1e9, 0)
	a, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for i := range maxAttempts {
		wait, ok := th.failed(a, "lobby", now)
		require.True(t, ok)
		require.Equal(t, i >= freeAttempts, wait > 0, "attempt %d waits %v", i+1, wait)
		require.LessOrEqual(t, wait, maxWait)
	}
	_, ok := th.failed(a, "lobby", now)
	require.False(t, ok)
	_, ok = th.failed(other, "lobby", now)
	require.True(t, ok, "another address is not affected")
	_, ok = th.failed(a, "studio", now)
	require.True(t, ok, "another stream is not affected")
	wait, ok := th.failed(a, "lobby", now.Add(forgetAfter+time.Second))
	require.True(t, ok, "a minute of silence is forgiven")
	require.Zero(t, wait)

	v6a, v6b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff")
	for range maxAttempts {
		th.failed(v6a, "lobby", now)
	}
	_, ok = th.failed(v6b, "lobby", now)
	require.False(t, ok, "one /64 is one guesser")

	for i := range 2 * maxGuessers {
		th.failed(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), "x", now)
	}
	require.LessOrEqual(t, len(th.guessers), maxGuessers)
}

func TestStreamsMadeThroughTheAPISurvive(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(t.Context(), store.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	c := open(t, s)
	changed := c.Changed()
	e, made, err := c.Create(t.Context(), stream.Entry{ID: "studio", DisplayName: "Studio 1", Partner: 5, Labels: map[string]string{"room": "b"}}, stream.Secrets{})
	require.NoError(t, err)
	<-changed
	require.Len(t, made.Token, 26)
	require.Empty(t, made.Passphrase)
	e.DisplayName = "Studio 2"
	e, err = c.Update(t.Context(), e, nil, e.Revision)
	require.NoError(t, err)
	_, rotated, err := c.RotateToken(t.Context(), "studio")
	require.NoError(t, err)
	require.NotEqual(t, made.Token, rotated.Token)
	s.Close()

	c = open(t, openStore(t, dir))
	got, err := c.Get(t.Context(), "studio")
	require.NoError(t, err)
	require.Equal(t, "Studio 2", got.DisplayName)
	require.Equal(t, map[string]string{"room": "b"}, got.Labels)
	require.True(t, got.TokenUpdatedAt.After(got.Created))
	kept, err := c.Secrets(t.Context(), "studio")
	require.NoError(t, err)
	require.Equal(t, rotated, kept)

	_, err = c.Update(t.Context(), got, nil, e.Revision) // the rotation came after it
	require.Equal(t, fault.EtagMismatch, fault.ReasonOf(err))
	require.Equal(t, fault.EtagMismatch, fault.ReasonOf(c.Delete(t.Context(), "studio", e.Revision)))
	require.NoError(t, c.Delete(t.Context(), "studio", got.Revision))
	_, err = c.Get(t.Context(), "studio")
	require.Equal(t, fault.StreamNotFound, fault.ReasonOf(err))
}

func TestCreateRefuses(t *testing.T) {
	c := open(t, openStore(t, t.TempDir()), Declared{ID: "lobby", Token: "s3cret"}, Declared{ID: "event-*", Token: "s3cret"})
	for name, k := range map[string]struct {
		e     stream.Entry
		token string
		pass  string
		want  fault.Reason
	}{
		"declared":          {stream.Entry{ID: "lobby"}, "", "", fault.AlreadyExistsReason},
		"template":          {stream.Entry{ID: "event-9"}, "", "", fault.AlreadyExistsReason},
		"no id":             {stream.Entry{}, "", "", fault.InvalidField},
		"slash":             {stream.Entry{ID: "a/b"}, "", "", fault.InvalidField},
		"ends like a name":  {stream.Entry{ID: "studio_1"}, "", "", fault.InvalidField},
		"short token":       {stream.Entry{ID: "studio"}, "abc", "", fault.InvalidField},
		"token with blanks": {stream.Entry{ID: "studio"}, "abc defgh", "", fault.InvalidField},
		"partner":           {stream.Entry{ID: "studio", Partner: -1}, "", "", fault.InvalidField},
		"label, strange":    {stream.Entry{ID: "studio", Labels: map[string]string{"a b": "x"}}, "", "", fault.InvalidField},
		"label, long key":   {stream.Entry{ID: "studio", Labels: map[string]string{strings.Repeat("k", 129): "x"}}, "", "", fault.InvalidField},
		"label, long value": {stream.Entry{ID: "studio", Labels: map[string]string{"k": strings.Repeat("x", 129)}}, "", "", fault.InvalidField},
		"long name":         {stream.Entry{ID: "studio", DisplayName: strings.Repeat("x", 257)}, "", "", fault.InvalidField},
		"short passphrase":  {stream.Entry{ID: "studio"}, "", "ninechars", fault.InvalidField},
		"long passphrase":   {stream.Entry{ID: "studio"}, "", strings.Repeat("x", 80), fault.InvalidField},
		"unprintable":       {stream.Entry{ID: "studio"}, "", "tab\tulator tabulator", fault.InvalidField},
		"label without key": {stream.Entry{ID: "studio", Labels: map[string]string{"": "x"}}, "", "", fault.InvalidField},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := c.Create(t.Context(), k.e, stream.Secrets{Token: k.token, Passphrase: k.pass})
			require.Equal(t, k.want, fault.ReasonOf(err), "%v", err)
		})
	}
	_, err := c.Update(t.Context(), stream.Entry{ID: "lobby"}, nil, 0)
	require.Equal(t, fault.ManagedByConfig, fault.ReasonOf(err))
	require.Equal(t, fault.ManagedByConfig, fault.ReasonOf(c.Delete(t.Context(), "lobby", 0)))
	_, _, err = c.RotateToken(t.Context(), "nobody")
	require.Equal(t, fault.StreamNotFound, fault.ReasonOf(err))
}

func TestConcurrentRotationsAllSucceed(t *testing.T) {
	c := open(t, openStore(t, t.TempDir()))
	_, _, err := c.Create(t.Context(), stream.Entry{ID: "studio"}, stream.Secrets{})
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, _, err := c.RotateToken(t.Context(), "studio")
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	rec, err := c.streams.Get(t.Context(), "studio")
	require.NoError(t, err)
	got, err := c.Get(t.Context(), "studio")
	require.NoError(t, err)
	require.Equal(t, rec.Revision, got.Revision)
}

func TestFirstStartHappensOnce(t *testing.T) {
	s := openStore(t, t.TempDir())
	c := open(t, s)
	e, token, made, err := c.FirstStart(t.Context())
	require.NoError(t, err)
	require.True(t, made)
	require.Equal(t, FirstStream, e.ID)
	_, err = c.Authenticate(t.Context(), ingest.Request{Stream: e.ID, Index: 1, Token: token, Remote: here})
	require.NoError(t, err)
	require.NoError(t, c.Delete(t.Context(), e.ID, 0))
	_, _, made, err = open(t, s).FirstStart(t.Context())
	require.NoError(t, err)
	require.False(t, made)
}

func TestFirstStartLeavesADeclaredConfigurationAlone(t *testing.T) {
	c := open(t, openStore(t, t.TempDir()), Declared{ID: "event-*", Token: "s3cret"})
	_, _, made, err := c.FirstStart(t.Context())
	require.NoError(t, err)
	require.False(t, made)
}

func TestUnknownStreamsAreSlowedDownByAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Catalog{throttle: newThrottle(), rows: map[string]row{"lobby": {entry: stream.Entry{ID: "lobby"}, secrets: stream.Secrets{Token: "s3cret"}}}}
		ask := func(id, token string) error {
			_, err := c.Authenticate(t.Context(), ingest.Request{Stream: id, Index: 1, Token: token, Remote: here})
			return err
		}
		start := time.Now()
		for i := range 2 * maxAttempts { // each name is another
			want := fault.StreamNotFound
			if i >= maxAttempts {
				want = fault.TooManyAttempts
			}
			err := ask(fmt.Sprint("no", i), "x")
			require.Equal(t, want, fault.ReasonOf(err))
			require.ErrorContains(t, err, "is known on this server")
		}
		require.Greater(t, time.Since(start), 30*time.Second)
		start = time.Now()
		require.NoError(t, ask("lobby", "s3cret"))
		require.Zero(t, time.Since(start), "a right token never waits")
	})
}

func TestATemplatesTokenIsOneSecretUnderEveryId(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Catalog{throttle: newThrottle(), rows: map[string]row{}, templates: []Declared{{ID: "event-", Token: "s3cret"}}}
		var err error
		for i := range maxAttempts + 1 {
			_, err = c.Authenticate(t.Context(), ingest.Request{Stream: fmt.Sprint("event-", i), Index: 1, Token: "guess", Remote: here})
		}
		require.Equal(t, fault.TooManyAttempts, fault.ReasonOf(err))
	})
}

func TestATemplateAnswersBeforeItsFirstPublisher(t *testing.T) {
	c := open(t, openStore(t, t.TempDir()), Declared{ID: "event-*", Token: "s3cret", Partner: 7})
	e, err := c.Get(t.Context(), "event-7")
	require.NoError(t, err)
	require.Equal(t, stream.FromTemplate, e.Origin)
	require.Equal(t, 7, e.Partner)
	secrets, err := c.Secrets(t.Context(), "event-7")
	require.NoError(t, err)
	require.Equal(t, "s3cret", secrets.Token)
	_, err = c.Get(t.Context(), "lobby")
	require.Equal(t, fault.StreamNotFound, fault.ReasonOf(err))
	require.Equal(t, fault.ManagedByConfig, fault.ReasonOf(c.Delete(t.Context(), "event-7", 0)))
	list, err := c.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, list, "asking makes nothing")
}

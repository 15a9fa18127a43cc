package book_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/book/booktest"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/profile"
	"github.com/klive-media/klive/internal/store"
)

const entry = "0_rkij47dr"

var primary = book.Key{Entry: entry}

func openStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func open(t *testing.T, r book.Records) *book.Book {
	t.Helper()
	b, err := book.New(t.Context(), r)
	require.NoError(t, err)
	return b
}

func grant(token string) book.Grant {
	now := time.Now()
	g := book.Grant{
		Entry: entry, Partner: 102, Authenticated: now, Seen: now,
		Snapshot: client.Entry{ID: entry, Partner: 102, Name: "Town hall", DVR: true, DVRWindow: 120, CurrentStart: 1700000000},
		Profile:  profile.Profile{ID: 5511, Loaded: now, Flavors: []profile.Flavor{{ID: 32, Ingest: 1, Tags: []string{"source", "ingest"}, Asset: "0_as1", Anchor: true}}},
	}
	g.Accept(token)
	return g
}

func TestGrantsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	b, err := book.Open(t.Context(), s)
	require.NoError(t, err)
	want := grant("dj94kfit")
	require.NoError(t, b.Put(t.Context(), want))
	require.NoError(t, b.Put(t.Context(), book.Grant{Entry: "1_abcdefgh", Index: 1}))
	seen := want.Seen.Add(time.Minute)
	require.NoError(t, b.MarkSeen(t.Context(), seen, []book.Key{primary}))
	s.Close()

	b, err = book.Open(t.Context(), openStore(t, dir))
	require.NoError(t, err)
	require.Empty(t, b.Unreadable())
	got, ok := b.Get(primary)
	require.True(t, ok)
	require.True(t, got.Accepts("dj94kfit"))
	require.False(t, got.Accepts("dj94kfiu"))
	require.Equal(t, want.Snapshot, got.Snapshot)
	require.Equal(t, want.Profile.Flavors, got.Profile.Flavors)
	require.WithinDuration(t, want.Authenticated, got.Authenticated, 0)
	require.WithinDuration(t, seen, got.Last(), 0)
	require.True(t, got.Ended.IsZero())
	require.Len(t, b.List(), 2)

	// What was read is changed by the revision it has.
	_, ok, err = b.Update(t.Context(), primary, func(g *book.Grant) { g.Partner = 103 })
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, b.Delete(t.Context(), primary))
	require.NoError(t, b.Delete(t.Context(), primary))
	_, ok = b.Get(primary)
	require.False(t, ok)
}

func TestNoRecordHoldsAToken(t *testing.T) {
	records := new(booktest.Records)
	b := open(t, records)
	g := grant("dj94kfit")
	g.Accept("an-encrypted-passphrase")
	require.NoError(t, b.Put(t.Context(), g))
	list, err := records.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.NotContains(t, string(list[0].Value), "dj94kfit")
	require.NotContains(t, string(list[0].Value), "passphrase")
	require.NotEqual(t, book.HashToken("dj94kfit"), book.HashToken("dj94kfit"), "each hash has a salt of its own")
}

func TestAcceptKeepsTheLatestTokens(t *testing.T) {
	var g book.Grant
	require.False(t, g.Accepts(""))
	for i := range book.MaxTokens + 2 {
		before := g
		g.Accept(fmt.Sprint("token", i))
		g.Accept(fmt.Sprint("token", i))
		require.LessOrEqual(t, len(before.Tokens), len(g.Tokens), "a copy is left alone")
	}
	require.Len(t, g.Tokens, book.MaxTokens)
	for i := range book.MaxTokens + 2 {
		require.Equal(t, i >= 2, g.Accepts(fmt.Sprint("token", i)))
	}
}

func TestUpdatesFollowEachOther(t *testing.T) {
	b := open(t, new(booktest.Records))
	_, ok, err := b.Update(t.Context(), primary, func(*book.Grant) { t.Error("there is no grant") })
	require.NoError(t, err)
	require.False(t, ok)
	require.NoError(t, b.Put(t.Context(), book.Grant{Entry: entry}))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			_, _, err := b.Update(t.Context(), primary, func(g *book.Grant) { g.Partner++ })
			require.NoError(t, err)
		})
	}
	wg.Wait()
	g, _ := b.Get(primary)
	require.Equal(t, 50, g.Partner)
	require.Equal(t, primary, g.Key())
}

func TestAWriteGivenUpForLostIsFound(t *testing.T) {
	records := new(booktest.Records)
	b := open(t, records)
	broken := errors.New("disk full")
	for _, partner := range []int{1, 2} { // as a new record, then as a changed one
		records.LoseAnswer(broken)
		err := b.Put(t.Context(), book.Grant{Entry: entry, Partner: partner})
		require.Equal(t, fault.StoreUnavailable, fault.ReasonOf(err))
		require.ErrorIs(t, err, broken)
		require.NoError(t, b.Put(t.Context(), book.Grant{Entry: entry, Partner: 10 * partner}))
		g, _ := b.Get(primary)
		require.Equal(t, 10*partner, g.Partner)
	}
}

func TestAStoreThatFailsChangesNothing(t *testing.T) {
	records := new(booktest.Records)
	b := open(t, records)
	require.NoError(t, b.Put(t.Context(), book.Grant{Entry: entry, Partner: 1}))
	changed := b.Changed()
	records.Fail(errors.New("disk full"))
	for _, err := range []error{
		b.Put(t.Context(), book.Grant{Entry: entry, Partner: 2}),
		b.Delete(t.Context(), primary),
		b.End(t.Context(), primary, time.Now()),
		b.MarkSeen(t.Context(), time.Now(), []book.Key{primary}),
	} {
		require.Equal(t, fault.StoreUnavailable, fault.ReasonOf(err))
	}
	g, ok := b.Get(primary)
	require.True(t, ok)
	require.Equal(t, 1, g.Partner)
	require.True(t, g.Ended.IsZero())
	select {
	case <-changed:
		t.Fatal("nothing changed")
	default:
	}
	_, err := book.New(t.Context(), records)
	require.Error(t, err)
}

func TestRecordsThatCannotBeReadArePassedOver(t *testing.T) {
	records := new(booktest.Records)
	for key, value := range map[string]string{entry + "_0": "{", "nonsense": "{}", "seen": "[]", "0_abcdefgh_1": `{"entry":"other","index":7,"later":true}`} {
		_, err := records.Put(t.Context(), key, []byte(value))
		require.NoError(t, err)
	}
	b := open(t, records)
	require.ElementsMatch(t, []string{entry + "_0", "nonsense"}, b.Unreadable())
	require.Len(t, b.List(), 1)
	require.Equal(t, book.Key{Entry: "0_abcdefgh", Index: 1}, b.List()[0].Key())
	require.NoError(t, b.Put(t.Context(), grant("dj94kfit")), "such a record is written over")
	g, ok := b.Get(primary)
	require.True(t, ok)
	require.True(t, g.Accepts("dj94kfit"))
}

func TestEndSparesTheNextBroadcast(t *testing.T) {
	b := open(t, new(booktest.Records))
	require.NoError(t, b.End(t.Context(), primary, time.Now()), "there is none")
	g := grant("dj94kfit")
	require.NoError(t, b.Put(t.Context(), g))
	require.NoError(t, b.End(t.Context(), primary, g.Authenticated.Add(-time.Second)))
	got, _ := b.Get(primary)
	require.True(t, got.Ended.IsZero())
	end := g.Authenticated.Add(time.Second)
	require.NoError(t, b.End(t.Context(), primary, end))
	require.NoError(t, b.End(t.Context(), primary, end.Add(time.Hour)))
	got, _ = b.Get(primary)
	require.Equal(t, end, got.Ended)
}

func TestMarkSeenIsOneWriteAndWakesNobody(t *testing.T) {
	records := new(booktest.Records)
	b := open(t, records)
	var keys []book.Key
	for i := range 200 {
		k := book.Key{Entry: fmt.Sprintf("0_e%07d", i), Index: i % 2}
		require.NoError(t, b.Put(t.Context(), book.Grant{Entry: k.Entry, Index: k.Index}))
		keys = append(keys, k)
	}
	require.NoError(t, b.End(t.Context(), keys[0], time.Now()))
	before, changed := records.Writes(), b.Changed()
	at := time.Now().Add(time.Minute)
	require.NoError(t, b.MarkSeen(t.Context(), at, append(keys, book.Key{Entry: "0_unknown0"})))
	require.NoError(t, b.MarkSeen(t.Context(), at, nil))
	require.Equal(t, before+1, records.Writes())
	select {
	case <-changed:
		t.Fatal("it was woken")
	default:
	}
	g, _ := open(t, records).Get(keys[7])
	require.WithinDuration(t, at, g.Seen, 0)

	// A writer who looked before does not take it back.
	require.NoError(t, b.Put(t.Context(), book.Grant{Entry: keys[7].Entry, Index: keys[7].Index, Seen: at.Add(-time.Hour)}))
	g, _ = b.Get(keys[7])
	require.Equal(t, at, g.Seen)
	select {
	case <-changed:
	default:
		t.Fatal("a change wakes")
	}
}

func TestKey(t *testing.T) {
	require.Equal(t, "0_rkij47dr_1", book.Key{Entry: entry, Index: 1}.String())
	require.False(t, strings.HasPrefix("seen", entry))
}

package client

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/kaltura/kalturatest"
)

const many = 200

func crowd(t testing.TB) (*kalturatest.Backend, *Client, *watcher) {
	o := kalturatest.Options{
		Partners: []kalturatest.Partner{{ID: -5, Secret: secret}, {ID: partner, Secret: secret, Features: []string{kalturatest.FeatureLive}, MaxPassthrough: many}},
		Nodes:    []kalturatest.Node{{HostName: host, Status: kalturatest.NodeActive}},
	}
	for i := range many {
		o.Entries = append(o.Entries, kalturatest.Entry{ID: fmt.Sprintf("0_crowd%03d", i), Partner: partner, Token: "t", Profile: kalturatest.ProfilePassthrough})
	}
	b, err := kalturatest.New(o)
	require.NoError(t, err)
	server := httptest.NewServer(b)
	w := &watcher{}
	c, err := New(Options{URL: server.URL, Partner: -5, Secret: secret, Observer: w})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close(); server.Close() })
	return b, c, w
}

func TestManyEntriesAndARevokedSession(t *testing.T) {
	b, c, seen := crowd(t)
	var wg sync.WaitGroup
	failed := make(chan error, many)
	for i := range many {
		wg.Go(func() {
			at := Place{Entry: fmt.Sprintf("0_crowd%03d", i), Host: host}
			_, err := c.Authenticate(t.Context(), partner, at, "t", "kLive")
			if i == many/2 {
				b.RevokeSessions()
			}
			if err == nil {
				_, err = c.Register(t.Context(), partner, at, "kLive", StatusPlayable, true)
			}
			failed <- err
		})
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		require.NoError(t, err)
	}
	require.Len(t, b.State().Registrations, many)
	require.Equal(t, 2, seen.renewed, "one renewal for all")
}

func BenchmarkRegister(b *testing.B) {
	_, c, _ := crowd(b)
	at := Place{Entry: "0_crowd000", Host: host}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Register(b.Context(), partner, at, "kLive", StatusPlayable, true); err != nil {
			b.Fatal(errors.Unwrap(err))
		}
	}
}

package client

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/kaltura/kalturatest"
)

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backend(t, nil)
		c, seen := newClient(t, b, nil)
		inject(t, b, kalturatest.Fault{Kind: kalturatest.Down})
		once := func() error {
			return c.Do(t.Context(), Call{Service: "liveStream", Action: "get", Partner: partner, Params: Params{"entryId": entry}}, nil)
		}
		refused := func() bool {
			u, ok := errors.AsType[*Unavailable](once())
			require.True(t, ok)
			if u.Cause == CauseBreaker {
				require.False(t, u.Doubt)
			}
			return u.Cause == CauseBreaker
		}
		for range breakAfter {
			require.False(t, refused())
		}
		require.Equal(t, []bool{true}, seen.breaker)
		for _, pause := range []time.Duration{2, 4, 8, 10, 10} {
			require.True(t, refused())
			time.Sleep(pause*time.Second - time.Millisecond)
			require.True(t, refused())
			time.Sleep(time.Millisecond)
			require.False(t, refused(), "one call tries")
		}
		b.ClearFaults(0)
		inject(t, b, kalturatest.Fault{Kind: kalturatest.Slow, Delay: 5 * time.Second})
		time.Sleep(maxBreak)
		tried := make(chan error)
		go func() { tried <- once() }()
		synctest.Wait()
		require.True(t, refused(), "the others wait for it")
		require.NoError(t, <-tried)
		require.Equal(t, []bool{true, false}, seen.breaker)
		require.NoError(t, once())
	})
}

func TestACallGivenUpSaysNothingOfTheBackend(t *testing.T) {
	var opened []bool
	b := newBreaker(func(open bool) { opened = append(opened, open) })
	now := time.Now()
	for range 20 {
		p, allowed := b.enter(now, false)
		require.True(t, allowed)
		b.leave(p, now, unknown)
	}
	for range breakAfter + 3 { // those that were under way do not lengthen the pause
		b.leave(false, now, failed)
	}
	p, allowed := b.enter(now.Add(firstBreak), false)
	require.True(t, allowed)
	require.True(t, bool(p))
	b.leave(p, now, unknown)
	p, allowed = b.enter(now.Add(firstBreak), false)
	require.True(t, allowed && bool(p), "the next one tries")
	b.leave(p, now, answered)
	require.Equal(t, []bool{true, false}, opened)
}

// What nobody waits for keeps no publisher out, and does not let them in either.
func TestCallsAside(t *testing.T) {
	aside := map[string]func(context.Context, *Client) error{
		"beacon_beacon": func(ctx context.Context, c *Client) error {
			_, err := c.AddBeacon(ctx, partner, entry, "0_healthData", "{}")
			return err
		},
		"uploadToken": func(ctx context.Context, c *Client) error {
			_, err := c.UploadChunk(ctx, partner, "0_upload", strings.NewReader("0123"), 0, 4, false)
			return err
		},
		"liveStream": func(ctx context.Context, c *Client) error {
			_, err := c.PollEntry(ctx, partner, entry)
			return err
		},
		"cuepoint_cuepoint": func(ctx context.Context, c *Client) error {
			return c.Do(ctx, Call{Service: "cuepoint_cuepoint", Action: "add", Aside: true}, nil)
		},
	}
	for service, call := range aside {
		t.Run(service, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := backend(t, nil)
				c, seen := newClient(t, b, nil)
				publish := func() error {
					_, err := c.VerifyToken(t.Context(), partner, entry, "dj94kfit")
					return err
				}
				inject(t, b, kalturatest.Fault{Kind: kalturatest.Down, Service: service, Action: actionOf(service)})
				for range 3 * breakAfter {
					require.Error(t, call(t.Context(), c))
				}
				require.NoError(t, publish())
				require.Empty(t, seen.breaker)

				inject(t, b, kalturatest.Fault{Kind: kalturatest.Down, Action: "authenticate"})
				for range breakAfter {
					require.Error(t, publish())
				}
				require.Equal(t, []bool{true}, seen.breaker)
				time.Sleep(maxBreak)
				b.ClearFaults(0)
				away, ok := errors.AsType[*Unavailable](call(t.Context(), c))
				require.True(t, ok)
				require.Equal(t, CauseBreaker, away.Cause, "another call tries")
				require.NoError(t, publish())
				require.Equal(t, []bool{true, false}, seen.breaker)
			})
		})
	}
}

// actionOf is the action that a service is called with aside.
func actionOf(service string) string {
	return map[string]string{"uploadToken": "upload", "liveStream": "get"}[service]
}

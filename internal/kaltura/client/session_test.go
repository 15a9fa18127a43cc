package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/kaltura/ks"
)

func TestSessionsAreRenewedAtHalfTheirLife(t *testing.T) {
	for _, there := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := backend(t, nil)
			c, seen := newClient(t, b, func(o *Options) { o.StartSession = there })
			get := func() error { _, err := c.GetEntry(t.Context(), partner, entry); return err }
			require.NoError(t, get())
			time.Sleep(12*time.Hour - time.Second)
			require.NoError(t, get())
			require.Equal(t, 1, seen.renewed)
			time.Sleep(time.Second)
			require.NoError(t, get())
			require.Equal(t, 2, seen.renewed)

			b.RevokeSessions()
			require.NoError(t, get(), "a refused session is replaced at once")
			require.Equal(t, 3, seen.renewed)

			b.SetPartner(kalturatest.Partner{ID: -5, Secret: "changed"})
			before := b.State().Count("liveStream.get")
			err := get()
			if there {
				require.True(t, HasCode(err, "START_SESSION_ERROR"), "%v", err)
				return
			}
			require.True(t, HasCode(err, CodeInvalidSession), "%v", err)
			require.Equal(t, before+2, b.State().Count("liveStream.get"), "tried once more, not for ever")
		})
	}
}

func TestAnOldSessionIsUsedWhileItLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backend(t, nil)
		c, _ := newClient(t, b, func(o *Options) { o.StartSession = true })
		_, err := c.GetEntry(t.Context(), partner, entry)
		require.NoError(t, err)
		inject(t, b, kalturatest.Fault{Kind: kalturatest.Code, Code: "SERVICE_FORBIDDEN", Service: "session"})
		time.Sleep(13 * time.Hour)
		_, err = c.GetEntry(t.Context(), partner, entry)
		require.NoError(t, err)
		time.Sleep(12 * time.Hour)
		_, err = c.GetEntry(t.Context(), partner, entry)
		require.True(t, HasCode(err, "SERVICE_FORBIDDEN"))

		b.ClearFaults(0)
		inject(t, b, kalturatest.Fault{Kind: kalturatest.Lost, Service: "session"})
		_, err = c.Append(t.Context(), partner, Segment{Entry: entry})
		gone, ok := errors.AsType[*Unavailable](err)
		require.True(t, ok, "%v", err)
		require.False(t, gone.Doubt, "the session's answer was lost, the call was never made")
	})
}

func TestOneRenewsTheOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := 0
		s := &sessions{life: time.Hour, renewed: func() {}, renew: func(context.Context) (ks.Secret, error) {
			time.Sleep(time.Second)
			made++
			return ks.Secret("s"), nil
		}}
		got := make(chan ks.Secret)
		for range 10 {
			go func() {
				token, err := s.get(t.Context())
				if err != nil {
					token = ""
				}
				got <- token
			}()
		}
		gaveUp, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		synctest.Wait()
		_, err := s.get(gaveUp)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		for range 10 {
			require.EqualValues(t, "s", (<-got).Reveal())
		}
		require.Equal(t, 1, made)
		s.drop("another")
		_, err = s.get(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, made, "only the session in use is dropped")
	})
}

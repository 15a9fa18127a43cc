package run

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFirstErrorCancelsSiblings(t *testing.T) {
	boom := errors.New("boom")
	g := New(t.Context())
	require.NoError(t, g.Go("waits", func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}))
	require.NoError(t, g.Go("fails", func(context.Context) error { return boom }))
	err := g.Wait()
	require.ErrorIs(t, err, boom)
	require.ErrorContains(t, err, "fails")
	require.ErrorIs(t, g.Go("late", func(context.Context) error { return nil }), ErrClosed)
}

func TestPanicBecomesError(t *testing.T) {
	g := New(t.Context())
	require.NoError(t, g.Go("bad", func(context.Context) error { panic("ouch") }))
	p, ok := errors.AsType[*PanicError](g.Wait())
	require.True(t, ok)
	require.Equal(t, "bad", p.Name)
	require.NotEmpty(t, p.Stack)
}

func TestDetachedFailureLeavesSiblingsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(t.Context())
		var told error
		require.NoError(t, g.Detach("conn", func(context.Context) error { panic("one connection") }, func(err error) { told = err }))
		require.NoError(t, g.Go("server", func(ctx context.Context) error { <-ctx.Done(); return nil }))
		synctest.Wait()
		require.ErrorContains(t, told, "one connection")
		require.Equal(t, []string{"server"}, g.Living())
		require.NoError(t, g.Context().Err())
		require.NoError(t, g.Stop(errors.New("done")))
		require.Empty(t, g.Living())
	})
}

func TestCancelRefusesNewWorkAndKeepsCause(t *testing.T) {
	cause := errors.New("drain")
	g := New(t.Context())
	g.Cancel(cause)
	require.ErrorIs(t, g.Go("late", func(context.Context) error { return nil }), ErrClosed)
	require.ErrorIs(t, context.Cause(g.Context()), cause)
	require.NoError(t, g.Wait())
}

func TestGoroutineMayStartSiblingWhileWaiting(t *testing.T) {
	g := New(t.Context())
	ran := make(chan struct{})
	require.NoError(t, g.Go("parent", func(context.Context) error {
		return g.Go("child", func(context.Context) error { close(ran); return nil })
	}))
	require.NoError(t, g.Wait())
	<-ran
}

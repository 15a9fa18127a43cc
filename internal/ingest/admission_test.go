package ingest

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAdmission(t *testing.T) {
	a := NewAdmission(4, 2)
	here, there := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.2")
	first, ok := a.Enter(here)
	require.True(t, ok)
	require.False(t, a.Full(here))
	second, ok := a.Enter(here)
	require.True(t, ok)
	_, ok = a.Enter(here)
	require.False(t, ok, "two of one address may wait")
	require.True(t, a.Full(here))
	require.False(t, a.Full(there))

	first.Published()
	third, ok := a.Enter(here)
	require.True(t, ok, "who publishes does not wait")
	fourth, ok := a.Enter(there)
	require.True(t, ok)
	_, ok = a.Enter(there)
	require.False(t, ok, "four may be open")
	fourth.Leave()
	fourth.Leave()
	require.False(t, a.Full(there))
	for _, p := range []*Place{first, second, third} {
		p.Leave()
	}
	require.Empty(t, a.waiting)
	require.Zero(t, a.open)

	v6 := NewAdmission(0, 1)
	_, ok = v6.Enter(netip.MustParseAddr("2001:db8::1"))
	require.True(t, ok)
	require.True(t, v6.Full(netip.MustParseAddr("2001:db8::2")), "one network")
	require.False(t, v6.Full(netip.MustParseAddr("2001:db8:0:1::2")))
	require.False(t, v6.Full(netip.Addr{}))
	require.False(t, NewAdmission(0, 0).Full(here))
}

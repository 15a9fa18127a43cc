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

// Whoever has an IPv6 network has 2^64 addresses in it.
func TestAdmissionCountsByOwner(t *testing.T) {
	for name, c := range map[string]struct {
		first, second string
		together      bool
	}{
		"one IPv4 address":              {"192.0.2.1", "192.0.2.1", true},
		"two IPv4 addresses":            {"192.0.2.1", "192.0.2.2", false},
		"IPv4 and the same in IPv6":     {"192.0.2.1", "::ffff:192.0.2.1", true},
		"two mapped IPv4 addresses":     {"::ffff:192.0.2.1", "::ffff:192.0.2.2", false},
		"two addresses of one network":  {"2001:db8::1", "2001:db8::ffff:2", true},
		"two networks":                  {"2001:db8::1", "2001:db8:0:1::1", false},
		"one network at two interfaces": {"fe80::1%eth0", "fe80::2%eth1", true},
		"no address":                    {"", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			parse := func(s string) (a netip.Addr) {
				if s != "" {
					a = netip.MustParseAddr(s)
				}
				return a
			}
			a := NewAdmission(10, 1)
			p, ok := a.Enter(parse(c.first))
			require.True(t, ok)
			q, ok := a.Enter(parse(c.second))
			require.Equal(t, !c.together, ok)
			if ok {
				q.Leave()
			}
			p.Published()
			q, ok = a.Enter(parse(c.second))
			require.True(t, ok, "who publishes waits no longer")
			q.Leave()
			p.Leave()
			require.Empty(t, a.waiting)
			require.Zero(t, a.open)
		})
	}
}

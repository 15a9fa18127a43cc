package rtmp

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

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
			a := admission{maxOpen: 10, maxWaiting: 1}
			p, ok := a.enter(parse(c.first))
			require.True(t, ok)
			q, ok := a.enter(parse(c.second))
			require.Equal(t, !c.together, ok)
			if ok {
				q.leave()
			}
			p.published()
			q, ok = a.enter(parse(c.second))
			require.True(t, ok, "who publishes waits no longer")
			q.leave()
			p.leave()
			require.Empty(t, a.waiting)
			require.Zero(t, a.open)
		})
	}
}

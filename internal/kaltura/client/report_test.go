package client

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/kaltura/kalturatest"
)

func reporter(t *testing.T, change func(*kalturatest.Options)) (*kalturatest.Backend, *Client) {
	t.Helper()
	b := backend(t, change)
	c, err := New(Options{URL: "http://backend.example.com", Partner: -5, Secret: secret, Transport: direct{b}})
	require.NoError(t, err)
	return b, c
}

func TestNodeIsMadeEnabledAndReported(t *testing.T) {
	b, c := reporter(t, nil)
	self := NewNode{Type: "KalturaWowzaMediaServerNode", Name: host, Host: host, Application: "kLive"}
	made, err := c.MakeNode(t.Context(), self)
	require.NoError(t, err)
	require.Equal(t, Int(NodeDisabled), made.Status)
	_, err = c.ReportNode(t.Context(), self)
	require.True(t, HasCode(err, "HOST_NAME_ALREADY_EXISTS"), "the backend does not see disabled nodes")
	require.NoError(t, c.EnableNode(t.Context(), made.ID))
	known, err := c.ReportNode(t.Context(), self)
	require.NoError(t, err)
	require.Equal(t, made.ID, known.ID)
	require.Equal(t, Int(NodeActive), known.Status)
	require.False(t, b.State().Nodes[0].Heartbeat.IsZero())
	_, err = c.MakeNode(t.Context(), self)
	require.True(t, HasCode(err, "HOST_NAME_ALREADY_EXISTS"))
}

// The exact name counts; a name in another case is better than none.
func TestANodeIsFoundByName(t *testing.T) {
	other := kalturatest.Node{Partner: partner, HostName: "MS1.Example.com", Status: kalturatest.NodeActive}
	exact := kalturatest.Node{Partner: partner, HostName: host, Status: kalturatest.NodeDisabled}
	for want, nodes := range map[string][]kalturatest.Node{
		"MS1.Example.com": {other},
		host:              {other, exact},
		"":                {},
	} {
		_, c := reporter(t, func(o *kalturatest.Options) { o.Nodes = nodes })
		found, ok, err := c.FindNode(t.Context(), host)
		require.NoError(t, err)
		require.Equal(t, len(nodes) > 0, ok)
		require.EqualValues(t, want, found.HostName)
	}
}

func TestMediaServerIsReported(t *testing.T) {
	b, c := reporter(t, func(o *kalturatest.Options) { o.Legacy = true })
	known, err := c.ReportMediaServer(t.Context(), host)
	require.NoError(t, err)
	require.NotZero(t, known.ID)
	require.Equal(t, -5, b.State().Calls[0].Partner, "without impersonation")
	_, c = reporter(t, nil)
	_, err = c.ReportMediaServer(t.Context(), host)
	require.True(t, HasCode(err, "SERVICE_DOES_NOT_EXISTS"))
}

func TestBeaconIsTaken(t *testing.T) {
	b, c := reporter(t, nil)
	taken, err := c.AddBeacon(t.Context(), partner, entry, "0_healthData", `{"alerts":[]}`)
	require.NoError(t, err)
	require.True(t, taken)
	sent := b.State().Beacons
	require.Len(t, sent, 1)
	require.Equal(t, entry, sent[0].Object)
	require.True(t, sent[0].Valid)
	require.Equal(t, partner, b.State().Calls[0].Partner)
}

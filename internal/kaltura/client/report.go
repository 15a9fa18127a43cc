package client

import "context"

// The states of a server node that a media server must tell apart.
const (
	NodeActive   = 1
	NodeDisabled = 2 // as every node is made, and as an operator may leave it
)

// MakeNode adds the server; the backend makes it disabled. It is not
// idempotent: after an *Unavailable with Doubt the node may be there.
func (c *Client) MakeNode(ctx context.Context, n NewNode) (made Node, err error) {
	return made, c.Do(ctx, Call{Service: "serverNode", Action: "add", Params: Params{"serverNode": n.params()}}, &made)
}

// EnableNode makes a disabled node one that may carry live entries.
func (c *Client) EnableNode(ctx context.Context, id Int) error {
	return c.Do(ctx, Call{Service: "serverNode", Action: "enable", Idempotent: true, Params: Params{"serverNodeId": int64(id)}}, nil)
}

// ReportNode says that the server is up. Once begun it must be repeated within
// 120 s. A node that is unknown is added, and enabled. known is the node that
// the backend took it for.
func (c *Client) ReportNode(ctx context.Context, n NewNode) (known Node, err error) {
	return known, c.Do(ctx, Call{Service: "serverNode", Action: "reportStatus", Idempotent: true,
		Params: Params{"hostName": n.Host, "serverNode": n.params(), "serverNodeStatus": NodeActive}}, &known)
}

// ReportMediaServer is the heartbeat of backends before 2016: the node is made
// by its first report. The status has no fields.
func (c *Client) ReportMediaServer(ctx context.Context, host string) (known Node, err error) {
	return known, c.Do(ctx, Call{Service: "mediaServer", Action: "reportStatus", Idempotent: true, Params: Params{
		"hostname": host, "mediaServerStatus": Params{"objectType": "KalturaMediaServerStatus"}}}, &known)
}

// beaconOfEntry is the relatedObjectType of a beacon about an entry.
const beaconOfEntry = 4

// AddBeacon leaves a message about an entry's health. The event says what it
// is about, such as "0_healthData"; data is a JSON object. taken is false when
// the backend had no room for it; it is never worth repeating.
func (c *Client) AddBeacon(ctx context.Context, partner int, entry, event, data string) (taken bool, err error) {
	var answer Bool
	err = c.Do(ctx, Call{Service: "beacon_beacon", Action: "add", Partner: partner, Aside: true, Params: Params{"shouldLog": 1, "beacon": Params{
		"objectType": "KalturaBeacon", "relatedObjectType": beaconOfEntry, "eventType": event, "objectId": entry, "privateData": data}}}, &answer)
	return bool(answer), err
}

package client

import (
	"context"
	"strings"
)

// Node is a server as the backend knows it.
type Node struct {
	ID       Int  `json:"id"`
	HostName Text `json:"hostName"`
	Status   Int  `json:"status"` // 1 active, 2 disabled, 3 deleted, 4 not heard of
}

// NewNode is how a media server introduces itself.
type NewNode struct {
	Type        string // KalturaWowzaMediaServerNode, KalturaLiveClusterMediaServerNode
	Name        string
	Host        string
	Application string
}

func (n NewNode) params() Params {
	return Params{"objectType": n.Type, "name": n.Name, "hostName": n.Host, "applicationName": n.Application}
}

// FindNode reads the node with this host name: exactly, or else in another
// case, because the backend's database need not tell them apart. ok is false
// when there is none, or none that the partner may see.
func (c *Client) FindNode(ctx context.Context, host string) (n Node, ok bool, err error) {
	var l List[Node]
	err = c.Do(ctx, Call{Service: "serverNode", Action: "list", Idempotent: true, Params: Params{
		"filter": Params{"objectType": "KalturaServerNodeFilter", "hostNameLike": host}, "pager": wholePage()}}, &l)
	for _, one := range l.Objects {
		switch {
		case string(one.HostName) == host:
			return one, true, err
		case !ok && strings.EqualFold(string(one.HostName), host):
			n, ok = one, true
		}
	}
	return n, ok, err
}

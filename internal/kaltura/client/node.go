package client

import (
	"context"
	"errors"
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

// AddNode makes the server known and enables it. A host name that exists is
// left as the operator has it, even disabled.
func (c *Client) AddNode(ctx context.Context, n NewNode) error {
	if _, known, err := c.FindNode(ctx, n.Host); known || err != nil {
		return err
	}
	var made Node
	err := c.Do(ctx, Call{Service: "serverNode", Action: "add", Params: Params{"serverNode": n.params()}}, &made)
	if HasCode(err, "HOST_NAME_ALREADY_EXISTS") {
		return nil
	}
	if lost, ok := errors.AsType[*Unavailable](err); ok && lost.Doubt {
		// The node may be there, but disabled, as all are made.
		found, known, findErr := c.FindNode(ctx, n.Host)
		if findErr == nil && known {
			made, err = found, nil
		}
	}
	if err != nil {
		return err
	}
	return c.Do(ctx, Call{Service: "serverNode", Action: "enable", Idempotent: true, Params: Params{"serverNodeId": int64(made.ID)}}, nil)
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

// Heartbeat says that the server is up. Once begun it must be repeated within
// 120 s. A node that is unknown is added.
func (c *Client) Heartbeat(ctx context.Context, n NewNode) error {
	return c.Do(ctx, Call{Service: "serverNode", Action: "reportStatus", Idempotent: true,
		Params: Params{"hostName": n.Host, "serverNode": n.params(), "serverNodeStatus": 1}}, nil)
}

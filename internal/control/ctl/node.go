package ctl

import (
	"context"
	"strconv"
	"strings"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
)

// NodeCommand is `klive ctl node`.
type NodeCommand struct{}

// Run prints the node.
func (*NodeCommand) Run(ctx context.Context, c *Command, to *IO) error {
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		p, err := klivev1.NewNodeServiceClient(conn).GetNode(ctx, &klivev1.GetNodeRequest{Name: "node"})
		if err != nil {
			return err
		}
		return c.printNode(to, p)
	})
}

// DrainCommand is `klive ctl drain`.
type DrainCommand struct{}

// Run begins the drain and prints the node.
func (*DrainCommand) Run(ctx context.Context, c *Command, to *IO) error {
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		p, err := klivev1.NewNodeServiceClient(conn).DrainNode(ctx, &klivev1.DrainNodeRequest{Name: "node"})
		if err != nil {
			return err
		}
		return c.printNode(to, p)
	})
}

func (c *Command) printNode(to *IO, p *klivev1.Node) error {
	if c.JSON {
		return printJSON(to.Out, p)
	}
	pairs := []string{
		"Node", p.GetId(), "Version", p.GetVersion(), "Started", when(p.GetStartTime()),
		"State", strings.TrimPrefix(p.GetState().String(), "NODE_STATE_"),
		"Streams", strconv.Itoa(int(p.GetStreamCount())), "On air", strconv.Itoa(int(p.GetOnAirCount())),
		"Publishers", strconv.Itoa(int(p.GetSessionCount())),
	}
	for _, l := range p.GetListeners() {
		pairs = append(pairs, "Listener "+l.GetName(), l.GetNetwork()+" "+l.GetAddress())
	}
	return details(to.Out, pairs...)
}

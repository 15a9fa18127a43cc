package app

import (
	"context"
	"os"

	"github.com/klive-media/klive/internal/control"
	"github.com/klive-media/klive/internal/stream"
)

// node is this server as the control API shows it.
type node Server

var _ control.Node = (*node)(nil)

// Info implements control.Node.
func (n *node) Info() control.NodeInfo {
	id, err := os.Hostname()
	if err != nil {
		id = "klive"
	}
	return control.NodeInfo{ID: id, Version: n.opts.Version, Start: n.start, Listeners: n.listeners}
}

// Drain implements control.Node.
func (n *node) Drain(context.Context) error {
	s := (*Server)(n)
	if s.registry.Draining() {
		return nil
	}
	s.beginDrain()
	s.events.Record(stream.Event{Type: stream.NodeDraining, Message: "the server takes no new streams; those on air go on"})
	return nil
}

// Draining implements control.Node.
func (n *node) Draining() <-chan struct{} { return n.health.Draining() }

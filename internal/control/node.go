package control

import (
	"context"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/stream"
)

// nodeService serves klive.v1.NodeService.
type nodeService struct {
	klivev1.UnimplementedNodeServiceServer
	node    Node
	entries stream.Entries
	live    stream.Live
}

func (s *nodeService) GetNode(ctx context.Context, r *klivev1.GetNodeRequest) (*klivev1.Node, error) {
	if err := checkSingleton(r.GetName(), nodeName); err != nil {
		return nil, err
	}
	return s.describe(ctx)
}

func (s *nodeService) DrainNode(ctx context.Context, r *klivev1.DrainNodeRequest) (*klivev1.Node, error) {
	if err := checkSingleton(r.GetName(), nodeName); err != nil {
		return nil, err
	}
	if err := s.node.Drain(ctx); err != nil {
		return nil, err
	}
	return s.describe(ctx)
}

func (s *nodeService) describe(ctx context.Context) (*klivev1.Node, error) {
	entries, err := s.entries.List(ctx)
	if err != nil {
		return nil, err
	}
	statuses, _ := s.live.Statuses()
	info := s.node.Info()
	out := &klivev1.Node{
		Name:        nodeName,
		Id:          info.ID,
		Version:     info.Version,
		StartTime:   timestamp(info.Start),
		State:       klivev1.NodeState_NODE_STATE_SERVING,
		StreamCount: int32(len(merge(entries, statuses))), //nolint:gosec // a count
	}
	if isClosed(s.node.Draining()) {
		out.State = klivev1.NodeState_NODE_STATE_DRAINING
	}
	for _, status := range statuses {
		if status.State == stream.Broadcasting || status.State == stream.Playable {
			out.OnAirCount++
		}
	}
	for _, session := range s.live.Sessions("") {
		if session.State.Live() {
			out.SessionCount++
		}
	}
	for _, l := range info.Listeners {
		out.Listeners = append(out.Listeners, &klivev1.Listener{Name: l.Name, Address: l.Address, Network: l.Network})
	}
	return out, nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

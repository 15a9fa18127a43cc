package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
)

// WatchCommand is `klive ctl watch`.
type WatchCommand struct {
	Streams WatchStreams `cmd:"" help:"Print each change of a stream."`
	Events  WatchEvents  `cmd:"" help:"Print each event."`
}

// WatchStreams is `klive ctl watch streams`.
type WatchStreams struct {
	Filter string `help:"Only streams that fit, for example: state = PLAYABLE." placeholder:"FILTER"`
	Resume string `help:"Go on after this resume token." placeholder:"TOKEN"`
}

// Run prints until ctx ends.
func (w *WatchStreams) Run(ctx context.Context, c *Command, to *IO) error {
	return c.connect(ctx, func(ctx context.Context, conn *client) error {
		stream, err := klivev1.NewStreamServiceClient(conn).WatchStreams(ctx, &klivev1.WatchStreamsRequest{Filter: w.Filter, ResumeToken: w.Resume})
		if err != nil {
			return err
		}
		return follow(ctx, stream, func(m *klivev1.WatchStreamsResponse) error {
			if c.JSON {
				return printJSON(to.Out, m)
			}
			switch change := m.GetChange().(type) {
			case *klivev1.WatchStreamsResponse_Stream:
				cells := slices.DeleteFunc(streamRow(change.Stream), func(cell string) bool { return cell == "" })
				_, err = fmt.Fprintln(to.Out, clean(strings.Join(cells, "  ")))
			case *klivev1.WatchStreamsResponse_Deleted:
				_, err = fmt.Fprintln(to.Out, clean(id(change.Deleted)), " deleted")
			case *klivev1.WatchStreamsResponse_Synced:
				_, err = fmt.Fprintln(to.Err, "that is all there is; waiting for changes")
			}
			return err
		})
	})
}

// WatchEvents is `klive ctl watch events`.
type WatchEvents struct {
	Filter string `help:"Only events that fit, for example: type = SESSION_ENDED." placeholder:"FILTER"`
	Resume string `help:"Go on after this resume token." placeholder:"TOKEN"`
}

// Run prints until ctx ends.
func (w *WatchEvents) Run(ctx context.Context, c *Command, to *IO) error {
	return c.connect(ctx, func(ctx context.Context, conn *client) error {
		stream, err := klivev1.NewEventServiceClient(conn).WatchEvents(ctx, &klivev1.WatchEventsRequest{Filter: w.Filter, ResumeToken: w.Resume})
		if err != nil {
			return err
		}
		return follow(ctx, stream, func(m *klivev1.WatchEventsResponse) error {
			if c.JSON {
				return printJSON(to.Out, m)
			}
			switch change := m.GetChange().(type) {
			case *klivev1.WatchEventsResponse_Event:
				return c.printEvent(to, change.Event)
			case *klivev1.WatchEventsResponse_Synced:
				_, err = fmt.Fprintln(to.Err, "that is all there is; waiting for events")
			}
			return err
		})
	})
}

// follow prints each message. To be interrupted is how a watch ends, and no
// error.
func follow[T any, M interface {
	*T
	proto.Message
}](ctx context.Context, stream grpc.ServerStreamingClient[T], show func(M) error) error {
	for {
		m, err := stream.Recv()
		switch {
		case ctx.Err() != nil || errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := show(m); err != nil {
			return err
		}
	}
}

package ctl

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
)

// EventsCommand is `klive ctl events`.
type EventsCommand struct {
	Filter string `help:"Only events that fit, for example: type = SESSION_ENDED." placeholder:"FILTER"`
	Limit  int    `help:"At most this many, the newest." default:"100"`
}

// Run prints the newest events, the newest last, as a log reads.
func (e *EventsCommand) Run(ctx context.Context, c *Command, to *IO) error {
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		service := klivev1.NewEventServiceClient(conn)
		var events []*klivev1.Event
		for token := ""; len(events) < e.Limit; {
			page, err := service.ListEvents(ctx, &klivev1.ListEventsRequest{
				PageSize:  int32(min(e.Limit-len(events), pageSize)), //nolint:gosec // at most pageSize
				PageToken: token, Filter: e.Filter,
			})
			if err != nil {
				return err
			}
			events = append(events, page.GetEvents()...)
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
		slices.Reverse(events)
		for _, event := range events {
			if err := c.printEvent(to, event); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *Command) printEvent(to *IO, e *klivev1.Event) error {
	if c.JSON {
		return printJSON(to.Out, e)
	}
	parts := []string{when(e.GetEventTime()), eventType(e.GetType())}
	for _, part := range []string{id(e.GetStream()), id(e.GetSession()), e.GetReason(), e.GetMessage()} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(e.GetAttributes())) {
		parts = append(parts, key+"="+e.GetAttributes()[key])
	}
	_, err := fmt.Fprintln(to.Out, clean(strings.Join(parts, "  ")))
	return err
}

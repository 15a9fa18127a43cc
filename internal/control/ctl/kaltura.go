package ctl

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
)

// KalturaCommand is `klive ctl kaltura`.
type KalturaCommand struct {
	Status KalturaStatus `cmd:"" default:"1" help:"Show the backend, the entries it was told of and what waits for it."`
	Resync KalturaResync `cmd:"" help:"Tell the backend everything again and try what waits, at once."`
}

const bridgeName = "kalturaBridge"

// KalturaStatus is `klive ctl kaltura status`.
type KalturaStatus struct{}

// Run prints the bridge.
func (*KalturaStatus) Run(ctx context.Context, c *Command, to *IO) error {
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		p, err := klivev1.NewKalturaBridgeServiceClient(conn).GetKalturaBridge(ctx, &klivev1.GetKalturaBridgeRequest{Name: bridgeName})
		if err != nil {
			return err
		}
		return c.printBridge(to, p)
	})
}

// KalturaResync is `klive ctl kaltura resync`.
type KalturaResync struct{}

// Run asks for the resync and prints the bridge as it is at its begin.
func (*KalturaResync) Run(ctx context.Context, c *Command, to *IO) error {
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		p, err := klivev1.NewKalturaBridgeServiceClient(conn).ResyncKalturaBridge(ctx, &klivev1.ResyncKalturaBridgeRequest{Name: bridgeName})
		if err != nil {
			return err
		}
		return c.printBridge(to, p)
	})
}

// printBridge writes a page: the backend and this server in it, then what the
// backend was told, then what waits for it.
func (c *Command) printBridge(to *IO, p *klivev1.KalturaBridge) error {
	if c.JSON {
		return printJSON(to.Out, p)
	}
	b, n := p.GetBackend(), p.GetNode()
	mode := strings.ToLower(strings.TrimPrefix(p.GetMode().String(), "KALTURA_MODE_"))
	err := details(to.Out,
		"Backend", b.GetUrl(), "Mode", fmt.Sprintf("%s, partner %d", mode, b.GetPartnerId()),
		"Answers", since(b.GetAvailable(), when(b.GetChangeTime())), "Last answer", when(b.GetLastAnswerTime()), "Backend error", b.GetError(),
		"Host", n.GetHostName(), "Application", n.GetApplication(), "Registered", registered(n), "Last heartbeat", when(n.GetLastReportTime()),
		"Node error", n.GetError(),
		"Entries", strconv.Itoa(int(p.GetRegistrationCount())), "Deliveries", pendingCounts(p.GetPendingDeliveryCounts()))
	if err != nil {
		return err
	}
	registrations := make([][]string, 0, len(p.GetRegistrations()))
	for _, r := range p.GetRegistrations() {
		registrations = append(registrations, registrationRow(r))
	}
	err = section(to, []string{"STREAM", "SERVER", "STATE", "SINCE", "TOLD", "NEXT", "RENDITIONS", "LADDER", "NOTES"}, registrations, p.GetRegistrationCount())
	if err != nil {
		return err
	}
	deliveries := make([][]string, 0, len(p.GetPendingDeliveries()))
	for _, d := range p.GetPendingDeliveries() {
		deliveries = append(deliveries, pendingRow(d))
	}
	return section(to, []string{"STREAM", "RECORDING", "RENDITION", "PIECE", "LENGTH", "DELIVERY", "TRIED", "NEXT", "TROUBLE"}, deliveries, p.GetPendingDeliveryCounts().GetTotal())
}

// section writes a table under an empty line, and how many rows the server
// left out; nothing when it is empty.
func section(to *IO, head []string, rows [][]string, total int32) error {
	if len(rows) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(to.Out); err != nil {
		return err
	}
	if err := table(to.Out, head, rows); err != nil {
		return err
	}
	if more := int(total) - len(rows); more > 0 {
		if _, err := fmt.Fprintf(to.Out, "and %d more\n", more); err != nil {
			return err
		}
	}
	return nil
}

func since(yes bool, when string) string {
	text := "no"
	if yes {
		text = "yes"
	}
	if when != "" {
		text += ", since " + when
	}
	return text
}

func registered(n *klivev1.KalturaNode) string {
	switch {
	case !n.GetRegistered():
		return "no"
	case n.GetId() == 0:
		return "yes"
	}
	return "yes, as server node " + strconv.FormatInt(n.GetId(), 10)
}

func pendingCounts(p *klivev1.PendingDeliveryCounts) string {
	if p.GetTotal() == 0 {
		return "none waits"
	}
	var parts []string
	for _, part := range []struct {
		count int32
		what  string
	}{
		{p.GetRefused(), "refused"}, {p.GetInDoubt(), "in doubt"}, {p.GetSending(), "under way"}, {p.GetQueued(), "queued"},
	} {
		if part.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.count, part.what))
		}
	}
	return strings.Join(parts, ", ")
}

func registrationRow(r *klivev1.KalturaRegistration) []string {
	renditions := make([]string, len(r.GetStreams()))
	for i, s := range r.GetStreams() {
		renditions[i] = s.GetRendition()
		if s.GetHeight() > 0 {
			renditions[i] += fmt.Sprintf(" %dp", s.GetHeight())
		}
	}
	ladder := make([]string, len(r.GetLadder()))
	for i, rung := range r.GetLadder() {
		ladder[i] = rung.GetId()
	}
	return []string{
		id(r.GetStream()), serverIndex(r.GetServerIndex()), fmt.Sprintf("%s (%d)", state(r.GetState()), r.GetKalturaStatus()),
		when(r.GetStateTime()), when(r.GetLastReportTime()), when(r.GetNextReportTime()),
		strings.Join(renditions, ", "), strings.Join(ladder, " "), strings.Join(registrationNotes(r), "; "),
	}
}

// registrationNotes is what an operator should know of an entry beside its
// state.
func registrationNotes(r *klivev1.KalturaRegistration) []string {
	var notes []string
	if r.GetTakenOver() {
		notes = append(notes, "taken over by another host")
	}
	if r.GetPreview() {
		notes = append(notes, "preview")
	}
	if r.GetUnregisterDeadline() != nil {
		notes = append(notes, "the end is told by "+when(r.GetUnregisterDeadline()))
	}
	if r.GetRecordedEntryId() != "" {
		notes = append(notes, "recorded as "+r.GetRecordedEntryId())
	}
	if r.GetLadderError() != "" {
		notes = append(notes, "no ladder: "+r.GetLadderError())
	}
	if r.GetError() != "" {
		notes = append(notes, fmt.Sprintf("failed %s: %s", count(r.GetFailedAttemptCount(), "time"), r.GetError()))
	}
	return notes
}

func pendingRow(d *klivev1.PendingDelivery) []string {
	way := d.GetDelivery()
	number := strconv.Itoa(int(d.GetNumber()))
	if d.GetLast() {
		number += " (last)"
	}
	return []string{
		streamOf(d.GetRecording()), id(d.GetRecording()), d.GetRendition(), number, length(d.GetDuration()),
		deliveryState(way.GetState()), strconv.Itoa(int(way.GetAttemptCount())), when(way.GetNextAttemptTime()), trouble(way),
	}
}

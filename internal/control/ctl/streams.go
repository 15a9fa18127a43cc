package ctl

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
)

// StreamsCommand is `klive ctl streams`.
type StreamsCommand struct {
	List        StreamsList      `cmd:"" default:"withargs" help:"List streams."`
	Get         StreamsGet       `cmd:"" help:"Show one stream."`
	Create      StreamsCreate    `cmd:"" help:"Create a stream and print its secrets."`
	Update      StreamsUpdate    `cmd:"" help:"Change a stream."`
	Delete      StreamsDelete    `cmd:"" help:"Delete a stream; its publishers are dismissed."`
	Stop        StreamsStop      `cmd:"" help:"Dismiss the publishers and refuse them for the reconnect window."`
	Split       StreamsSplit     `cmd:"" help:"Close the pieces of the recording that grow now, so that a clip can be made."`
	RotateToken StreamsRotate    `cmd:"" help:"Replace the token of a stream and print the new one."`
	Addresses   StreamsAddresses `cmd:"" help:"Print where to publish a stream, secrets included."`
}

const pageSize = 500

func streamName(id string) string { return "streams/" + strings.TrimPrefix(id, "streams/") }

// StreamsList is `klive ctl streams list`.
type StreamsList struct {
	Filter string `help:"Only streams that fit, for example: state = PLAYABLE." placeholder:"FILTER"`
}

// Run prints every page.
func (s *StreamsList) Run(ctx context.Context, c *Command, to *IO) error {
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		service := klivev1.NewStreamServiceClient(conn)
		var rows [][]string
		for token := ""; ; {
			page, err := service.ListStreams(ctx, &klivev1.ListStreamsRequest{PageSize: pageSize, PageToken: token, Filter: s.Filter})
			if err != nil {
				return err
			}
			for _, p := range page.GetStreams() {
				if c.JSON {
					if err := printJSON(to.Out, p); err != nil {
						return err
					}
				}
				rows = append(rows, streamRow(p))
			}
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
		if c.JSON {
			return nil
		}
		return table(to.Out, []string{"ID", "STATE", "BROADCASTS", "SINCE", "NAME"}, rows)
	})
}

func streamRow(p *klivev1.Stream) []string {
	var broadcasts []string
	since := ""
	for _, b := range p.GetBroadcasts() {
		text := fmt.Sprintf("%s: %d renditions", serverIndex(b.GetServerIndex()), len(b.GetRenditions()))
		if d := b.GetReconnectDeadline(); d != nil {
			text += ", waits until " + when(d)
		}
		broadcasts = append(broadcasts, text)
		if since == "" {
			since = when(b.GetStartTime())
		}
	}
	return []string{p.GetId(), state(p.GetState()), strings.Join(broadcasts, "; "), since, p.GetDisplayName()}
}

func serverIndex(i int32) string {
	switch i {
	case 0:
		return "primary"
	case 1:
		return "backup"
	}
	return strconv.Itoa(int(i))
}

// StreamsGet is `klive ctl streams get`.
type StreamsGet struct {
	ID string `arg:"" help:"Id of the stream."`
}

// Run prints the stream.
func (s *StreamsGet) Run(ctx context.Context, c *Command, to *IO) error {
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		p, err := klivev1.NewStreamServiceClient(conn).GetStream(ctx, &klivev1.GetStreamRequest{Name: streamName(s.ID)})
		if err != nil {
			return err
		}
		return c.printStream(to, p)
	})
}

func (c *Command) printStream(to *IO, p *klivev1.Stream) error {
	if c.JSON {
		return printJSON(to.Out, p)
	}
	var labels []string
	for _, key := range slices.Sorted(maps.Keys(p.GetLabels())) {
		labels = append(labels, key+"="+p.GetLabels()[key])
	}
	partner := ""
	if p.GetPartnerId() != 0 {
		partner = strconv.Itoa(int(p.GetPartnerId()))
	}
	pairs := []string{
		"Id", p.GetId(), "Name", p.GetDisplayName(), "State", state(p.GetState()), "Partner", partner,
		"Labels", strings.Join(labels, ", "),
		"Origin", strings.ToLower(strings.TrimPrefix(p.GetOrigin().String(), "STREAM_ORIGIN_")),
		"Created", when(p.GetCreateTime()), "Updated", when(p.GetUpdateTime()), "Etag", p.GetEtag(), "Token", p.GetToken(),
	}
	switch {
	case p.GetSrtPassphrase() != "":
		pairs = append(pairs, "SRT passphrase", p.GetSrtPassphrase())
	case p.GetSrtEncrypted():
		pairs = append(pairs, "SRT", "with a passphrase of its own")
	}
	for _, b := range p.GetBroadcasts() {
		pairs = append(pairs, "Broadcast", fmt.Sprintf("%s %s, %s since %s", serverIndex(b.GetServerIndex()), b.GetId(), state(b.GetState()), when(b.GetStartTime())))
		pairs = append(pairs, "  Playable since", when(b.GetPlayableTime()), "  Policy", policy(b.GetPolicy()))
		for _, r := range b.GetRenditions() {
			pairs = append(pairs, "  Rendition "+renditionLabel(r), tracks(r.GetTracks()))
		}
	}
	return details(to.Out, pairs...)
}

// policy says what is wished for a broadcast; "" when nothing is.
func policy(p *klivev1.BroadcastPolicy) string {
	var parts []string
	if p.GetDvr().GetEnabled() {
		parts = append(parts, strings.TrimSpace("DVR "+length(p.GetDvr().GetWindow())))
	}
	switch p.GetRecordingMode() {
	case klivev1.RecordingMode_RECORDING_MODE_UNSPECIFIED, klivev1.RecordingMode_RECORDING_MODE_OFF:
	default:
		parts = append(parts, "recorded "+recordingMode(p.GetRecordingMode()))
	}
	if s := p.GetSegmentDuration(); s != nil {
		parts = append(parts, "segments of "+length(s))
	}
	if p.GetLowLatency() {
		parts = append(parts, "low latency")
	}
	return strings.Join(parts, ", ")
}

// renditionLabel adds the ingest index where the id is another one.
func renditionLabel(r *klivev1.Rendition) string {
	index := strconv.Itoa(int(r.GetIngestIndex()))
	if r.GetIngestIndex() == 0 || index == r.GetId() {
		return r.GetId()
	}
	return r.GetId() + " (ingest " + index + ")"
}

// StreamsCreate is `klive ctl streams create`.
type StreamsCreate struct {
	ID            string            `arg:"" help:"Id of the new stream."`
	DisplayName   string            `name:"name" help:"A name for people."`
	Partner       int32             `help:"Kaltura partner of the stream."`
	Label         map[string]string `help:"A label, as often as needed." placeholder:"KEY=VALUE"`
	StreamToken   string            `help:"Token to use; without it a random one is made." placeholder:"TOKEN"`
	SRTPassphrase string            `name:"srt-passphrase" help:"Passphrase that SRT encoders of the stream must have, 10 to 79 bytes." placeholder:"PASSPHRASE"`
}

// Run prints the stream with its secrets.
func (s *StreamsCreate) Run(ctx context.Context, c *Command, to *IO) error {
	wish := &klivev1.Stream{DisplayName: s.DisplayName, PartnerId: s.Partner, Labels: s.Label}
	if s.SRTPassphrase != "" {
		wish.SrtPassphrase = &s.SRTPassphrase
	}
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		p, err := klivev1.NewStreamServiceClient(conn).CreateStream(ctx, &klivev1.CreateStreamRequest{
			StreamId: s.ID,
			Token:    s.StreamToken,
			Stream:   wish,
		})
		if err != nil {
			return err
		}
		return c.printStream(to, p)
	})
}

// StreamsUpdate is `klive ctl streams update`.
type StreamsUpdate struct {
	ID            string            `arg:"" help:"Id of the stream."`
	DisplayName   *string           `name:"name" help:"A name for people."`
	Partner       *int32            `help:"Kaltura partner of the stream; 0: none."`
	Label         map[string]string `help:"A label, as often as needed; they replace all there were." placeholder:"KEY=VALUE"`
	SRTPassphrase *string           `name:"srt-passphrase" help:"Passphrase that SRT encoders of the stream must have from their next connection on, 10 to 79 bytes; empty (--srt-passphrase=): none of its own." placeholder:"PASSPHRASE"`
	Etag          string            `help:"Change only if this is still the stream's etag."`
}

// Run changes the fields that were given and prints the stream.
func (s *StreamsUpdate) Run(ctx context.Context, c *Command, to *IO) error {
	wish := &klivev1.Stream{Name: streamName(s.ID), Etag: s.Etag, Labels: s.Label}
	mask := &fieldmaskpb.FieldMask{}
	if s.DisplayName != nil {
		wish.DisplayName = *s.DisplayName
		mask.Paths = append(mask.Paths, "display_name")
	}
	if s.Partner != nil {
		wish.PartnerId = *s.Partner
		mask.Paths = append(mask.Paths, "partner_id")
	}
	if s.Label != nil {
		mask.Paths = append(mask.Paths, "labels")
	}
	if s.SRTPassphrase != nil {
		wish.SrtPassphrase = s.SRTPassphrase
		mask.Paths = append(mask.Paths, "srt_passphrase")
	}
	if len(mask.Paths) == 0 {
		return badUsage("there is nothing to change: give --name, --partner, --label or --srt-passphrase")
	}
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		p, err := klivev1.NewStreamServiceClient(conn).UpdateStream(ctx, &klivev1.UpdateStreamRequest{Stream: wish, UpdateMask: mask})
		if err != nil {
			return err
		}
		return c.printStream(to, p)
	})
}

// StreamsDelete is `klive ctl streams delete`.
type StreamsDelete struct {
	ID   string `arg:"" help:"Id of the stream."`
	Etag string `help:"Delete only if this is still the stream's etag."`
}

// Run deletes the stream.
func (s *StreamsDelete) Run(ctx context.Context, c *Command, to *IO) error {
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		_, err := klivev1.NewStreamServiceClient(conn).DeleteStream(ctx, &klivev1.DeleteStreamRequest{Name: streamName(s.ID), Etag: s.Etag})
		if err != nil || c.JSON {
			return err
		}
		_, err = fmt.Fprintf(to.Out, "%s is deleted\n", clean(s.ID))
		return err
	})
}

// StreamsStop is `klive ctl streams stop`.
type StreamsStop struct {
	ID string `arg:"" help:"Id of the stream."`
}

// Run stops the stream and prints it.
func (s *StreamsStop) Run(ctx context.Context, c *Command, to *IO) error {
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		p, err := klivev1.NewStreamServiceClient(conn).StopStream(ctx, &klivev1.StopStreamRequest{Name: streamName(s.ID)})
		if err != nil {
			return err
		}
		return c.printStream(to, p)
	})
}

// StreamsSplit is `klive ctl streams split`.
type StreamsSplit struct {
	ID string `arg:"" help:"Id of the stream."`
}

// Run asks for the split and says of how much.
func (s *StreamsSplit) Run(ctx context.Context, c *Command, to *IO) error {
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		done, err := klivev1.NewRecordingServiceClient(conn).SplitRecording(ctx, &klivev1.SplitRecordingRequest{Name: streamName(s.ID)})
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(to.Out, done)
		}
		_, err = fmt.Fprintf(to.Out, "a new piece begins at the next key frame in %s of %s\n", count(done.GetRenditionCount(), "rendition"), clean(s.ID))
		return err
	})
}

// StreamsRotate is `klive ctl streams rotate-token`.
type StreamsRotate struct {
	ID string `arg:"" help:"Id of the stream."`
}

// Run prints the new token.
func (s *StreamsRotate) Run(ctx context.Context, c *Command, to *IO) error {
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		p, err := klivev1.NewStreamServiceClient(conn).RotateStreamToken(ctx, &klivev1.RotateStreamTokenRequest{Name: streamName(s.ID)})
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(to.Out, p)
		}
		_, err = fmt.Fprintln(to.Out, clean(p.GetToken()))
		return err
	})
}

// StreamsAddresses is `klive ctl streams addresses`.
type StreamsAddresses struct {
	ID string `arg:"" help:"Id of the stream."`
}

// Run prints the addresses, ready to paste.
func (s *StreamsAddresses) Run(ctx context.Context, c *Command, to *IO) error {
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		book, err := klivev1.NewStreamServiceClient(conn).GetPublishAddresses(ctx, &klivev1.GetPublishAddressesRequest{Name: streamName(s.ID)})
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(to.Out, book)
		}
		var pairs []string
		for _, a := range book.GetAddresses() {
			name := a.GetProtocol() + ", " + serverIndex(a.GetServerIndex())
			pairs = append(pairs, name, a.GetUrl())
			if a.GetServer() != "" {
				pairs = append(pairs, "  Server", a.GetServer(), "  Stream key", a.GetStreamKey())
			}
			pairs = append(pairs, "  Passphrase", a.GetPassphrase())
		}
		pairs = append(pairs, "Player", book.GetPlayerUrl(), "HLS", book.GetPlaylistUrl())
		return details(to.Out, pairs...)
	})
}

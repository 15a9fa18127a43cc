package ctl

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
)

// RecordingsCommand is `klive ctl recordings`.
type RecordingsCommand struct {
	List   RecordingsList   `cmd:"" default:"withargs" help:"List recordings, newest first."`
	Get    RecordingsGet    `cmd:"" help:"Show one recording with its pieces."`
	Retry  RecordingsRetry  `cmd:"" help:"Deliver pieces to the Kaltura backend again that are in doubt or refused."`
	Accept RecordingsAccept `cmd:"" help:"Say that the Kaltura backend has the pieces that are in doubt, or give up a refused one by --rendition and --number."`
}

// recordingName makes a name of a stream and an id, or of a name as the API
// writes it.
func recordingName(stream, recording string) string {
	if strings.HasPrefix(recording, "streams/") {
		return recording
	}
	return streamName(stream) + "/recordings/" + recording
}

// RecordingsList is `klive ctl recordings list`.
type RecordingsList struct {
	Stream string `arg:"" optional:"" default:"-" help:"Id of the stream; without it the recordings of all."`
	Filter string `help:"Only recordings that fit, for example: delivery_state = IN_DOUBT." placeholder:"FILTER"`
}

// Run prints every page.
func (r *RecordingsList) Run(ctx context.Context, c *Command, to *IO) error {
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		service := klivev1.NewRecordingServiceClient(conn)
		var rows [][]string
		for token := ""; ; {
			page, err := service.ListRecordings(ctx, &klivev1.ListRecordingsRequest{
				Parent: streamName(r.Stream), PageSize: pageSize, PageToken: token, Filter: r.Filter,
			})
			if err != nil {
				return err
			}
			for _, p := range page.GetRecordings() {
				if c.JSON {
					if err := printJSON(to.Out, p); err != nil {
						return err
					}
				}
				rows = append(rows, recordingRow(p))
			}
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
		if c.JSON {
			return nil
		}
		return table(to.Out, []string{"RECORDING", "STREAM", "SERVER", "MODE", "STARTED", "ENDED", "LENGTH", "PIECES", "DELIVERY", "TROUBLE"}, rows)
	})
}

func recordingRow(p *klivev1.Recording) []string {
	return []string{
		p.GetId(), streamOf(p.GetName()), serverIndex(p.GetServerIndex()), recordingMode(p.GetMode()), when(p.GetStartTime()), when(p.GetEndTime()),
		recordedLength(p), strconv.Itoa(len(p.GetPieces())), deliveryState(p.GetDeliveryState()), p.GetError(),
	}
}

// streamOf is the stream in the name of what belongs to one.
func streamOf(name string) string {
	if parts := strings.Split(name, "/"); len(parts) > 1 {
		return parts[1]
	}
	return ""
}

// recordedLength is that of the longest rendition.
func recordedLength(p *klivev1.Recording) string {
	var longest time.Duration
	sums := make(map[string]time.Duration)
	for _, piece := range p.GetPieces() {
		sums[piece.GetRendition()] += piece.GetDuration().AsDuration()
		longest = max(longest, sums[piece.GetRendition()])
	}
	return length(durationpb.New(longest))
}

func recordingMode(m klivev1.RecordingMode) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(m.String(), "RECORDING_MODE_")), "_", " ")
}

func deliveryState(s klivev1.DeliveryState) string {
	if s == klivev1.DeliveryState_DELIVERY_STATE_UNSPECIFIED {
		return ""
	}
	return strings.TrimPrefix(s.String(), "DELIVERY_STATE_")
}

// trouble is the last error of a delivery with the backend's code.
func trouble(d *klivev1.Delivery) string {
	if d.GetCode() == "" || d.GetError() == "" {
		return d.GetCode() + d.GetError()
	}
	return d.GetCode() + ": " + d.GetError()
}

// RecordingsGet is `klive ctl recordings get`.
type RecordingsGet struct {
	Stream    string `arg:"" help:"Id of the stream; - when it is not known."`
	Recording string `arg:"" help:"Id of the recording."`
}

// Run prints the recording.
func (r *RecordingsGet) Run(ctx context.Context, c *Command, to *IO) error {
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		p, err := klivev1.NewRecordingServiceClient(conn).GetRecording(ctx, &klivev1.GetRecordingRequest{Name: recordingName(r.Stream, r.Recording)})
		if err != nil {
			return err
		}
		return c.printRecording(to, p)
	})
}

func (c *Command) printRecording(to *IO, p *klivev1.Recording) error {
	if c.JSON {
		return printJSON(to.Out, p)
	}
	partner := ""
	if p.GetPartnerId() != 0 {
		partner = strconv.Itoa(int(p.GetPartnerId()))
	}
	err := details(to.Out,
		"Recording", p.GetId(), "Stream", streamOf(p.GetName()), "Server", serverIndex(p.GetServerIndex()), "Partner", partner,
		"Broadcast", p.GetBroadcastId(), "Mode", recordingMode(p.GetMode()),
		"Started", when(p.GetStartTime()), "Ended", when(p.GetEndTime()), "Length", recordedLength(p),
		"Delivery", deliveryState(p.GetDeliveryState()), "Trouble", p.GetError())
	if err != nil || len(p.GetPieces()) == 0 {
		return err
	}
	rows := make([][]string, 0, len(p.GetPieces()))
	for _, piece := range p.GetPieces() {
		rows = append(rows, pieceRow(piece))
	}
	if _, err := fmt.Fprintln(to.Out); err != nil {
		return err
	}
	return table(to.Out, []string{"RENDITION", "PIECE", "STARTED", "LENGTH", "SIZE", "DELIVERY", "TRIED", "NEXT", "TROUBLE"}, rows)
}

func pieceRow(p *klivev1.RecordingPiece) []string {
	number := strconv.Itoa(int(p.GetNumber()))
	switch {
	case p.GetLast():
		number += " (last)"
	case !p.GetFinished():
		number += " (grows)"
	}
	tried := ""
	if n := p.GetDelivery().GetAttemptCount(); n > 0 {
		tried = strconv.Itoa(int(n))
	}
	return []string{
		p.GetRendition(), number, when(p.GetStartTime()), length(p.GetDuration()), size(p.GetSizeBytes()),
		deliveryState(p.GetDelivery().GetState()), tried, when(p.GetDelivery().GetNextAttemptTime()), trouble(p.GetDelivery()),
	}
}

// RecordingsRetry is `klive ctl recordings retry`.
type RecordingsRetry struct {
	Stream    string `arg:"" help:"Id of the stream; - when it is not known."`
	Recording string `arg:"" help:"Id of the recording."`
	Rendition string `help:"Only this rendition." placeholder:"ID"`
	Number    int32  `help:"Only this piece of the rendition." placeholder:"N"`
}

// Run asks for the delivery and says of how much.
func (r *RecordingsRetry) Run(ctx context.Context, c *Command, to *IO) error {
	if r.Number != 0 && r.Rendition == "" {
		return badUsage("--number needs --rendition: each rendition has a piece %d", r.Number)
	}
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		done, err := klivev1.NewRecordingServiceClient(conn).RetryDelivery(ctx, &klivev1.RetryDeliveryRequest{
			Name: recordingName(r.Stream, r.Recording), Rendition: r.Rendition, Number: r.Number,
		})
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(to.Out, done)
		}
		_, err = fmt.Fprintf(to.Out, "%s of %s will be delivered again\n", count(done.GetPieceCount(), "piece"), clean(r.Recording))
		return err
	})
}

// RecordingsAccept is `klive ctl recordings accept`.
type RecordingsAccept struct {
	Stream    string `arg:"" help:"Id of the stream; - when it is not known."`
	Recording string `arg:"" help:"Id of the recording."`
	Rendition string `help:"Only this rendition." placeholder:"ID"`
	Number    int32  `help:"Only this piece of the rendition, also when it was refused: then it is given up." placeholder:"N"`
}

// Run notes the decision and says for how much.
func (r *RecordingsAccept) Run(ctx context.Context, c *Command, to *IO) error {
	if r.Number != 0 && r.Rendition == "" {
		return badUsage("--number needs --rendition: each rendition has a piece %d", r.Number)
	}
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		done, err := klivev1.NewRecordingServiceClient(conn).AcceptDelivery(ctx, &klivev1.AcceptDeliveryRequest{
			Name: recordingName(r.Stream, r.Recording), Rendition: r.Rendition, Number: r.Number,
		})
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(to.Out, done)
		}
		pieces := done.GetPieceCount()
		verb := "count"
		if pieces == 1 {
			verb = "counts"
		}
		_, err = fmt.Fprintf(to.Out, "%s of %s %s as delivered\n", count(pieces, "piece"), clean(r.Recording), verb)
		return err
	})
}

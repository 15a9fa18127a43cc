package ctl

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
)

// printJSON writes one object on one line. protojson puts a random blank into
// its output; compacting takes it out again.
func printJSON(w io.Writer, m proto.Message) error {
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	line.WriteByte('\n')
	_, err = w.Write(line.Bytes())
	return err
}

// table writes rows in columns.
func table(w io.Writer, head []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(head, "\t"))
	for _, row := range rows {
		for i, cell := range row {
			if row[i] = clean(cell); cell == "" {
				row[i] = "-"
			}
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// details writes one resource as a column of names and values; empty values
// are left out.
func details(w io.Writer, pairs ...string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			fmt.Fprintf(t, "%s:\t%s\n", pairs[i], clean(pairs[i+1]))
		}
	}
	return t.Flush()
}

// clean takes what could steer a terminal out of a text that a publisher may
// have written.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

func when(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Local().Format(time.DateTime)
}

func state(s klivev1.BroadcastState) string {
	if s == klivev1.BroadcastState_BROADCAST_STATE_UNSPECIFIED {
		return ""
	}
	return strings.TrimPrefix(s.String(), "BROADCAST_STATE_")
}

func eventType(t klivev1.EventType) string { return strings.TrimPrefix(t.String(), "EVENT_TYPE_") }

// id is the last part of a resource name.
func id(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// count writes a number with its noun.
func count(n int32, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// length writes a duration to the second, short ones to the millisecond; ""
// when there is none.
func length(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	unit := time.Second
	if d.AsDuration() < time.Minute {
		unit = time.Millisecond
	}
	return d.AsDuration().Round(unit).String()
}

// size writes bytes in the units of disks.
func size(b int64) string {
	switch {
	case b <= 0:
		return ""
	case b < 1_000_000:
		return fmt.Sprintf("%d kB", (b+999)/1000)
	case b < 1_000_000_000:
		return fmt.Sprintf("%.1f MB", float64(b)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(b)/1e9)
}

// bitrate writes bit/s the way encoders do.
func bitrate(b int64) string {
	switch {
	case b <= 0:
		return ""
	case b < 1_000_000:
		return fmt.Sprintf("%d kbit/s", (b+500)/1000)
	}
	return fmt.Sprintf("%.2f Mbit/s", float64(b)/1e6)
}

func tracks(list []*klivev1.Track) string {
	out := make([]string, 0, len(list))
	for _, t := range list {
		text := t.GetCodec()
		if v := t.GetVideo(); v != nil {
			text += fmt.Sprintf(" %dx%d", v.GetWidth(), v.GetHeight())
			if v.GetFrameRate() > 0 {
				text += fmt.Sprintf("@%.4g", v.GetFrameRate())
			}
		}
		if a := t.GetAudio(); a != nil {
			text += fmt.Sprintf(" %d Hz %d ch", a.GetSampleRate(), a.GetChannels())
		}
		if t.GetKind() != klivev1.TrackKind_TRACK_KIND_DATA && text != "" {
			out = append(out, text)
		}
	}
	return strings.Join(out, ", ")
}

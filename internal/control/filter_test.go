package control

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/fault"
)

var filterCases = []struct {
	filter string
	fits   string // ids out of filterStreams
	fails  string // part of the sentence
}{
	{filter: "", fits: "a b c"},
	{filter: "  \t ", fits: "a b c"},
	{filter: "state = PLAYABLE", fits: "a"},
	{filter: "state=BROADCAST_STATE_PLAYABLE", fits: "a"},
	{filter: "state != PLAYABLE", fits: "b c"},
	{filter: `id = "a"`, fits: "a"},
	{filter: `id = a`, fits: "a"},
	{filter: `id = "A"`, fits: ""},
	{filter: `display_name = "Room \"1\""`, fits: "a"},
	{filter: `display_name = "Room*"`, fits: "a b"},
	{filter: `display_name = Room*`, fits: "a b"},
	{filter: `display_name = ""`, fits: "c"},
	{filter: `display_name != ""`, fits: "a b"},
	{filter: "partner_id = 102", fits: "a b"},
	{filter: "partner_id = 0102", fits: "a b"},
	{filter: "partner_id = 102 AND state != PLAYABLE", fits: "b"},
	{filter: "partner_id = 102 AND state != PLAYABLE AND id = z", fits: ""},
	{filter: `labels.room = "1"`, fits: "a"},
	{filter: `labels.room != "1"`, fits: "b c"},
	{filter: `labels.a.b = x`, fits: "b"},
	{filter: "origin = API", fits: "c"},

	{filter: "state", fails: "where = or != is expected"},
	{filter: "state =", fails: "where a value is expected"},
	{filter: "state = ON_AIR", fails: "cannot compare the field state with"},
	{filter: "state = PLAY*", fails: "cannot compare the field state with"},
	{filter: "partner_id = many", fails: "cannot compare"},
	{filter: "partner_id > 3", fails: "where = or != is expected"},
	{filter: "token = x", fails: `cannot use the field "token"`},
	{filter: "labels = x", fails: "cannot use the field"},
	{filter: "labels. = x", fails: "cannot use the field"},
	{filter: "state.x = PLAYABLE", fails: "cannot use the field"},
	{filter: "id = a id = b", fails: "where AND is expected"},
	{filter: "id = a OR id = b", fails: "where AND is expected"},
	{filter: "id = a AND", fails: "where a field is expected"},
	{filter: "AND id = a", fails: "cannot use the field"},
	{filter: `id = "a`, fails: "where a value is expected"},
	{filter: `id = "a\n"`, fails: "where a value is expected"},
	{filter: `id = "a\`, fails: "where a value is expected"},
	{filter: "(id = a)", fails: "where a field is expected"},
	{filter: "id = ä", fails: "where a value is expected"},
	{filter: strings.Repeat("x", maxFilter+1), fails: "longer than 1024 bytes"},
	{filter: strings.Repeat("id = a AND ", maxFilterTerms) + "id = a", fails: "more than 16 terms"},
}

func filterStreams() []*klivev1.Stream {
	return []*klivev1.Stream{
		{Id: "a", DisplayName: `Room "1"`, State: klivev1.BroadcastState_BROADCAST_STATE_PLAYABLE, PartnerId: 102, Labels: map[string]string{"room": "1"}},
		{Id: "b", DisplayName: "Room 2", State: klivev1.BroadcastState_BROADCAST_STATE_BROADCASTING, PartnerId: 102, Labels: map[string]string{"a.b": "x"}},
		{Id: "c", Origin: klivev1.StreamOrigin_STREAM_ORIGIN_API},
	}
}

func TestFilter(t *testing.T) {
	for _, c := range filterCases {
		f, err := parseFilter(c.filter, streamFields)
		if c.fails != "" {
			require.ErrorContains(t, err, c.fails, c.filter)
			require.Equal(t, fault.InvalidField, fault.ReasonOf(err))
			require.Equal(t, "filter", fault.From(err).Metadata["field"])
			continue
		}
		require.NoError(t, err, c.filter)
		// `display_name = "Room*"` and the like survive being written.
		again, err := parseFilter(f.String(), streamFields)
		require.NoError(t, err, f.String())
		var got, gotAgain []string
		for _, s := range filterStreams() {
			if f.match(s) {
				got = append(got, s.GetId())
			}
			if again.match(s) {
				gotAgain = append(gotAgain, s.GetId())
			}
		}
		require.Equal(t, c.fits, strings.Join(got, " "), c.filter)
		require.Equal(t, got, gotAgain, c.filter)
	}
}

func FuzzFilter(f *testing.F) {
	for _, c := range filterCases {
		f.Add(c.filter)
	}
	f.Fuzz(func(t *testing.T, source string) {
		parsed, err := parseFilter(source, streamFields)
		if err != nil {
			require.Equal(t, fault.InvalidField, fault.ReasonOf(err))
			return
		}
		require.LessOrEqual(t, len(parsed), maxFilterTerms)
		written := parsed.String()
		if len(written) > maxFilter {
			return // quotes and escapes made it longer than a caller may send
		}
		again, err := parseFilter(written, streamFields)
		require.NoError(t, err, written)
		require.Equal(t, written, again.String())
		for _, s := range filterStreams() {
			require.Equal(t, parsed.match(s), again.match(s), written)
		}
	})
}

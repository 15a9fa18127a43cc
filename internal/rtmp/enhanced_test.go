package rtmp

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/rtmp/amf"
)

var enhancedCases = []struct {
	name string
	in   amf.Object
	want Enhanced
}{
	{"nothing", amf.Object{{Name: "app", Value: "kLive"}}, Enhanced{}},
	{"version 1", amf.Object{{Name: "fourCcList", Value: amf.StrictArray{"av01", "hvc1"}}}, Enhanced{List: []string{"av01", "hvc1"}}},
	{"version 2", amf.Object{
		{Name: "fourCcList", Value: amf.StrictArray{"*"}},
		{Name: "videoFourCcInfoMap", Value: amf.Object{{Name: "*", Value: 4.0}, {Name: "vp09", Value: 3.0}}},
		{Name: "audioFourCcInfoMap", Value: amf.Object{{Name: "Opus", Value: 2.0}}},
		{Name: "capsEx", Value: 15.0},
	}, Enhanced{
		List: []string{"*"}, Video: []FourCCInfo{{"*", CanForward}, {"vp09", CanDecode | CanEncode}}, Audio: []FourCCInfo{{"Opus", CanEncode}},
		Caps: CapReconnect | CapMultitrack | CapModEx | CapNanoOffset,
	}},
	{"nonsense", amf.Object{
		{Name: "fourCcList", Value: amf.StrictArray{"long name", 5.0, amf.Null{}}},
		{Name: "videoFourCcInfoMap", Value: "avc1"},
		{Name: "audioFourCcInfoMap", Value: amf.Object{{Name: "Opus", Value: -1.0}, {Name: "toolong", Value: 1.0}}},
		{Name: "capsEx", Value: 1e20},
	}, Enhanced{}},
}

func TestEnhancedProperties(t *testing.T) {
	for _, tc := range enhancedCases {
		t.Run(tc.name, func(t *testing.T) {
			got := readEnhanced(tc.in)
			require.Equal(t, tc.want, got)
			require.Equal(t, tc.want, readEnhanced(got.properties()), "what is said can be read")
			b, err := amf.Append(nil, got.properties())
			require.NoError(t, err)
			_, err = amf.Decode(b)
			require.NoError(t, err)
		})
	}
	var many amf.StrictArray
	for range 1000 {
		many = append(many, "avc1")
	}
	require.Len(t, readEnhanced(amf.Object{{Name: "fourCcList", Value: many}}).List, maxFourCCs)
}

// TestEnhancedAnswer: who says nothing of Enhanced RTMP gets the plain answer.
func TestEnhancedAnswer(t *testing.T) {
	offer := Enhanced{List: []string{"hvc1"}, Caps: CapReconnect}
	for _, tc := range []struct {
		name      string
		say, want Enhanced
	}{
		{"an old encoder", Enhanced{}, Enhanced{}},
		{"a new one", Enhanced{List: []string{"av01"}}, offer},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server, client := pair(t)
			done := serving(server, Options{Offer: offer})
			c := NewClientConn(client, Options{})
			require.NoError(t, c.Connect(Connect{App: "kLive", TcURL: "rtmp://h/kLive", Enhanced: tc.say}))
			require.Equal(t, tc.want, c.Server())
			require.NoError(t, c.Publish("lobby_1"))
			require.NoError(t, c.Close())
			require.Equal(t, tc.say, await(t, done).connect.Enhanced)
		})
	}
}

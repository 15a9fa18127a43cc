package syncpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/rtmp/amf"
)

var at = time.UnixMilli(1_700_000_000_123)

var ids = []string{"0_rkij47dr_1_0", "", `quote " and <tag>`, "Straße_7", "\xff broken", strings.Repeat("x", 5000)}

// TestAMFAsTheBackendReadsIt looks for the mark as the backend does in a
// recording: two words among other bytes.
func TestAMFAsTheBackendReadsIt(t *testing.T) {
	for _, id := range ids {
		file := append([]byte("mdat\x00\x00"), AMF(id, at)...)
		_, after, found := bytes.Cut(file, []byte("KalturaSyncPoint"))
		require.True(t, found)
		_, after, found = bytes.Cut(after, []byte("timestamp"))
		require.True(t, found)
		require.Zero(t, after[0], "the marker of a number")
		require.InDelta(t, 1_700_000_000_123, math.Float64frombits(binary.BigEndian.Uint64(after[1:])), 0)
	}
}

func TestAMFIsADataMessage(t *testing.T) {
	values, err := amf.Decode(AMF("0_rkij47dr_1_0", at))
	require.NoError(t, err)
	require.Equal(t, []amf.Value{"onMetaDataRecording", amf.Object{
		{Name: "objectType", Value: "KalturaSyncPoint"}, {Name: "id", Value: "0_rkij47dr_1_0"}, {Name: "timestamp", Value: 1.700000000123e12}}}, values)
}

// TestID3Bytes compares with bytes worked out by hand from the standard.
func TestID3Bytes(t *testing.T) {
	const text = `{"objectType":"KalturaSyncPoint","timestamp":1700000000123,"id":"0_rkij47dr_32_5"}`
	require.Len(t, text, 82)
	// 82 and the encoding are 83 = 0x53; with the header of the frame 93 = 0x5d.
	want := "494433" + "0400" + "00" + "0000005d" + "54455854" + "00000053" + "0000" + "03" + hex.EncodeToString([]byte(text))
	require.Equal(t, want, hex.EncodeToString(ID3("0_rkij47dr_32_5", at)))
}

func TestID3OfAnyID(t *testing.T) {
	size := func(b []byte) int {
		n := 0
		for _, c := range b[:4] {
			require.Less(t, c, byte(0x80), "syncsafe")
			n = n<<7 | int(c)
		}
		return n
	}
	for _, id := range ids {
		tag := ID3(id, at)
		require.Equal(t, len(tag)-10, size(tag[6:]))
		frame := tag[10:]
		require.Equal(t, "TEXT", string(frame[:4]))
		require.Equal(t, len(frame)-10, size(frame[4:]))
		require.Equal(t, byte(3), frame[10])
		var mark map[string]any
		require.NoError(t, json.Unmarshal(frame[11:], &mark))
		require.Equal(t, "KalturaSyncPoint", mark["objectType"])
		require.InDelta(t, 1_700_000_000_123, mark["timestamp"], 0)
		require.Equal(t, strings.ToValidUTF8(bounded(id), "\ufffd"), mark["id"])
		require.Len(t, mark, 3)
	}
}

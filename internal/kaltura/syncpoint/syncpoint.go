// Package syncpoint makes the marks by which a Kaltura backend and its players
// find wall clock in media: in recordings, where the backend looks for them to
// put cue points in their place, and in HLS, where players take them for the
// time of the program.
//
// A mark is the object KalturaSyncPoint with an id and a time in milliseconds
// of Unix, as AMF0 in recordings and as JSON inside an ID3 tag in segments.
package syncpoint

import (
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/klive-media/klive/internal/rtmp/amf"
)

// objectType is the type that backend and players look for.
const objectType = "KalturaSyncPoint"

// messageName is not onMetaData, so that decoders leave the message alone.
const messageName = "onMetaDataRecording"

// maxID bounds the id of a mark, in bytes; what is longer is cut. It keeps
// every size of the ID3 tag within its 28 bits.
const maxID = 1 << 10

// AMF is a mark as an RTMP data message (AMF0 section 2): a name, and an object
// with objectType, id and timestamp. The backend searches the recording for
// the words KalturaSyncPoint and timestamp, and reads the number behind the
// latter: marker 0x00 and a double in network order.
func AMF(id string, at time.Time) []byte {
	b, err := amf.Append(nil, messageName, amf.Object{
		{Name: "objectType", Value: objectType},
		{Name: "id", Value: bounded(id)},
		{Name: "timestamp", Value: float64(at.UnixMilli())},
	})
	if err != nil { // it holds nothing that AMF0 cannot say
		return nil
	}
	return b
}

// ID3v2.4.0: the parts of a tag with one frame (Main Structure, section 3; the
// frame's header, section 4). Sizes are syncsafe: seven bits a byte.
const (
	tagHeader   = 10
	frameHeader = 10
	tagVersion  = 4
	encodingUTF = 3 // UTF-8, Main Structure section 4
)

// ID3 is a mark as an ID3v2.4 tag with one frame. The frame is called TEXT,
// as that is where players look for it; its text is the object as JSON in
// UTF-8, not terminated.
func ID3(id string, at time.Time) []byte {
	text, err := json.Marshal(struct {
		ObjectType string `json:"objectType"`
		Timestamp  int64  `json:"timestamp"`
		ID         string `json:"id"`
	}{objectType, at.UnixMilli(), bounded(id)})
	if err != nil { // texts and numbers have a form in JSON
		return nil
	}
	content := 1 + len(text) // the encoding and the text
	b := make([]byte, 0, tagHeader+frameHeader+content)
	b = append(b, 'I', 'D', '3', tagVersion, 0, 0)
	b = appendSize(b, frameHeader+content)
	b = append(b, "TEXT"...)
	b = appendSize(b, content)
	b = append(b, 0, 0, encodingUTF)
	return append(b, text...)
}

// appendSize appends a size as four syncsafe bytes.
func appendSize(b []byte, n int) []byte {
	v := uint32(n) //nolint:gosec // bounded by maxID
	return binary.BigEndian.AppendUint32(b, v&0x7f|v<<1&0x7f00|v<<2&0x7f0000|v<<3&0x7f000000)
}

func bounded(id string) string { return id[:min(len(id), maxID)] }

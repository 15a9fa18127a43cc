package message

import (
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/rtmp/amf"
)

// The handler names that ask the server to keep or drop data for later
// subscribers; the data itself follows.
const (
	setDataFrame   = "@setDataFrame"
	clearDataFrame = "@clearDataFrame"
)

// Data is a data message (RTMP 1.0 section 7.1.2).
type Data struct {
	// Name is the first string: onMetaData, onTextData, onCuePoint or any other.
	Name string
	// Body is the AMF0 encoding from the name on, without @setDataFrame. It is a
	// view of the message's payload.
	Body []byte
	// Clear: the message was @clearDataFrame; Body is only the name of what ends.
	Clear bool
}

// ParseData reads the name of a data message of type 18 or 15. retains
// payload: yes, through Body. The values behind the name are checked to be
// AMF0 within the limits, so that nobody later meets what amf refuses.
func ParseData(m *Message) (Data, error) {
	body, err := amfBody(m)
	if err != nil {
		return Data{}, err
	}
	name, rest, err := dataName(body)
	if err != nil {
		return Data{}, err
	}
	d := Data{Name: name, Body: body}
	if name == setDataFrame || name == clearDataFrame {
		d.Clear = name == clearDataFrame
		d.Body = rest
		if d.Name, _, err = dataName(rest); err != nil {
			return Data{}, err
		}
	}
	if err := amf.Valid(d.Body); err != nil {
		return Data{}, err
	}
	return d, nil
}

// Values decodes the values behind the name.
func (d *Data) Values() ([]amf.Value, error) {
	values, err := amf.Decode(d.Body)
	if err != nil || len(values) == 0 {
		return nil, err
	}
	return values[1:], nil
}

// NewData makes a type 18 message: @setDataFrame, the name, the values.
func NewData(streamID uint32, name string, values ...amf.Value) (Message, error) {
	b, err := amf.Append(nil, setDataFrame, name)
	if err == nil {
		b, err = amf.Append(b, values...)
	}
	return Message{Type: TypeData, StreamID: streamID, Payload: b}, err
}

func dataName(b []byte) (string, []byte, error) {
	v, n, err := amf.DecodeOne(b)
	if err != nil {
		return "", nil, err
	}
	name, ok := v.(string)
	if !ok {
		return "", nil, fault.New(fault.ProtocolError, "an RTMP data message does not begin with its name")
	}
	return name, b[n:], nil
}

package message

import (
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/rtmp/amf"
)

// Command is a remote call (RTMP 1.0 section 7.1.1 and 7.2): a name, a
// transaction id (0: no answer wanted), an object and further arguments.
type Command struct {
	Name        string
	Transaction float64
	Object      amf.Value // amf.Object, or amf.Null
	Args        []amf.Value
}

// ParseCommand reads a command of type 20, or of type 17, whose body is the
// same behind one leading byte. It keeps nothing of the payload.
func ParseCommand(m *Message) (Command, error) {
	body, err := amfBody(m)
	if err != nil {
		return Command{}, err
	}
	values, err := amf.Decode(body)
	if err != nil {
		return Command{}, err
	}
	if len(values) < 2 {
		return Command{}, fault.New(fault.ProtocolError, "an RTMP command has %d values where a name and a transaction are needed", len(values))
	}
	name, ok := values[0].(string)
	if !ok {
		return Command{}, fault.New(fault.ProtocolError, "an RTMP command does not begin with its name")
	}
	id, ok := values[1].(float64)
	if !ok {
		return Command{}, fault.New(fault.ProtocolError, "the transaction of the RTMP command %.32q is not a number", name)
	}
	c := Command{Name: name, Transaction: id, Object: amf.Null{}}
	if len(values) > 2 {
		c.Object, c.Args = values[2], values[3:]
	}
	return c, nil
}

// StringArg is the i-th argument behind the object when it is a string, else "".
func (c *Command) StringArg(i int) string {
	if i >= len(c.Args) {
		return ""
	}
	s, _ := c.Args[i].(string)
	return s
}

// NewCommand makes a type 20 message of the command on a message stream.
func NewCommand(streamID uint32, c Command) (Message, error) {
	object := c.Object
	if object == nil {
		object = amf.Null{}
	}
	b, err := amf.Append(nil, c.Name, c.Transaction, object)
	if err == nil {
		b, err = amf.Append(b, c.Args...)
	}
	return Message{Type: TypeCommand, StreamID: streamID, Payload: b}, err
}

// amfBody is the AMF0 part of a command or data message. Types 15 and 17 put
// one format byte in front, which is 0 as long as the values are AMF0.
func amfBody(m *Message) ([]byte, error) {
	if m.Type != TypeCommandAMF3 && m.Type != TypeDataAMF3 {
		return m.Payload, nil
	}
	if len(m.Payload) == 0 {
		return nil, fault.New(fault.ProtocolError, "an RTMP message of type %d is empty", m.Type)
	}
	return m.Payload[1:], nil
}

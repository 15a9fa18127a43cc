package rtmp

import (
	"errors"
	"net"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/rtmp/amf"
	"github.com/klive-media/klive/internal/rtmp/chunk"
	"github.com/klive-media/klive/internal/rtmp/handshake"
	"github.com/klive-media/klive/internal/rtmp/message"
)

// ErrUnpublished is how ReadMedia says that the peer ended its publication in
// good order and kept the connection.
var ErrUnpublished = errors.New("rtmp: the peer ended the publication")

// ServerConn is the server's end of a connection. Its methods are called in
// this order, which is the life of a session:
//
//	Handshake → ReadConnect → AcceptConnect → ReadPublish → AcceptPublish → ReadMedia …
//	               └ RejectConnect              ↑  └ RejectPublish            │
//	                                            └────── ErrUnpublished ───────┘
//
// and CloseGently or Close from anywhere. One goroutine calls them; Interrupt
// may come from another.
type ServerConn struct {
	*wire
	c2      bool // the peer's C2 was read
	connect float64
	peer    Enhanced
	streams uint32  // message stream ids given out
	publish Publish // the publication asked for or on air
}

// Connect is what a peer says of itself and where it wants to go (section
// 7.2.1.1).
type Connect struct {
	App      string // the application, with the query as far as the encoder puts it there
	TcURL    string
	SwfURL   string
	PageURL  string
	FlashVer string // the encoder's name: "FMLE/3.0 (compatible; FMSc/1.0)"
	// ObjectEncoding is 0 or 3; we answer in 0 to both.
	ObjectEncoding float64
	// Enhanced is what the peer says of Enhanced RTMP.
	Enhanced Enhanced
}

// Publish is what a peer wants to publish (section 7.2.2.6).
type Publish struct {
	Name     string // the stream name, with the query as far as the encoder puts it there
	Type     string // "live", "record" or "append"
	StreamID uint32 // the message stream
}

// NewServerConn makes the server's end of nc, which it owns from then on.
func NewServerConn(nc net.Conn, o Options) *ServerConn {
	return &ServerConn{wire: newWire(nc, o, serverBuffer)}
}

// Handshake answers the handshake and starts the time for the setup. Until
// publish is granted the peer may send BeforePublish bytes.
func (c *ServerConn) Handshake() error {
	if err := c.readBefore(c.o.HandshakeTimeout); err != nil {
		return err
	}
	if err := handshake.Server(c.r, &sink{nc: c.nc, timeout: c.o.WriteTimeout}); err != nil {
		return err
	}
	c.r.SetBudget(BeforePublish)
	return c.readBefore(c.o.SetupTimeout)
}

// ReadConnect waits for the connect command.
func (c *ServerConn) ReadConnect() (Connect, error) {
	if !c.c2 {
		if err := c.skipC2(); err != nil {
			return Connect{}, err
		}
		c.c2 = true
	}
	cmd, _, err := c.readCommand()
	if err != nil {
		return Connect{}, err
	}
	if cmd.Name != "connect" {
		return Connect{}, fault.New(fault.ProtocolError, "the RTMP command %.32q came before connect", cmd.Name)
	}
	c.connect = cmd.Transaction
	encoding, _ := amf.LookupNumber(cmd.Object, "objectEncoding")
	c.peer = readEnhanced(cmd.Object)
	return Connect{
		App:            amf.LookupString(cmd.Object, "app"),
		TcURL:          amf.LookupString(cmd.Object, "tcUrl"),
		SwfURL:         amf.LookupString(cmd.Object, "swfUrl"),
		PageURL:        amf.LookupString(cmd.Object, "pageUrl"),
		FlashVer:       amf.LookupString(cmd.Object, "flashVer"),
		ObjectEncoding: encoding,
		Enhanced:       c.peer,
	}, nil
}

// AcceptConnect lets the peer in, as far as ReadPublish.
func (c *ServerConn) AcceptConnect() error {
	properties := serverProperties()
	if c.peer.said() {
		properties = append(properties, c.o.Offer.properties()...)
	}
	err := errors.Join(
		c.send(message.NewUint32(message.TypeWindowAckSize, WindowSize)),
		c.send(message.NewSetPeerBandwidth(WindowSize, message.LimitDynamic)),
		c.w.SetSize(OutChunkSize),
		c.command(0, message.Command{Name: "_result", Transaction: c.connect, Object: properties,
			Args: []amf.Value{Info{LevelStatus, ConnectSuccess, "Connection succeeded."}.object("objectEncoding", 0.0)}}),
	)
	return err
}

// RejectConnect refuses the peer with a NetConnection.Connect code. The
// description is what its user reads. CloseGently follows.
func (c *ServerConn) RejectConnect(code, description string) error {
	// No properties here: ffmpeg looks for the description in the first object.
	if err := c.command(0, message.Command{Name: "_error", Transaction: c.connect,
		Args: []amf.Value{Info{LevelError, code, description}.object()}}); err != nil {
		return err
	}
	return c.w.Flush()
}

// serverProperties are the properties of the answer to connect. Encoders look
// for capabilities; fmsVer is the oldest version that all of them accept.
func serverProperties() amf.Object {
	return amf.Object{{Name: "fmsVer", Value: "FMS/3,0,1,123"}, {Name: "capabilities", Value: 31.0}}
}

// ReadPublish answers the commands that lead to publish, and returns it.
func (c *ServerConn) ReadPublish() (Publish, error) {
	for {
		cmd, streamID, err := c.readCommand()
		if err != nil {
			return Publish{}, err
		}
		switch cmd.Name {
		case "publish":
			c.publish = Publish{Name: cmd.StringArg(0), Type: cmd.StringArg(1), StreamID: streamID}
			return c.publish, nil
		case "connect":
			return Publish{}, fault.New(fault.ProtocolError, "the RTMP peer sent connect twice")
		case "play", "play2":
			description := "This server takes streams over RTMP and does not play them; watch over HLS."
			if err := c.status(streamID, Info{LevelError, PlayFailed, description}); err != nil {
				return Publish{}, err
			}
			return Publish{}, fault.New(fault.ProtocolError, "the RTMP peer asked to play a stream; RTMP is for publishing here")
		}
		if err := c.answer(&cmd, streamID); err != nil {
			return Publish{}, err
		}
	}
}

// AcceptPublish grants the publication: the bounds of the setup in time and
// bytes are lifted, and what the peer sends from then on is ReadMedia's.
func (c *ServerConn) AcceptPublish() error {
	err := errors.Join(
		c.send(message.NewUserControl(message.EventStreamBegin, c.publish.StreamID)),
		c.status(c.publish.StreamID, Info{LevelStatus, PublishStart, "Publishing " + nameOnly(c.publish.Name) + "."}),
		c.w.Flush(),
	)
	if err != nil {
		return err
	}
	c.r.SetBudget(0)
	return c.readBefore(0)
}

// RejectPublish refuses the publication with one of the NetStream.Publish
// codes. The description is what the user reads. CloseGently follows.
func (c *ServerConn) RejectPublish(code, description string) error {
	if err := c.status(c.publish.StreamID, Info{LevelError, code, description}); err != nil {
		return err
	}
	return c.w.Flush()
}

// RequestReconnect asks a peer that announced CapReconnect to connect anew at
// its next key frame (Enhanced RTMP v2, "Reconnect Request"); it goes on until
// then. The reading goroutine calls it; the request is sent before it waits
// for the peer again. Others are not asked, and false is returned.
func (c *ServerConn) RequestReconnect(description string) (bool, error) {
	if !c.peer.Caps.Has(CapReconnect) {
		return false, nil
	}
	return true, c.status(0, Info{LevelStatus, ReconnectRequest, description})
}

// Dismiss tells a peer that is on air, or on the way there, why the connection
// ends now. CloseGently follows.
func (c *ServerConn) Dismiss(code, description string) error {
	return c.RejectPublish(code, description)
}

// ReadMedia puts the next audio, video or data message of the publication into
// m; its payload, which comes from the Allocator, is the caller's to keep. It
// returns ErrUnpublished at a good end, after which ReadPublish may be called
// again, and io.EOF when the peer hung up between two messages.
func (c *ServerConn) ReadMedia(m *message.Message) error {
	for {
		if err := c.next(m); err != nil {
			return err
		}
		if m.Type.Class() != message.ClassCommand {
			return nil
		}
		cmd, err := message.ParseCommand(m)
		if err != nil {
			return err
		}
		switch cmd.Name {
		case "deleteStream", "closeStream":
			return c.unpublish(cmd.Name)
		case "publish":
			if err := c.status(m.StreamID, Info{LevelError, PublishBadName, "This connection is already publishing."}); err != nil {
				return err
			}
			continue
		}
		if err := c.answer(&cmd, m.StreamID); err != nil {
			return err
		}
	}
}

// unpublish goes back to where a publication may be asked for.
func (c *ServerConn) unpublish(command string) error {
	if command == "closeStream" {
		err := c.status(c.publish.StreamID, Info{LevelStatus, UnpublishSuccess, nameOnly(c.publish.Name) + " is unpublished."})
		if err != nil {
			return err
		}
	}
	c.r.SetBudget(BeforePublish)
	if err := c.readBefore(c.o.SetupTimeout); err != nil {
		return err
	}
	return ErrUnpublished
}

// readCommand waits for a command. Media and data before publish is granted
// are not wanted, and dropped; SetBudget bounds how much that can be.
func (c *ServerConn) readCommand() (message.Command, uint32, error) {
	var m message.Message
	for {
		if err := c.next(&m); err != nil {
			return message.Command{}, 0, err
		}
		if m.Type.Class() != message.ClassCommand {
			continue
		}
		cmd, err := message.ParseCommand(&m)
		return cmd, m.StreamID, err
	}
}

// answer queues what the commands around a publication want to hear.
func (c *ServerConn) answer(cmd *message.Command, streamID uint32) error {
	result := message.Command{Name: "_result", Transaction: cmd.Transaction, Args: []amf.Value{amf.Undefined{}}}
	switch cmd.Name {
	case "createStream":
		// The id only has to be non-zero; a peer that asks without end gets the
		// same few again.
		c.streams = c.streams%maxStreams + 1
		result.Args[0] = float64(c.streams)
	case "releaseStream", "_checkbw":
	case "FCPublish":
		if err := c.onFC(streamID, "onFCPublish", PublishStart, cmd.StringArg(0)); err != nil {
			return err
		}
	case "FCUnpublish":
		if err := c.onFC(streamID, "onFCUnpublish", UnpublishSuccess, cmd.StringArg(0)); err != nil {
			return err
		}
	case "deleteStream", "closeStream", "_result", "_error", "onStatus":
		return nil
	default:
		if cmd.Transaction == 0 {
			return nil
		}
		result.Name = "_error"
		result.Args[0] = Info{LevelError, CallFailed, "The server does not know this command."}.object()
	}
	if cmd.Transaction == 0 {
		return nil
	}
	return c.command(streamID, result)
}

// maxStreams is how many message stream ids are given out before they repeat.
const maxStreams = 8

func (c *ServerConn) onFC(streamID uint32, name, code, description string) error {
	return c.command(streamID, message.Command{Name: name,
		Args: []amf.Value{Info{LevelStatus, code, nameOnly(description)}.object()}})
}

func (c *ServerConn) status(streamID uint32, i Info) error {
	return c.command(streamID, message.Command{Name: "onStatus", Args: []amf.Value{i.object()}})
}

var _ handshake.Source = (*chunk.Reader)(nil)

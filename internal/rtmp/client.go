package rtmp

import (
	"errors"
	"net"
	"sync/atomic"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/rtmp/amf"
	"github.com/klive-media/klive/internal/rtmp/chunk"
	"github.com/klive-media/klive/internal/rtmp/handshake"
	"github.com/klive-media/klive/internal/rtmp/message"
)

// ClientConn is the client's end of a connection that publishes:
//
//	Connect → Publish → Write, Flush … → Unpublish → CloseGently
//
// From Publish on two goroutines use it: one writes, one runs Serve. What
// Serve has to answer is left for the writer to send with its next Flush.
type ClientConn struct {
	*wire
	stream      uint32
	transaction float64
	server      Enhanced

	ping atomic.Uint64 // a ping to answer: pingPending and its datum
	ack  atomic.Uint64 // bytes to acknowledge; 0: nothing
}

const pingPending = 1 << 32

// NewClientConn makes the client's end of nc, which it owns from then on.
func NewClientConn(nc net.Conn, o Options) *ClientConn {
	return &ClientConn{wire: newWire(nc, o, clientBuffer)}
}

// Connect does the handshake and the connect command. A refusal is a
// *StatusError.
func (c *ClientConn) Connect(to Connect) error {
	if err := c.readBefore(c.o.HandshakeTimeout); err != nil {
		return err
	}
	c2, err := handshake.Client(c.r, &sink{nc: c.nc, timeout: c.o.WriteTimeout})
	if err != nil {
		return err
	}
	if err := c.readBefore(c.o.SetupTimeout); err != nil {
		return err
	}
	c.r.SetBudget(BeforePublish) // a server has no more to say
	object := amf.Object{{Name: "app", Value: to.App}, {Name: "type", Value: "nonprivate"},
		{Name: "flashVer", Value: to.FlashVer}, {Name: "tcUrl", Value: to.TcURL}}
	if to.SwfURL != "" {
		object = append(object, amf.Property{Name: "swfUrl", Value: to.SwfURL})
	}
	object = append(object, to.Enhanced.properties()...)
	err = errors.Join(
		c.w.Prepend(c2),
		c.w.SetSize(OutChunkSize),
		c.send(message.NewUint32(message.TypeWindowAckSize, WindowSize)),
	)
	if err != nil {
		return err
	}
	cmd, err := c.call("connect", object)
	c.server = readEnhanced(cmd.Object)
	return err
}

// Server is what the server said of Enhanced RTMP in its answer to connect.
func (c *ClientConn) Server() Enhanced { return c.server }

// Publish asks for the publication of name and waits until it is granted. A
// refusal is a *StatusError.
func (c *ClientConn) Publish(name string) error {
	// FCPublish and releaseStream are not in the specification; what several
	// services require of an encoder they require of us.
	if err := errors.Join(c.notify("releaseStream", name), c.notify("FCPublish", name)); err != nil {
		return err
	}
	cmd, err := c.call("createStream", amf.Null{})
	if err != nil {
		return err
	}
	args := cmd.Args
	if len(args) == 0 {
		return fault.New(fault.ProtocolError, "the RTMP server answered createStream without a stream")
	}
	id, ok := args[0].(float64)
	if !ok || id < 0 || id > 1<<24 {
		return fault.New(fault.ProtocolError, "the RTMP server answered createStream without a stream")
	}
	c.stream = uint32(id)
	c.transaction++
	err = c.command(c.stream, message.Command{Name: "publish", Transaction: c.transaction, Args: []amf.Value{name, "live"}})
	if err != nil {
		return err
	}
	if err := c.awaitStart(); err != nil {
		return err
	}
	c.r.SetBudget(0)
	c.src.w = nil // from here on Serve reads and another writes
	return c.readBefore(0)
}

// awaitStart waits for onStatus.
func (c *ClientConn) awaitStart() error {
	for {
		cmd, err := c.readCommand()
		if err != nil {
			return err
		}
		if cmd.Name != "onStatus" && (cmd.Name != "_error" || cmd.Transaction != c.transaction) {
			continue
		}
		info := infoOf(cmd.Object, cmd.Args)
		if info.Code == PublishStart {
			return nil
		}
		if info.Level == LevelError || cmd.Name == "_error" {
			return &StatusError{info}
		}
	}
}

// notify queues a command whose answer nobody waits for.
func (c *ClientConn) notify(name string, args ...amf.Value) error {
	c.transaction++
	return c.command(0, message.Command{Name: name, Transaction: c.transaction, Args: args})
}

// call sends a command and waits for its answer.
func (c *ClientConn) call(name string, object amf.Value, args ...amf.Value) (message.Command, error) {
	c.transaction++
	if err := c.command(0, message.Command{Name: name, Transaction: c.transaction, Object: object, Args: args}); err != nil {
		return message.Command{}, err
	}
	for {
		cmd, err := c.readCommand()
		if err != nil {
			return message.Command{}, err
		}
		if cmd.Transaction != c.transaction {
			continue // the answer to a notify, which may be a refusal without meaning
		}
		switch cmd.Name {
		case "_result":
			return cmd, nil
		case "_error":
			return message.Command{}, &StatusError{infoOf(cmd.Object, cmd.Args)}
		}
	}
}

func (c *ClientConn) readCommand() (message.Command, error) {
	var m message.Message
	for {
		if err := c.next(&m); err != nil {
			return message.Command{}, err
		}
		if m.Type.Class() == message.ClassCommand {
			return message.ParseCommand(&m)
		}
	}
}

// Write queues an audio, video or data message of the publication; its stream
// id is set here. retains payload: no. Flush sends.
func (c *ClientConn) Write(m *message.Message) error {
	id := chunk.StreamData
	switch m.Type {
	case message.TypeAudio:
		id = chunk.StreamAudio
	case message.TypeVideo:
		id = chunk.StreamVideo
	}
	out := *m
	out.StreamID = c.stream
	return c.w.WriteMessage(id, &out)
}

// Flush sends what Write has queued, and what Serve left to be answered.
func (c *ClientConn) Flush() error {
	if n := c.ack.Swap(0); n > 0 {
		if err := c.send(message.NewUint32(message.TypeAcknowledgement, uint32(n))); err != nil { //nolint:gosec // wraps, as section 5.4.3 has it
			return err
		}
	}
	if p := c.ping.Swap(0); p&pingPending != 0 {
		if err := c.send(message.NewUserControl(message.EventPingResponse, uint32(p))); err != nil { //nolint:gosec // the low half
			return err
		}
	}
	return c.w.Flush()
}

// Serve reads what the server says during the publication, until the
// connection ends or is interrupted. It returns a *StatusError when the server
// ended the publication with words, or asked to reconnect (ReconnectRequest;
// the publication then goes on, and Serve may be called again), else the error
// of the connection.
func (c *ClientConn) Serve() error {
	var m message.Message
	for {
		if err := c.r.ReadMessage(&m); err != nil {
			return err
		}
		if n := c.r.Received(); n-c.acked >= c.window/2 {
			c.acked = n
			c.ack.Store(n)
		}
		switch m.Type {
		case message.TypeWindowAckSize:
			if err := c.control(&m); err != nil {
				return err
			}
		case message.TypeUserControl:
			event, data, err := message.UserControl(&m)
			if err != nil {
				return err
			}
			if event == message.EventPingRequest && len(data) >= 4 {
				c.ping.Store(pingPending | uint64(be32(data)))
			}
		case message.TypeCommand, message.TypeCommandAMF3:
			cmd, err := message.ParseCommand(&m)
			if err != nil {
				return err
			}
			info := infoOf(cmd.Object, cmd.Args)
			if cmd.Name == "onStatus" && (info.Level == LevelError || info.Code == ReconnectRequest) {
				return &StatusError{info}
			}
		}
	}
}

// Unpublish ends the publication in good order.
func (c *ClientConn) Unpublish(name string) error {
	return errors.Join(
		c.notify("FCUnpublish", name),
		c.notify("deleteStream", float64(c.stream)),
		c.Flush(),
	)
}

func be32(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// Package ctl is the command line of the control API: a small gRPC client that
// is part of the server's own program, as `klive ctl`.
//
// Command is the type to read first. It is a kong command: a program embeds it
// in its own and binds a context.Context and an *IO before it runs.
package ctl

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Command is `klive ctl`. Its leaves have the method Run, which kong calls
// with the context, the IO and the Command itself.
type Command struct {
	// Server says where the server is when no address was given; nil means
	// DefaultAddress.
	Server func() (Server, error) `kong:"-"`

	Address   string        `help:"Address of the server's gRPC listener; else control.grpc_listen of the configuration." env:"KLIVE_CTL_ADDRESS" placeholder:"HOST:PORT"`
	Token     string        `help:"Bearer token; better set in the environment than typed." env:"KLIVE_CTL_TOKEN" placeholder:"TOKEN"`
	TLS       bool          `name:"tls" help:"Speak TLS. The other --tls flags imply it."`
	TLSCA     string        `name:"tls-ca" help:"PEM file with the authorities the server's certificate is checked against; else the system's." placeholder:"FILE"`
	TLSCert   string        `name:"tls-cert" help:"PEM file with a client certificate." placeholder:"FILE"`
	TLSKey    string        `name:"tls-key" help:"PEM file with the key of the client certificate." placeholder:"FILE"`
	TLSServer string        `name:"tls-server" help:"Name the server's certificate must have, when it is not the address's." placeholder:"NAME"`
	Plaintext bool          `help:"Send the token to another machine without TLS; whoever is on the way can read it."`
	JSON      bool          `name:"json" help:"Print JSON, one object a line, instead of a table."`
	Timeout   time.Duration `help:"How long to wait for an answer; watches wait for ever." default:"10s"`

	Streams    StreamsCommand    `cmd:"" help:"List, show, create, change, stop and delete streams."`
	Sessions   SessionsCommand   `cmd:"" help:"List, show and disconnect publishers."`
	Recordings RecordingsCommand `cmd:"" help:"List and show recordings, and deliver them again."`
	Kaltura    KalturaCommand    `cmd:"" help:"Show the bridge to the Kaltura backend, and tell the backend everything again."`
	Events     EventsCommand     `cmd:"" help:"List events."`
	Node       NodeCommand       `cmd:"" help:"Show the server."`
	Drain      DrainCommand      `cmd:"" help:"Take the server out of service: no new broadcasts, what is on air goes on."`
	Watch      WatchCommand      `cmd:"" help:"Print what changes, until interrupted."`
}

// DefaultAddress is where a server nobody configured listens for gRPC.
const DefaultAddress = "127.0.0.1:9090"

// maxAnswer bounds one answer of the server, in bytes. gRPC's own 4 MB would
// refuse a page of 500 large resources.
const maxAnswer = 64 << 20

// Server is where a server is.
type Server struct {
	Address string // of its gRPC listener
	TLS     bool   // whether the listener speaks TLS
}

// UsageError is a command line that asks for what cannot be done, whatever the
// server answers.
type UsageError struct{ Message string }

// Error is the sentence.
func (e *UsageError) Error() string { return e.Message }

func badUsage(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// IO is where a command reads from and writes to.
type IO struct {
	Out io.Writer
	Err io.Writer
}

// client is a connection with the command's credentials.
type client struct {
	*grpc.ClientConn
	token string
}

// dial makes the connection; nothing is sent before the first call.
func (c *Command) dial() (*client, error) {
	if err := c.locate(); err != nil {
		return nil, err
	}
	creds, err := c.credentials()
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+c.Address, grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c.Address, err)
	}
	return &client{conn, c.Token}, nil
}

// locate fills in the address that was not given.
func (c *Command) locate() error {
	if c.Address != "" {
		return nil
	}
	if c.Server == nil {
		c.Address = DefaultAddress
		return nil
	}
	s, err := c.Server()
	if err != nil {
		return err
	}
	c.Address, c.TLS = s.Address, c.TLS || s.TLS
	return nil
}

func (c *Command) credentials() (credentials.TransportCredentials, error) {
	if !c.TLS && c.TLSCA == "" && c.TLSCert == "" && c.TLSKey == "" && c.TLSServer == "" {
		if c.Token != "" && !c.Plaintext && !isLoopback(c.Address) {
			return nil, badUsage("%s is another machine, and without TLS the token would cross the network in the clear: add --tls or --tls-ca FILE, or --plaintext if the network is yours", c.Address)
		}
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.TLSServer}
	if c.TLSCA != "" {
		pem, err := os.ReadFile(c.TLSCA)
		if err != nil {
			return nil, fmt.Errorf("read --tls-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read --tls-ca: %s holds no certificate", c.TLSCA)
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return nil, badUsage("--tls-cert and --tls-key go together; give both or neither")
	}
	if c.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("read --tls-cert and --tls-key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(config), nil
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// context adds the token to a call's metadata.
func (c *client) context(ctx context.Context) context.Context {
	if c.token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
}

// call runs fn with a connection and a deadline, and makes its error one a
// person can read.
func (c *Command) call(ctx context.Context, fn func(context.Context, *client) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	return c.connect(ctx, fn)
}

// connect is call without a deadline, for watches.
func (c *Command) connect(ctx context.Context, fn func(context.Context, *client) error) error {
	conn, err := c.dial()
	if err != nil {
		return err
	}
	err = fn(conn.context(ctx), conn)
	if closing := conn.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return c.explain(err)
	}
	return nil
}

// Error is a call that the server refused or could not be asked.
type Error struct {
	Code    codes.Code
	Reason  string // from google.rpc.ErrorInfo; "" when there is none
	Message string
}

// Error is the sentence, with the reason in brackets.
func (e *Error) Error() string {
	if e.Reason == "" {
		return e.Message
	}
	return e.Message + " (" + e.Reason + ")"
}

func (c *Command) explain(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	out := &Error{Code: s.Code(), Message: s.Message()}
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			out.Reason = info.GetReason()
		}
	}
	if out.Reason != "" {
		return out
	}
	switch s.Code() {
	case codes.Unavailable:
		out.Message = fmt.Sprintf("cannot reach the server at %s: is it running, and is --address right? (%s)", c.Address, s.Message())
	case codes.DeadlineExceeded:
		out.Message = fmt.Sprintf("the server at %s did not answer within %s", c.Address, c.Timeout)
	}
	return out
}

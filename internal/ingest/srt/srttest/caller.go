//go:build srt

// Package srttest is an SRT caller for tests. Unlike srtgo's it tells the code
// with which it was rejected.
package srttest

/*
#cgo LDFLAGS: -lsrt
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <srt/srt.h>

// klive_call connects to an IPv4 address. It gives the socket, or -1 and in
// code the reason of the rejection.
static int klive_call(const char *host, int port, const char *streamid, int streamid_len,
	const char *passphrase, int passphrase_len, int key_len, int latency_ms, int *code)
{
	struct sockaddr_in to;
	int s, live = SRTT_LIVE, timeout = 3000;
	memset(&to, 0, sizeof to);
	to.sin_family = AF_INET;
	to.sin_port = htons(port);
	if (inet_pton(AF_INET, host, &to.sin_addr) != 1)
		return -1;
	s = srt_create_socket();
	if (s == SRT_INVALID_SOCK)
		return -1;
	if (srt_setsockflag(s, SRTO_TRANSTYPE, &live, sizeof live) != 0
		|| srt_setsockflag(s, SRTO_CONNTIMEO, &timeout, sizeof timeout) != 0
		|| (streamid_len > 0 && srt_setsockflag(s, SRTO_STREAMID, streamid, streamid_len) != 0)
		|| (key_len > 0 && srt_setsockflag(s, SRTO_PBKEYLEN, &key_len, sizeof key_len) != 0)
		|| (passphrase_len > 0 && srt_setsockflag(s, SRTO_PASSPHRASE, passphrase, passphrase_len) != 0)
		|| (latency_ms > 0 && srt_setsockflag(s, SRTO_LATENCY, &latency_ms, sizeof latency_ms) != 0)
		|| srt_connect(s, (struct sockaddr*)&to, sizeof to) != 0) {
		*code = srt_getrejectreason(s);
		srt_close(s);
		return -1;
	}
	return s;
}

static int klive_send(int s, const char *b, int n)
{
	return srt_sendmsg2(s, b, n, NULL);
}
*/
import "C"

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
	"unsafe"

	"github.com/haivision/srtgo"
)

// The codes with which libsrt itself rejects.
const (
	CodePeer      = int(C.SRT_REJ_PEER)
	CodeBadSecret = int(C.SRT_REJ_BADSECRET)
	CodeUnsecure  = int(C.SRT_REJ_UNSECURE)
	CodeTimeout   = int(C.SRT_REJ_TIMEOUT)
)

// Options are those of a call; the zero value is a caller without anything.
type Options struct {
	StreamID   string
	Passphrase string
	// KeyLength in bytes is 16, 24 or 32; 0 is libsrt's choice.
	KeyLength int
	Latency   time.Duration
}

// Rejected says that the other side did not take the call.
type Rejected struct{ Code int }

// Error names the code.
func (r *Rejected) Error() string { return fmt.Sprintf("the call was rejected with code %d", r.Code) }

// Caller is a connection that was taken.
type Caller struct {
	socket C.int
	once   sync.Once
}

// Dial calls an IPv4 address and waits for the answer. The error is a
// *Rejected when there was one.
func Dial(addr net.Addr, o Options) (*Caller, error) {
	to, ok := addr.(*net.UDPAddr)
	if !ok || to.IP.To4() == nil {
		return nil, errors.New("srttest: not an IPv4 address")
	}
	srtgo.InitSRT()
	host := append([]byte(to.IP.To4().String()), 0)
	id, pass := append([]byte(o.StreamID), 0), append([]byte(o.Passphrase), 0)
	var code C.int
	s := C.klive_call((*C.char)(unsafe.Pointer(&host[0])), C.int(to.Port),
		(*C.char)(unsafe.Pointer(&id[0])), C.int(len(o.StreamID)), (*C.char)(unsafe.Pointer(&pass[0])), C.int(len(o.Passphrase)),
		C.int(o.KeyLength), C.int(o.Latency.Milliseconds()), &code)
	if s < 0 {
		return nil, &Rejected{Code: int(code)}
	}
	return &Caller{socket: s}, nil
}

// Write sends one message of at most 1316 bytes.
func (c *Caller) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n := C.klive_send(c.socket, (*C.char)(unsafe.Pointer(&b[0])), C.int(len(b)))
	if n < 0 {
		return 0, net.ErrClosed
	}
	return int(n), nil
}

// Close says goodbye.
func (c *Caller) Close() {
	c.once.Do(func() { C.srt_close(c.socket) })
}

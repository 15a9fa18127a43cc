//go:build srt

package srt

/*
#cgo LDFLAGS: -lsrt
#include <netinet/in.h>
#include <string.h>
#include <srt/srt.h>

// klive_port is the local port of a socket in host order, or -1.
static int klive_port(int socket)
{
	struct sockaddr_storage name;
	int size = sizeof name;
	memset(&name, 0, sizeof name);
	if (srt_getsockname(socket, (struct sockaddr*)&name, &size) != 0)
		return -1;
	if (name.ss_family == AF_INET)
		return ntohs(((struct sockaddr_in*)&name)->sin_port);
	if (name.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6*)&name)->sin6_port);
	return -1;
}
*/
import "C"

import (
	"errors"
	"unsafe"

	"github.com/klive-media/klive/internal/ingest"
)

// What srtgo has no names for.
const (
	optionIPv6Only     = int(C.SRTO_IPV6ONLY)
	optionReceiveKM    = int(C.SRTO_RCVKMSTATE)
	optionPeerVersion  = int(C.SRTO_PEERVERSION)
	optionReadTimeout  = int(C.SRTO_RCVTIMEO)
	keyMaterialSecured = int(C.SRT_KM_S_SECURED)
	stateListening     = int(C.SRTS_LISTENING)
)

// boundPort is the local port of a libsrt socket; negative when it has none.
// srtgo cannot tell it, and a port of 0 asks for one that is free.
func boundPort(socket int) int { return int(C.klive_port(C.int(socket))) }

var errNoStreamID = errors.New("srt: the connection does not tell its stream id")

// streamIDOf is what the caller of a libsrt socket sent in the handshake.
// srtgo has room for half of what it may be.
func streamIDOf(socket int) (string, error) {
	b := make([]byte, ingest.MaxStreamID+1)
	size := C.int(len(b))
	if C.srt_getsockflag(C.int(socket), C.SRTO_STREAMID, unsafe.Pointer(unsafe.SliceData(b)), &size) != 0 || size < 0 || int(size) > len(b) {
		return "", errNoStreamID
	}
	return string(b[:size]), nil
}

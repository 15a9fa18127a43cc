package rtmp

import (
	"errors"
	"io"
	"os"
	"time"
)

// How long and how far CloseGently listens to a peer that goes on talking.
const (
	lingerTime  = time.Second
	lingerBytes = 4 << 20
)

// halfCloser is a connection whose writing end closes alone: TCP and TLS.
type halfCloser interface{ CloseWrite() error }

// CloseGently sends what is held back and closes so that the peer can read it:
// closing a socket with unread bytes resets it, and the reset overtakes the
// last words. So the writing end is closed first, and the peer's bytes are
// thrown away for up to a second. It returns when the connection is closed.
func (c *wire) CloseGently() error {
	err := c.w.Flush()
	if half, ok := c.nc.(halfCloser); ok && err == nil {
		err = half.CloseWrite()
		if e := c.nc.SetReadDeadline(time.Now().Add(lingerTime)); e == nil && err == nil {
			_, err = io.CopyN(io.Discard, c.nc, lingerBytes)
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return errors.Join(err, c.nc.Close())
}

// Package srttest is what tests of SRT need: a caller by an implementation that
// is not ours, and a bad network.
package srttest

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"sync"
	"time"

	gosrt "github.com/datarhei/gosrt"
)

// Options are those of a call; the zero value is a caller without anything.
type Options struct {
	StreamID   string
	Passphrase string
	// KeyLength in bytes is 16, 24 or 32; 0 is 16.
	KeyLength int
	// Latency is what the caller wants; 0 is little.
	Latency time.Duration
	// RefreshRate is after how many packets keys are changed; 0: after the
	// default of 2^24.
	RefreshRate uint64
}

// Rejected says that the other side did not take the call, and why.
type Rejected struct{ Code int }

// Error names the code.
func (r *Rejected) Error() string { return fmt.Sprintf("the call was rejected with code %d", r.Code) }

// Caller is a connection that was taken.
type Caller struct {
	conn gosrt.Conn
	once sync.Once
}

// rejection is how gosrt tells of a rejection: with the number of the wire,
// to the base of 32.
var rejection = regexp.MustCompile(`^connection rejected: REJECT \(([0-9a-v]+)\)$`)

// wireBase is what the wire adds to a code (draft-sharabayko-srt-01, §4.3.1).
const wireBase = 1000

// Dial calls an address and waits for the answer. The error is a *Rejected
// when there was one.
func Dial(addr net.Addr, o Options) (*Caller, error) {
	c := gosrt.DefaultConfig()
	c.StreamId, c.Passphrase = o.StreamID, o.Passphrase
	c.Latency = max(o.Latency, 20*time.Millisecond)
	if o.KeyLength != 0 {
		c.PBKeylen = o.KeyLength
	}
	if o.RefreshRate != 0 {
		c.KMRefreshRate, c.KMPreAnnounce = o.RefreshRate, o.RefreshRate/4
	}
	conn, err := gosrt.Dial("srt", addr.String(), c)
	if err != nil {
		if m := rejection.FindStringSubmatch(err.Error()); m != nil {
			n, err := strconv.ParseInt(m[1], 32, 32)
			return nil, errors.Join(&Rejected{Code: int(n) - wireBase}, err)
		}
		return nil, err
	}
	return &Caller{conn: conn}, nil
}

// Write sends one message of at most 1316 bytes.
func (c *Caller) Write(b []byte) (int, error) { return c.conn.Write(b) }

// Close says goodbye, once all was sent.
func (c *Caller) Close() { c.once.Do(func() { _ = c.conn.Close() }) }

package web

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

const (
	// stallAfter is how long a peer may take nothing at all of what is written to
	// it before the connection is given up. It restarts with every byte that
	// leaves, so that slow viewers live and dead ones do not hang on.
	stallAfter = 30 * time.Second
	// chunk is how much of a file is sent under one deadline. Most segments go
	// out in one system call then, which costs less than several.
	chunk = 4 << 20
)

// listener counts connections and gives each a deadline for its writes.
type listener struct {
	net.Listener
	server *Server
}

// Accept waits for the next connection.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.server.stats.accepted.Add(1)
	l.server.stats.connections.Add(1)
	return &conn{Conn: c, server: l.server}, nil
}

// conn is one connection. It passes ReadFrom on, so that files leave by
// sendfile.
type conn struct {
	net.Conn
	server   *Server
	deadline atomic.Int64 // Unix nanoseconds
	admitted atomic.Bool  // it counts as a viewer's
	closed   atomic.Bool
}

type connKey struct{}

// withConn lets a request find its connection.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if own, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, own)
	}
	return ctx
}

// admit counts the connection as a viewer's, once, unless there are too many.
func (c *conn) admit() bool {
	if c.admitted.Load() {
		return true
	}
	s := c.server
	for {
		n := s.stats.viewers.Load()
		if s.maxViewers > 0 && n >= s.maxViewers {
			return false
		}
		if s.stats.viewers.CompareAndSwap(n, n+1) {
			break
		}
	}
	if c.admitted.Swap(true) || c.closed.Load() && c.admitted.Swap(false) {
		s.stats.viewers.Add(-1) // another request of the connection was first, or it is gone
	}
	return true
}

// Close closes the connection; only the first call counts.
func (c *conn) Close() error {
	if !c.closed.Swap(true) {
		c.server.stats.connections.Add(-1)
		if c.admitted.Swap(false) {
			c.server.stats.viewers.Add(-1)
		}
	}
	return c.Conn.Close()
}

// CloseWrite lets net/http say goodbye before it closes.
func (c *conn) CloseWrite() error {
	if t, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return t.CloseWrite()
	}
	return nil
}

// extend moves the deadline of writes on. Moving a timer costs more than
// looking at the clock, so it is done only when a quarter has passed.
func (c *conn) extend(now time.Time) error {
	until := now.Add(stallAfter)
	if until.UnixNano()-c.deadline.Load() < int64(stallAfter/4) {
		return nil
	}
	c.deadline.Store(until.UnixNano())
	return c.Conn.SetWriteDeadline(until)
}

// Write writes p; it fails when the peer takes nothing for stallAfter.
func (c *conn) Write(p []byte) (written int, err error) {
	for {
		if err := c.extend(time.Now()); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(p[written:])
		written += n
		c.server.stats.bytes.Add(uint64(n))
		if n == 0 || !stalled(err) {
			return written, err
		}
	}
}

// ReadFrom sends what r holds. When that is a file, the kernel copies it.
func (c *conn) ReadFrom(r io.Reader) (written int64, err error) {
	to, ok := c.Conn.(io.ReaderFrom)
	limited, isLimited := r.(*io.LimitedReader)
	if !ok || !isLimited {
		return io.Copy(onlyWriter{c}, r)
	}
	for limited.N > 0 {
		if err := c.extend(time.Now()); err != nil {
			return written, err
		}
		part := io.LimitedReader{R: limited.R, N: min(limited.N, chunk)}
		n, err := to.ReadFrom(&part)
		limited.N -= n
		written += n
		c.server.stats.bytes.Add(uint64(n))
		if n > 0 && stalled(err) {
			continue // it took some
		}
		if err != nil || n == 0 {
			return written, err
		}
	}
	return written, nil
}

func stalled(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// onlyWriter hides ReadFrom from io.Copy.
type onlyWriter struct{ io.Writer }

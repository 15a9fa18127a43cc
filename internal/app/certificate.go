package app

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookAtFiles is how often, at most, a handshake looks whether the files of a
// certificate changed.
const lookAtFiles = 5 * time.Second

// certificate is a certificate from files that is read anew when they change,
// so that a renewed one needs no restart. A file that cannot be read leaves the
// old one in use.
type certificate struct {
	cert, key string // paths
	log       *slog.Logger

	mu      sync.Mutex // guards the fields below
	current *tls.Certificate
	stamp   [2]time.Time // of the files that current was read from
	failed  [2]time.Time // of the files that could not be read last
	looked  time.Time
}

func newCertificate(cert, key string, log *slog.Logger) (*certificate, error) {
	c := &certificate{cert: cert, key: key, log: log, looked: time.Now()}
	var err error
	if c.stamp, err = c.stamps(); err != nil {
		return nil, err
	}
	if c.current, err = c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *certificate) read() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("read the certificate %s: %w", c.cert, err)
	}
	return &pair, nil
}

// stamps are when the files were written last.
func (c *certificate) stamps() (s [2]time.Time, err error) {
	for i, path := range []string{c.cert, c.key} {
		info, err := os.Stat(path)
		if err != nil {
			return s, fmt.Errorf("look at the certificate: %w", err)
		}
		s[i] = info.ModTime()
	}
	return s, nil
}

// get is tls.Config.GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	current, due := c.current, time.Since(c.looked) >= lookAtFiles
	if due {
		c.looked = time.Now() // the others go on with the old one
	}
	c.mu.Unlock()
	if !due {
		return current, nil
	}
	return c.look(), nil
}

// look reads the files when they changed and returns what is in use then.
func (c *certificate) look() *tls.Certificate {
	stamp, err := c.stamps()
	c.mu.Lock()
	current, same, known := c.current, stamp == c.stamp, stamp == c.failed
	c.mu.Unlock()
	if err != nil || same || known {
		return current // a file that is gone for a moment is being replaced
	}
	fresh, err := c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failed = stamp
		c.log.Warn("a changed certificate cannot be used; the old one stays in use", "error", err)
		return c.current
	}
	c.current, c.stamp = fresh, stamp
	c.log.Info("a changed certificate is in use", "file", c.cert)
	return fresh
}

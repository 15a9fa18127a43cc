package harness

import (
	"context"
	"testing"
	"time"
)

// Start starts a server for a test. It is stopped at the test's end, which fails unless the exit code is 0; the end of
// the server's output is shown when the test failed.
func Start(t *testing.T, config string, env ...string) *Server {
	t.Helper()
	return StartWith(t, Options{Dir: t.TempDir(), Config: config, Env: env})
}

// StartWith is Start with all options.
func StartWith(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Launch(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop the server: %v", err)
		}
		if t.Failed() {
			t.Logf("the server's output ends with:\n%s", s.LogTail(12000))
		}
	})
	return s
}

// StartEncoder publishes a picture until the test's end, or until it is stopped.
func StartEncoder(t *testing.T, s *Server, address string, p Picture) *Encoder {
	t.Helper()
	e, err := Publish(t.TempDir(), address, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.KillGroup()
		if t.Failed() {
			t.Logf("the encoder's output ends with:\n%s", e.Tail(3000))
		}
	})
	return e
}

// Wait fails the test unless try says true within d.
func Wait(t *testing.T, d time.Duration, what string, try func() (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := Until(ctx, 20*time.Millisecond, try); err != nil {
		t.Fatalf("%s: not within %v: %v", what, d, err)
	}
}

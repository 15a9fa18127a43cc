package client

import (
	"context"
	"sync"
	"time"

	"github.com/klive-media/klive/internal/kaltura/ks"
)

// sessions keeps the session in use: renewed at half its life, and at once
// when the backend refused it. One caller renews, the others go on with the
// old one while it lives.
type sessions struct {
	life    time.Duration
	renew   func(context.Context) (ks.Secret, error)
	renewed func()

	mu       sync.Mutex    // guards the fields below
	current  ks.Secret     // empty: none
	born     time.Time     //
	renewing chan struct{} // closed when a renewal ends; nil: none runs
}

// get returns a session that is good as far as is known here.
func (s *sessions) get(ctx context.Context) (ks.Secret, error) {
	for {
		s.mu.Lock()
		token, age, wait := s.current, time.Since(s.born), s.renewing
		usable := token != "" && age < s.life
		if usable && (age < s.life/2 || wait != nil) {
			s.mu.Unlock()
			return token, nil
		}
		if wait == nil {
			done := make(chan struct{})
			s.renewing = done
			s.mu.Unlock()
			fresh, err := s.make(ctx, done)
			if err != nil && usable {
				return token, nil //nolint:nilerr // the old one is good for another half of its life
			}
			return fresh, err
		}
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// make renews the session and lets those who wait go on.
func (s *sessions) make(ctx context.Context, done chan struct{}) (ks.Secret, error) {
	born := time.Now()
	fresh, err := s.renew(ctx)
	s.mu.Lock()
	if err == nil {
		s.current, s.born = fresh, born
	}
	s.renewing = nil
	s.mu.Unlock()
	close(done)
	if err == nil {
		s.renewed()
	}
	return fresh, err
}

// drop forgets a session that the backend refused, unless it was replaced in
// the meantime.
func (s *sessions) drop(token ks.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == token {
		s.current = ""
	}
}

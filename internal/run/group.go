// Package run starts goroutines. It is the only package that writes `go`:
// everything that lives is started here, has a name, has an end, and somebody
// waits for it.
//
// Group is the type to read first.
package run

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
)

// ErrClosed is returned by Go once the group no longer takes work.
var ErrClosed = errors.New("run: group is closed")

// PanicError is the error of a goroutine that panicked.
type PanicError struct {
	Name  string // the goroutine's name
	Value any    // what it panicked with
	Stack []byte
}

// Error names the goroutine and the value, not the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("%s panicked: %v", e.Name, e.Value) }

// Group owns goroutines that live under one context. A Group is used through
// New, Go, Cancel and Wait; the zero value is not usable.
type Group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	closed bool
	names  map[string]int // living goroutines by name
	first  error
}

// New makes a group whose goroutines run under a child of ctx.
func New(ctx context.Context) *Group {
	ctx, cancel := context.WithCancelCause(ctx)
	return &Group{ctx: ctx, cancel: cancel, names: make(map[string]int)}
}

// Context is the context the group's goroutines run under. It ends with
// Cancel, with the first error of a goroutine started by Go, or with the
// parent.
func (g *Group) Context() context.Context { return g.ctx }

// Go starts fn under the group's context. The first fn that returns an error
// (or panics) cancels the group with that error as cause. Go refuses with
// ErrClosed after Wait or Cancel was called.
func (g *Group) Go(name string, fn func(ctx context.Context) error) error {
	return g.start(name, fn)
}

// Detach starts fn like Go, but its end, even by error or panic, does not end
// its siblings; report, which may be nil, is told once how it ended.
func (g *Group) Detach(name string, fn func(ctx context.Context) error, report func(error)) error {
	return g.start(name, func(ctx context.Context) error {
		err := Protect(name, func() error { return fn(ctx) })
		if report != nil {
			report(err)
		}
		return nil
	})
}

func (g *Group) start(name string, fn func(ctx context.Context) error) error {
	g.mu.Lock()
	if g.closed || g.ctx.Err() != nil {
		g.mu.Unlock()
		return ErrClosed
	}
	g.names[name]++
	g.wg.Add(1)
	g.mu.Unlock()

	go func() {
		defer g.wg.Done()
		err := Protect(name, func() error { return fn(g.ctx) })
		g.mu.Lock()
		if g.names[name]--; g.names[name] == 0 {
			delete(g.names, name)
		}
		keep := err != nil && g.first == nil && !errors.Is(err, context.Canceled)
		if keep {
			g.first = fmt.Errorf("%s: %w", name, err)
		}
		first := g.first
		g.mu.Unlock()
		if keep {
			g.cancel(first)
		}
	}()
	return nil
}

// Cancel ends the group's context with the cause and takes no more work. It
// does not wait.
func (g *Group) Cancel(cause error) {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel(cause)
}

// Wait waits until every goroutine has ended and returns the first error of
// one started by Go, or nil. Goroutines may still start siblings while Wait
// waits; afterwards the group takes no more work and its context is ended.
func (g *Group) Wait() error {
	g.wg.Wait()
	g.mu.Lock()
	g.closed = true
	err := g.first
	g.mu.Unlock()
	g.cancel(nil)
	return err
}

// Stop is Cancel and Wait.
func (g *Group) Stop(cause error) error {
	g.Cancel(cause)
	return g.Wait()
}

// Living lists the names of the goroutines that have not ended, sorted; a
// name that lives n times stands n times.
func (g *Group) Living() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for name, n := range g.names {
		for range n {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Protect calls fn and turns a panic into a *PanicError. It is for the edges
// where a panic must end one connection and not the server.
func Protect(name string, fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Name: name, Value: v, Stack: debug.Stack()}
		}
	}()
	return fn()
}

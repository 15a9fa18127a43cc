package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/klive-media/klive/internal/app"
	"github.com/klive-media/klive/internal/observe"
	"github.com/klive-media/klive/internal/run"
)

type serveCommand struct{}

// Run runs the server until SIGTERM or Ctrl-C; a second one hurries.
func (serveCommand) Run(ctx context.Context, c *commandLine, to *streams) error {
	loaded, err := c.load()
	if err != nil {
		return err
	}
	logger, _, err := observe.NewLogger(observe.LogOptions{Level: loaded.Log.Level, Format: loaded.Log.Format, Output: to.err})
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	for _, w := range loaded.Warnings {
		logger.Warn(w)
	}
	hurry := make(chan struct{})
	waiting := run.New(context.Background())
	defer waiting.Stop(nil) //nolint:errcheck // it only waits for signals
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	if err := waiting.Go("hangups", func(stopped context.Context) error { return answerHangups(stopped, hangups, logger) }); err != nil {
		return err
	}
	if err := waiting.Go("second signal", func(stopped context.Context) error { return awaitSecond(ctx, stopped, hurry) }); err != nil {
		return err
	}
	server, err := app.New(ctx, app.Options{Config: loaded, Version: version, Logger: logger, Output: to.out, Hurry: hurry})
	if err != nil {
		if ctx.Err() != nil { // the stop was asked for, so what it broke is no failure
			logger.Info("stopped before the start was done")
			return nil
		}
		return err
	}
	return server.Run(ctx)
}

// answerHangups keeps SIGHUP, which asks other servers to read their
// configuration again, from ending this one.
func answerHangups(stopped context.Context, hangups <-chan os.Signal, logger *slog.Logger) error {
	for {
		select {
		case <-hangups:
			logger.Warn("reload is not available in this version; restart the server to apply changes")
		case <-stopped.Done():
			return nil
		}
	}
}

// awaitSecond closes hurry at the second signal that asks to stop.
func awaitSecond(ctx, stopped context.Context, hurry chan<- struct{}) error {
	select {
	case <-ctx.Done():
	case <-stopped.Done():
		return nil
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)
	select {
	case <-again:
		close(hurry)
	case <-stopped.Done():
	}
	return nil
}

// Package observe is how the server shows what it does: its log, its metrics and its health.
//
// NewLogger makes the one slog.Logger, Registry holds the metrics, Health answers the probes, and
// Sampler keeps a flood of equal events from becoming a flood of log lines. Nothing here keeps state
// outside these values; app makes one of each and hands them on.
package observe

import (
	"fmt"
	"io"
	"log/slog"
	"os"
)

// LogOptions says how the server logs.
type LogOptions struct {
	Level  string    // debug, info, warn or error
	Format string    // text, json, or auto: text on a terminal and JSON otherwise
	Output io.Writer // nil: standard error
}

// NewLogger makes the server's logger, and the variable that changes its level while it runs. Secrets
// that reach it under a telling name, or inside an address, are masked; see Redact.
func NewLogger(o LogOptions) (*slog.Logger, *slog.LevelVar, error) {
	level := new(slog.LevelVar)
	if err := level.UnmarshalText([]byte(o.Level)); err != nil {
		return nil, nil, fmt.Errorf("set log level: %w", err)
	}
	if o.Output == nil {
		o.Output = os.Stderr
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: logged}
	text := o.Format == "text"
	switch o.Format {
	case "text", "json":
	case "auto", "":
		text = isTerminal(o.Output)
	default:
		return nil, nil, fmt.Errorf("set log format: %q is not auto, text or json", o.Format)
	}
	if text {
		return slog.New(slog.NewTextHandler(o.Output, options)), level, nil
	}
	return slog.New(slog.NewJSONHandler(o.Output, options)), level, nil
}

// logged is an attribute as it is written: without secrets, and durations as
// text, which JSON would else give as a number without a unit.
func logged(groups []string, a slog.Attr) slog.Attr {
	a = redactAttr(groups, a)
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// isTerminal reports whether w is a character device, as a terminal is.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

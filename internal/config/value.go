package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// mask stands wherever a secret would be shown. Load refuses it as a secret's value, so that a
// printed configuration cannot be loaded as if it were complete.
const mask = "********"

// Secret is a text that formats, logs and marshals as a mask. Only Reveal gives the text.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns the mask, or nothing when the secret is empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// GoString is what %#v prints.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// LogValue is what slog writes.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is what encoders such as encoding/json write.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Size is a number of bytes, written in configuration with a binary unit: 512KiB, 8MiB, 1GiB.
type Size int64

// sizeUnits is ordered from the largest, so that String finds the largest that divides.
var sizeUnits = []struct {
	suffix string
	bytes  int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// String returns the size in the largest unit that expresses it exactly.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.suffix
		}
	}
	return "0B"
}

var errSize = errors.New("must be a size such as 512KiB or 8MiB")

// parseSize reads a size; a number without a unit is bytes.
func parseSize(text string) (Size, error) {
	number, unit := text, int64(1)
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(text, u.suffix); ok {
			number, unit = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, errSize
	}
	return Size(n * unit), nil
}

// formatDuration writes a duration without the trailing zero units of time.Duration.String: 1m, not 1m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// parseDuration reads a Go duration and refuses a number without a unit with a hint.
func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err == nil && (d != 0 || text != "0") {
		return d, nil
	}
	if _, numErr := strconv.ParseFloat(text, 64); numErr == nil && text != "0" {
		return 0, fmt.Errorf("must be a duration with a unit, such as %ss or %sms", text, text)
	}
	if text == "0" {
		return 0, nil
	}
	return 0, errors.New("must be a duration such as 250ms, 4s or 1m30s")
}

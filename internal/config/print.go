package config

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// plain matches texts that need no quotes in YAML, wherever they stand.
var plain = regexp.MustCompile(`^[A-Za-z./][A-Za-z0-9./_-]*$`)

// Print writes the effective configuration as YAML. Secrets are masked.
func (c Config) Print(w io.Writer) error {
	var b bytes.Buffer
	walk(reflect.ValueOf(c), "", 0, func(n node) {
		indent := strings.Repeat("  ", n.depth)
		switch {
		case n.section:
			fmt.Fprintf(&b, "%s%s:\n", indent, n.name)
		case n.value.Kind() == reflect.Slice && n.value.Len() > 0 && n.value.Type().Elem().Kind() == reflect.Struct:
			fmt.Fprintf(&b, "%s%s:\n", indent, n.name)
			for i := range n.value.Len() {
				fmt.Fprintf(&b, "%s  - %s\n", indent, inline(n.value.Index(i)))
			}
		default:
			fmt.Fprintf(&b, "%s%s: %s\n", indent, n.name, inline(n.value))
		}
	})
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	return nil
}

// inline writes a value as YAML on one line, secrets masked.
func inline(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case time.Duration:
		return formatDuration(value)
	case Size:
		return value.String()
	case Secret:
		return quoteYAML(value.String())
	}
	switch v.Kind() {
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = inline(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Struct:
		var items []string
		for _, field := range reflect.VisibleFields(v.Type()) {
			items = append(items, field.Tag.Get("key")+": "+inline(v.FieldByIndex(field.Index)))
		}
		return "{ " + strings.Join(items, ", ") + " }"
	case reflect.String:
		return quoteYAML(v.String())
	default:
		return fmt.Sprint(v.Interface())
	}
}

func quoteYAML(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n", ".inf", ".nan":
		return strconv.Quote(s)
	}
	if plain.MatchString(s) {
		return s
	}
	return strconv.Quote(s)
}

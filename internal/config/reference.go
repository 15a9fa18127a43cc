package config

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"strings"
)

//go:generate go test -run TestGeneratedFiles -count=1 . -update

// referenceHead opens the reference file.
const referenceHead = `# kLive configuration reference.
#
# Every key is listed with its default and commented out: as it is, this file changes nothing.
# Take the # away in front of a key to change it. The environment variable named with each key
# overrides the file. Lists in the environment are written as YAML, on one line.
#
# The file is looked for here: --config FILE, then $KLIVE_CONFIG, ./klive.yaml, /etc/klive/klive.yaml.
# Check it with "klive config check"; see what is in force with "klive config print".
#
# This file is generated from internal/config; change it there.
`

// referenceWidth is where the comments of the reference file are wrapped.
const referenceWidth = 110

// WriteReference writes the fully commented configuration file: every key with its default, what it
// does, what it allows and its environment variable. Loading it gives the defaults.
func WriteReference(w io.Writer) error {
	var b bytes.Buffer
	b.WriteString(referenceHead)
	defaults := Default()
	walk(reflect.ValueOf(&defaults).Elem(), "", 0, func(n node) {
		indent := strings.Repeat("  ", n.depth)
		b.WriteByte('\n')
		writeComment(&b, indent, n.field.Tag.Get("doc"))
		if n.section {
			fmt.Fprintf(&b, "%s%s:\n", indent, n.name)
			return
		}
		if allowed := allowed(n.field); allowed != "" {
			writeComment(&b, indent, "Allowed: "+allowed+".")
		}
		writeComment(&b, indent, "Environment: "+envName(n.path))
		if example := n.field.Tag.Get("example"); example != "" {
			fmt.Fprintf(&b, "%s# Example: %s: %s\n", indent, n.name, example)
		}
		fmt.Fprintf(&b, "%s#%s: %s\n", indent, n.name, inline(n.value))
	})
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write configuration reference: %w", err)
	}
	return nil
}

// writeComment writes text as comment lines of at most referenceWidth bytes.
func writeComment(b *bytes.Buffer, indent, text string) {
	line := indent + "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > referenceWidth {
			b.WriteString(line + "\n")
			line = indent + "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}

// WriteTable writes all keys as a Markdown table for the documentation.
func WriteTable(w io.Writer) error {
	var b bytes.Buffer
	b.WriteString("| key | environment | default | what it does |\n|---|---|---|---|\n")
	for _, k := range Keys() {
		doc := k.Doc
		if k.Allowed != "" {
			doc += " Allowed: " + k.Allowed + "."
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | `%s` | %s |\n", k.Path, k.Env, k.Default, strings.ReplaceAll(doc, "*", `\*`))
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write configuration table: %w", err)
	}
	return nil
}

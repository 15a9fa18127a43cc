package ingest

import (
	"slices"
	"strconv"
	"strings"
)

// query is the query that says what the stream name cannot: the arguments that
// are required and those that differ from their default.
func (g Grammar) query(r Request) string {
	var b strings.Builder
	add := func(key, value string, wanted bool) {
		if !wanted && !slices.Contains(g.Require, key) {
			return
		}
		if b.Len() == 0 {
			b.WriteByte('?')
		} else {
			b.WriteByte('&')
		}
		b.WriteString(key)
		b.WriteByte('=')
		escape(&b, value)
	}
	add(ArgPartner, strconv.Itoa(r.Partner), r.Partner != 0)
	add(ArgEntry, r.Stream, false)
	add(ArgServer, strconv.Itoa(r.ServerIndex), r.ServerIndex != 0)
	add(ArgToken, r.Token, true)
	return b.String()
}

// escape writes s with everything but letters, digits, "-", "_" and "." as
// %XX: clients split addresses at "/", ":" and "&" without mercy, and shells
// at the rest.
func escape(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		if isAlphanumeric(c) || c == '-' || c == '_' || c == '.' {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
}

package control

import (
	"strconv"
	"strings"

	"github.com/klive-media/klive/internal/fault"
)

// The bounds of a filter.
const (
	maxFilter      = 1024 // bytes
	maxFilterTerms = 16
)

// A filter is a list of terms that must all hold. The language is the part of
// AIP-160 that needs no precedence:
//
//	filter = [ term { "AND" term } ]
//	term   = field ( "=" | "!=" ) value
//	field  = word { "." word }
//	value  = word | '"' { character | '\"' | '\\' } '"'
//
// A `*` at the end of a text value stands for anything. A missing field is
// equal to the empty text.
type filter[T any] []term[T]

type term[T any] struct {
	field  string // as written: "state", "labels.room"
	negate bool
	value  string // in the field's canonical form
	prefix bool   // value is only the beginning
	get    func(T) string
}

// A filterField says how a field is read and how values are written.
type filterField[T any] struct {
	get  func(v T) string             // nil for maps
	key  func(v T, key string) string // set for maps: labels.KEY
	form func(value string) (string, bool)
}

// text leaves a value as it is.
func text(value string) (string, bool) { return value, true }

// whole brings a whole number into its canonical form.
func whole(value string) (string, bool) {
	n, err := strconv.ParseInt(value, 10, 64)
	return strconv.FormatInt(n, 10), err == nil
}

// enum accepts the names of a generated enum, with and without their prefix,
// and brings them into the long form.
func enum(prefix string, values map[string]int32) func(string) (string, bool) {
	return func(value string) (string, bool) {
		if _, ok := values[value]; ok {
			return value, true
		}
		_, ok := values[prefix+value]
		return prefix + value, ok
	}
}

// match reports whether v fits every term.
func (f filter[T]) match(v T) bool {
	for i := range f {
		t := &f[i]
		got := t.get(v)
		same := got == t.value || t.prefix && strings.HasPrefix(got, t.value)
		if same == t.negate {
			return false
		}
	}
	return true
}

// String writes the filter so that it parses to itself.
func (f filter[T]) String() string {
	var b strings.Builder
	for i, t := range f {
		if i > 0 {
			b.WriteString(" AND ")
		}
		b.WriteString(t.field)
		if t.negate {
			b.WriteString(" !")
		} else {
			b.WriteString(" ")
		}
		b.WriteString(`= "`)
		for _, r := range []byte(t.value) {
			if r == '"' || r == '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(r)
		}
		if t.prefix {
			b.WriteByte('*')
		}
		b.WriteByte('"')
	}
	return b.String()
}

// parseFilter reads a filter over the given fields. Errors are *fault.Error
// with the reason INVALID_FIELD and a sentence that shows what is wrong.
func parseFilter[T any](source string, fields map[string]filterField[T]) (filter[T], error) {
	if len(source) > maxFilter {
		return nil, badFilter("the filter is longer than %d bytes", maxFilter)
	}
	s := scanner{rest: source}
	var f filter[T]
	for s.space(); s.rest != ""; s.space() {
		if len(f) == maxFilterTerms {
			return nil, badFilter("the filter has more than %d terms", maxFilterTerms)
		}
		if len(f) > 0 && !s.and() {
			return nil, badFilter("the filter has %q where AND is expected", s.near())
		}
		t, err := parseTerm(&s, fields)
		if err != nil {
			return nil, err
		}
		f = append(f, t)
	}
	return f, nil
}

func parseTerm[T any](s *scanner, fields map[string]filterField[T]) (term[T], error) {
	var t term[T]
	t.field = s.word()
	if t.field == "" {
		return t, badFilter("the filter has %q where a field is expected", s.near())
	}
	name, key, isMap := strings.Cut(t.field, ".")
	field, known := fields[name]
	if !known || isMap != (field.key != nil) || isMap && key == "" {
		return t, badFilter("the filter cannot use the field %q", t.field)
	}
	t.get = field.get
	if isMap {
		t.get = func(v T) string { return field.key(v, key) }
	}
	var ok bool
	if t.negate, ok = s.operator(); !ok {
		return t, badFilter("the filter has %q where = or != is expected", s.near())
	}
	raw, ok := s.value()
	if !ok {
		return t, badFilter("the filter has %q where a value is expected", s.near())
	}
	if t.value, ok = field.form(raw); !ok {
		return t, badFilter("the filter cannot compare the field %s with %q", t.field, raw)
	}
	t.value, t.prefix = strings.CutSuffix(t.value, "*")
	return t, nil
}

func badFilter(format string, args ...any) error {
	return fault.New(fault.InvalidField, format, args...).With("field", "filter")
}

// scanner cuts tokens off the front of a filter.
type scanner struct{ rest string }

// near is the beginning of what is left, for error messages.
func (s *scanner) near() string { return s.rest[:min(len(s.rest), 20)] }

func (s *scanner) space() { s.rest = strings.TrimLeft(s.rest, " \t\r\n") }

// word takes a run of the characters that need no quotes; "" when there are none.
func (s *scanner) word() string {
	s.space()
	n := 0
	for n < len(s.rest) && isWord(s.rest[n]) {
		n++
	}
	word := s.rest[:n]
	s.rest = s.rest[n:]
	return word
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.IndexByte("_-.:/*+@", c) >= 0
}

func (s *scanner) and() bool {
	before := s.rest
	if s.word() == "AND" {
		return true
	}
	s.rest = before
	return false
}

func (s *scanner) operator() (negate, ok bool) {
	s.space()
	if rest, found := strings.CutPrefix(s.rest, "!="); found {
		s.rest = rest
		return true, true
	}
	if rest, found := strings.CutPrefix(s.rest, "="); found {
		s.rest = rest
		return false, true
	}
	return false, false
}

func (s *scanner) value() (string, bool) {
	s.space()
	if !strings.HasPrefix(s.rest, `"`) {
		word := s.word()
		return word, word != ""
	}
	var b strings.Builder
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; c {
		case '"':
			s.rest = s.rest[i+1:]
			return b.String(), true
		case '\\':
			i++
			if i == len(s.rest) || s.rest[i] != '"' && s.rest[i] != '\\' {
				return "", false
			}
			b.WriteByte(s.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

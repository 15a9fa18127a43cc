package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a configuration file, and of a list in the environment. The parser's memory grows with the
// square of the depth, so a file that is no configuration could exhaust it.
const (
	maxFile  = 256 << 10
	maxDepth = 32 // of brackets, and of dashes on one line
)

var errTooDeep = errors.New("too deeply nested")

// origin is where a value came from.
type origin struct {
	source string
	line   int
}

// decoder fills a configuration from one source after the other. It collects problems instead of
// stopping at the first and remembers where each value came from, so that rules checked later can
// name the line.
type decoder struct {
	source   string // of what is decoded now
	lines    bool   // the source has lines worth naming
	origins  map[string]origin
	problems Problems
}

func newDecoder() *decoder { return &decoder{origins: make(map[string]origin)} }

func (d *decoder) problem(n ast.Node, path, format string, args ...any) {
	d.problems = append(d.problems, Problem{Source: d.source, Line: d.line(n), Path: path, Message: fmt.Sprintf(format, args...)})
}

func (d *decoder) line(n ast.Node) int {
	if !d.lines || n == nil {
		return 0
	}
	if tk := n.GetToken(); tk != nil && tk.Position != nil {
		return tk.Position.Line
	}
	return 0
}

// file decodes a whole YAML document into the configuration c.
func (d *decoder) file(name string, text []byte, c *Config) {
	d.source, d.lines = name, true
	root, ok := d.parse(text)
	if !ok || root == nil {
		return
	}
	d.decode(root, reflect.ValueOf(c).Elem(), reflect.StructField{}, "")
}

// parse reads YAML that holds at most one document and returns its root, nil when it is empty.
func (d *decoder) parse(text []byte) (ast.Node, bool) {
	if len(text) > maxFile {
		d.problem(nil, "", "is larger than %s", Size(maxFile))
		return nil, false
	}
	file, err := parseYAML(text)
	if err != nil {
		p := Problem{Source: d.source, Message: "is not valid YAML"}
		if errors.Is(err, errTooDeep) {
			p.Message = "is nested deeper than any configuration; is it the right file?"
		}
		if syntax, ok := errors.AsType[yaml.Error](err); ok {
			// Only the parser's sentence: its long form quotes the lines around, secrets included.
			p.Message += ": " + syntax.GetMessage()
			if tk := syntax.GetToken(); d.lines && tk != nil && tk.Position != nil {
				p.Line = tk.Position.Line
			}
		}
		d.problems = append(d.problems, p)
		return nil, false
	}
	var root ast.Node
	for _, doc := range file.Docs {
		if doc == nil || isNull(doc.Body) {
			continue
		}
		if root != nil {
			d.problem(doc.Body, "", "holds more than one YAML document; keep one")
			return nil, false
		}
		root = doc.Body
	}
	return root, true
}

// parseYAML guards against a parser that panics, or runs out of memory, on text nobody thought of.
func parseYAML(text []byte) (file *ast.File, err error) {
	defer func() {
		if v := recover(); v != nil {
			file, err = nil, fmt.Errorf("parse YAML: %v", v)
		}
	}()
	tokens := lexer.Tokenize(string(text))
	depth, dashes, line := 0, 0, 0
	for _, tk := range tokens {
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType:
			if tk.Position.Line != line {
				line, dashes = tk.Position.Line, 0
			}
			dashes++
		}
		if depth > maxDepth || dashes > maxDepth {
			return nil, errTooDeep
		}
	}
	return parser.Parse(tokens, 0)
}

func isNull(n ast.Node) bool {
	if n == nil {
		return true
	}
	switch n.(type) {
	case *ast.NullNode, *ast.CommentGroupNode:
		return true
	}
	return false
}

// decode sets v from n. A key without a value leaves what is there, so that a section whose keys are
// all commented out means its defaults.
func (d *decoder) decode(n ast.Node, v reflect.Value, field reflect.StructField, path string) {
	if isNull(n) {
		return
	}
	d.origins[path] = origin{d.source, d.line(n)}
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		d.problem(n, path, "YAML anchors, aliases and tags are not supported; write the value out")
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.list(n, v, field, path)
	default:
		text, ok := scalarText(n)
		if !ok {
			d.problem(n, path, "must be a single value, not a %s", nodeName(n))
			return
		}
		d.scalar(n, text, v, field, path)
	}
}

func (d *decoder) mapping(n ast.Node, v reflect.Value, path string) {
	m, ok := n.(ast.MapNode)
	if !ok {
		what := "the file"
		if path != "" {
			what = "this"
		}
		d.problem(n, path, "%s must hold keys (%s), not a %s", what, strings.Join(fieldNames(v.Type()), ", "), nodeName(n))
		return
	}
	for entries := m.MapRange(); entries.Next(); {
		key, value := entries.Key(), entries.Value()
		if _, merge := key.(*ast.MergeKeyNode); merge {
			d.problem(key, path, "YAML anchors, aliases and tags are not supported; write the value out")
			continue
		}
		name := keyText(key)
		fieldPath := join(path, name)
		target, field, known := fieldByKey(v, name)
		switch {
		case known:
			d.decode(value, target, field, fieldPath)
		case isLater(withoutIndexes(fieldPath)):
			d.problem(key, fieldPath, laterMessage)
		case holdsSecret(v.Type()) && isNull(value):
			// { name: ops, s3cret }: the key may be a token whose name was forgotten.
			d.problem(key, path, "an entry has no value; the keys here are %s", strings.Join(fieldNames(v.Type()), ", "))
		default:
			d.problem(key, fieldPath, "unknown key; %s", suggestion(name, fieldNames(v.Type()), path))
		}
	}
}

// suggestion names the valid key closest to an unknown one: in the same section, else anywhere.
func suggestion(name string, here []string, path string) string {
	best, d := closest(name, here)
	if d <= near(name) {
		return fmt.Sprintf("did you mean %s?", join(withoutIndexes(path), best))
	}
	var elsewhere []string
	for _, k := range Keys() {
		if last := k.Path[strings.LastIndexByte(k.Path, '.')+1:]; last == name {
			elsewhere = append(elsewhere, k.Path)
		}
	}
	for _, section := range sections() {
		if last := section[strings.LastIndexByte(section, '.')+1:]; last == name {
			elsewhere = append(elsewhere, section)
		}
	}
	if len(elsewhere) > 0 {
		return fmt.Sprintf("did you mean %s?", strings.Join(elsewhere, " or "))
	}
	return fmt.Sprintf("the closest is %s", join(withoutIndexes(path), best))
}

func (d *decoder) list(n ast.Node, v reflect.Value, field reflect.StructField, path string) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.problem(n, path, "must be a list, such as %s", listExample(field))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, item := range seq.Values {
		itemPath := path + "[" + strconv.Itoa(i) + "]"
		if isNull(item) {
			d.problem(item, itemPath, "is empty; fill it in or remove it")
			continue
		}
		d.decode(item, out.Index(i), reflect.StructField{}, itemPath)
	}
	v.Set(out)
}

func listExample(field reflect.StructField) string {
	if example := field.Tag.Get("example"); example != "" {
		return example
	}
	return "[a, b]"
}

// scalar sets one value from its text. It never repeats the text of a secret.
func (d *decoder) scalar(n ast.Node, text string, v reflect.Value, field reflect.StructField, path string) {
	switch target := v.Addr().Interface().(type) {
	case *time.Duration:
		assign(d, n, path, text, target, parseDuration)
	case *Size:
		assign(d, n, path, text, target, parseSize)
	case *Secret:
		*target = Secret(text)
	case *bool:
		assign(d, n, path, text, target, parseBool)
	case *int:
		assign(d, n, path, text, target, parseInt)
	default:
		if err := checkEnum(text, field); err != nil {
			d.problem(n, path, "%v, not %s", err, quoted(text))
			return
		}
		v.SetString(text)
	}
}

// assign sets target to what parse makes of text; when it cannot, target keeps its value.
func assign[T any](d *decoder, n ast.Node, path, text string, target *T, parse func(string) (T, error)) {
	value, err := parse(text)
	if err != nil {
		d.problem(n, path, "%v, not %s", err, quoted(text))
		return
	}
	*target = value
}

func parseInt(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, errors.New("must be a whole number")
	}
	return n, nil
}

func parseBool(text string) (bool, error) {
	switch text {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errors.New("must be true or false")
}

func checkEnum(text string, field reflect.StructField) error {
	words := field.Tag.Get("enum")
	if words == "" {
		return nil
	}
	list := strings.Split(words, ",")
	if slices.Contains(list, text) {
		return nil
	}
	last := len(list) - 1
	return fmt.Errorf("must be %s or %s", strings.Join(list[:last], ", "), list[last])
}

// quoted shows a wrong value, shortened.
func quoted(text string) string {
	const most = 64
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strconv.Quote(text)
}

// scalarText returns a scalar as it was written, so that a token of digits stays what it was.
func scalarText(n ast.Node) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return s.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func keyText(key ast.MapKeyNode) string {
	if s, ok := key.(*ast.StringNode); ok {
		return s.Value
	}
	if tk := key.GetToken(); tk != nil {
		return tk.Value
	}
	return ""
}

func nodeName(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "group of keys"
	case *ast.SequenceNode:
		return "list"
	}
	return "single value"
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// withoutIndexes turns streams[1].id into streams.id.
func withoutIndexes(path string) string {
	for {
		open := strings.IndexByte(path, '[')
		end := strings.IndexByte(path, ']')
		if open < 0 || end < open {
			return path
		}
		path = path[:open] + path[end+1:]
	}
}

// forget drops what is known about the origins of path and everything below it.
func (d *decoder) forget(path string) {
	maps.DeleteFunc(d.origins, func(p string, _ origin) bool {
		rest, ok := strings.CutPrefix(p, path)
		return ok && (rest == "" || rest[0] == '[' || rest[0] == '.')
	})
}

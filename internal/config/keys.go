package config

import (
	"reflect"
	"strings"
	"time"
)

// envPrefix begins the name of every environment variable the configuration reads.
const envPrefix = "KLIVE_"

// envFile names the configuration file; it is the one variable that is not a key.
const envFile = envPrefix + "CONFIG"

// Key describes one key of the configuration: a leaf of the tree. A list is one leaf.
type Key struct {
	Path    string // such as "rtmp.listen"
	Env     string // such as "KLIVE_RTMP_LISTEN"
	Type    string // what the value is: text, duration, size, number, boolean, or a list
	Default string // the default as YAML
	Doc     string // one or more sentences
	Allowed string // bounds or words, such as "100ms to 1s"; empty when the type says it all
	Example string // a YAML example for lists, else empty
}

// Keys lists every key of the configuration in the order of the reference file.
func Keys() []Key {
	var keys []Key
	defaults := Default()
	walk(reflect.ValueOf(&defaults).Elem(), "", 0, func(n node) {
		if n.section {
			return
		}
		keys = append(keys, Key{
			Path:    n.path,
			Env:     envName(n.path),
			Type:    typeName(n.value.Type()),
			Default: inline(n.value),
			Doc:     n.field.Tag.Get("doc"),
			Allowed: allowed(n.field),
			Example: n.field.Tag.Get("example"),
		})
	})
	return keys
}

// node is a section or a leaf met by walk.
type node struct {
	path    string // full path
	name    string // last element of path
	depth   int    // 0 at the top level
	section bool   // has keys of its own
	field   reflect.StructField
	value   reflect.Value
}

// walk calls visit for every section and leaf of the struct v, parents first.
func walk(v reflect.Value, prefix string, depth int, visit func(node)) {
	for _, field := range reflect.VisibleFields(v.Type()) {
		name := field.Tag.Get("key")
		n := node{path: prefix + name, name: name, depth: depth, field: field, value: v.FieldByIndex(field.Index)}
		n.section = field.Type.Kind() == reflect.Struct
		visit(n)
		if n.section {
			walk(n.value, n.path+".", depth+1, visit)
		}
	}
}

func envName(path string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// sections lists the paths of all sections, for messages about keys that moved or were mistyped.
func sections() []string {
	var paths []string
	defaults := Default()
	walk(reflect.ValueOf(&defaults).Elem(), "", 0, func(n node) {
		if n.section {
			paths = append(paths, n.path)
		}
	})
	return paths
}

// fieldNames lists the keys of a struct type.
func fieldNames(t reflect.Type) []string {
	names := make([]string, 0, t.NumField())
	for _, field := range reflect.VisibleFields(t) {
		names = append(names, field.Tag.Get("key"))
	}
	return names
}

// fieldByKey finds the field of a struct value that a key names.
func fieldByKey(v reflect.Value, key string) (reflect.Value, reflect.StructField, bool) {
	for _, field := range reflect.VisibleFields(v.Type()) {
		if field.Tag.Get("key") == key {
			return v.FieldByIndex(field.Index), field, true
		}
	}
	return reflect.Value{}, reflect.StructField{}, false
}

// holdsSecret reports whether a struct type has a secret among its fields.
func holdsSecret(t reflect.Type) bool {
	for _, field := range reflect.VisibleFields(t) {
		if field.Type == reflect.TypeFor[Secret]() {
			return true
		}
	}
	return false
}

func typeName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t == reflect.TypeFor[Size]():
		return "size"
	case t.Kind() == reflect.Bool:
		return "boolean"
	case t.Kind() == reflect.Int:
		return "number"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return "list of {" + strings.Join(fieldNames(t.Elem()), ", ") + "}"
	case t.Kind() == reflect.Slice:
		return "list of text"
	default:
		return "text"
	}
}

// allowed says in words what the tags of a field allow.
func allowed(field reflect.StructField) string {
	if words := field.Tag.Get("enum"); words != "" {
		return strings.Join(strings.Split(words, ","), ", ")
	}
	low, high := field.Tag.Get("min"), field.Tag.Get("max")
	if low == "" {
		return ""
	}
	return low + " to " + high
}

// laterKeys are the keys of releases to come, list indexes left out.
// They are refused with a sentence of their own, because their documentation can be met before they work.
var laterKeys = []string{
	"webrtc", "playback", "transcode", "dvr", "push", "cluster",
	"streams.dvr", "streams.recording", "streams.ladder",
}

const laterMessage = "is not available in this version yet; remove it"

// isLater reports whether path (without list indexes) is a key of a later release or stands below one.
func isLater(path string) bool {
	for _, later := range laterKeys {
		if path == later || strings.HasPrefix(path, later+".") {
			return true
		}
	}
	return false
}

// isLaterEnv is isLater for the name of an environment variable.
func isLaterEnv(name string) bool {
	for _, later := range laterKeys {
		if env := envName(later); name == env || strings.HasPrefix(name, env+"_") {
			return true
		}
	}
	return false
}

package kalturatest

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
)

// params are the parameters of a request as a tree: text, json.Number, bool,
// nil, params or []any.
type params map[string]any

// maxDepth bounds the nesting that a name with colons makes; what is deeper
// stays one name.
const maxDepth = 16

// set puts a value at a path of names parted by colons.
func (p params) set(path string, value any) {
	at := p
	names := strings.SplitN(path, ":", maxDepth)
	for _, name := range names[:len(names)-1] {
		next, ok := at[name].(params)
		if !ok {
			next = params{}
			at[name] = next
		}
		at = next
	}
	name := names[len(names)-1]
	if property, null := strings.CutSuffix(name, "__null"); null {
		at[property] = nil
		return
	}
	at[name] = value
}

// merge lays other over p; where both hold a tree, the trees are merged.
func (p params) merge(other params) {
	for k, v := range other {
		tree, isTree := v.(params)
		if have, ok := p[k].(params); ok && isTree {
			have.merge(tree)
			continue
		}
		p[k] = v
	}
}

// fromJSON turns a decoded JSON object into params; names may hold colons.
func fromJSON(object map[string]any) params {
	out := params{}
	for k, v := range object {
		out.set(k, treeOf(v))
	}
	return out
}

func treeOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return fromJSON(v)
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = treeOf(item)
		}
		return out
	default:
		return v
	}
}

// text is a scalar as text; present is false for missing and null ones.
func (p params) text(name string) (value string, present bool) {
	switch v := p[name].(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		if v {
			return "1", true
		}
		return "", true
	default:
		return "", false
	}
}

// str is a scalar as text, or "".
func (p params) str(name string) string {
	s, _ := p.text(name)
	return s
}

// number reads a number as PHP casts one: the digits in front count.
func (p params) number(name string, missing int) int {
	s, ok := p.text(name)
	if !ok {
		return missing
	}
	return leadingInt(s)
}

func leadingInt(s string) int {
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || end == 0 && s[end] == '-') {
		end++
	}
	n, err := strconv.Atoi(s[:end])
	if err != nil {
		return 0
	}
	return n
}

func (p params) float(name string) float64 {
	f, err := strconv.ParseFloat(p.str(name), 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return f
}

// truth reads a bool: false, "" and 0 are false, everything else is true.
func (p params) truth(name string, missing bool) bool {
	s, ok := p.text(name)
	if !ok {
		return missing
	}
	return s != "" && s != "0" && !strings.EqualFold(s, "false")
}

// object is a nested object; nil when there is none.
func (p params) object(name string) params {
	o, _ := p[name].(params)
	return o
}

// list is an array of objects, from a JSON array or from numbered form keys.
// present is true for an empty array that was given on purpose.
func (p params) list(name string) (items []params, present bool) {
	switch v := p[name].(type) {
	case []any:
		for _, item := range v {
			if o, ok := item.(params); ok {
				items = append(items, o)
			}
		}
		return items, true
	case params:
		var keys []int
		for k := range v {
			if n, err := strconv.Atoi(k); err == nil {
				keys = append(keys, n)
			}
		}
		slices.Sort(keys)
		for _, k := range keys {
			if o := v.object(strconv.Itoa(k)); o != nil {
				items = append(items, o)
			}
		}
		return items, true
	default:
		return nil, false
	}
}

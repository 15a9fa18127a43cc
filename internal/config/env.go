package config

import (
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// serviceLink matches the variables Kubernetes sets in every container for a service whose name
// begins with "klive". They are not ours and no mistake of the operator's.
var serviceLink = regexp.MustCompile(`_SERVICE_(HOST|PORT)(_|$)|_PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`)

// environment decodes the KLIVE_ variables of env into c and returns the names of those that look
// like no key at all. An empty variable counts as not set.
func (d *decoder) environment(env []string, c *Config) (ignored []string) {
	leaves := make(map[string]node)
	walk(reflect.ValueOf(c).Elem(), "", 0, func(n node) {
		if !n.section {
			leaves[envName(n.path)] = n
		}
	})
	names := make([]string, 0, len(leaves))
	for name := range leaves {
		names = append(names, name)
	}
	slices.Sort(names)

	env = slices.Clone(env)
	slices.Sort(env)
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || name == envFile || value == "" {
			continue
		}
		d.source, d.lines = name, false
		leaf, known := leaves[name]
		switch {
		case known:
			d.variable(value, leaf)
		case serviceLink.MatchString(name):
		case isLaterEnv(name):
			d.problem(nil, "", laterMessage)
		default:
			if best, distance := closest(strings.ToLower(name), lower(names)); distance <= near(name)/2 || namesSection(name) {
				d.problem(nil, "", "unknown variable; did you mean %s?", strings.ToUpper(best))
			} else {
				ignored = append(ignored, name)
			}
		}
	}
	return ignored
}

// variable decodes the value of one variable into its leaf. Lists are YAML; a list of texts may also
// be written with commas.
func (d *decoder) variable(value string, leaf node) {
	d.forget(leaf.path)
	if leaf.value.Kind() != reflect.Slice {
		d.origins[leaf.path] = origin{source: d.source}
		d.scalar(nil, value, leaf.value, leaf.field, leaf.path)
		return
	}
	if leaf.value.Type().Elem().Kind() == reflect.String && !strings.HasPrefix(strings.TrimSpace(value), "[") {
		d.origins[leaf.path] = origin{source: d.source}
		var items []string
		for item := range strings.SplitSeq(value, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
		leaf.value.Set(reflect.ValueOf(items))
		return
	}
	root, ok := d.parse([]byte(value))
	if !ok {
		return
	}
	if _, one := root.(*ast.MappingNode); one {
		root = sequenceOf(root)
	}
	d.decode(root, leaf.value, leaf.field, leaf.path)
}

// sequenceOf makes a list of one, so that a single entry needs no brackets.
func sequenceOf(n ast.Node) ast.Node {
	seq := ast.Sequence(n.GetToken(), true)
	seq.Values = []ast.Node{n}
	return seq
}

// namesSection reports whether a variable begins with the name of a section, so that it can only be
// meant for this program.
func namesSection(name string) bool {
	for _, section := range sections() {
		if strings.HasPrefix(name, envName(section)+"_") {
			return true
		}
	}
	return false
}

func lower(names []string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = strings.ToLower(name)
	}
	return out
}

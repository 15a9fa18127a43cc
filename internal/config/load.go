package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// searchPath is where a configuration file is looked for when none is named.
var searchPath = []string{"./klive.yaml", "/etc/klive/klive.yaml"}

// Options says where Load looks.
type Options struct {
	File string   // the file named on the command line; empty: $KLIVE_CONFIG, then the search path
	Env  []string // the environment as os.Environ gives it; nil: the process's own
}

// Loaded is a configuration and how it came about.
type Loaded struct {
	Config
	File     string   // the file that was read; empty when there is none
	Warnings []string // sentences for the log; none holds a secret
}

// Load builds the configuration: defaults, then the file, then the environment. The error is
// Problems when the configuration is wrong; it lists everything wrong at once.
func Load(o Options) (Loaded, error) {
	env := o.Env
	if env == nil {
		env = os.Environ()
	}
	name, text, err := readFile(o.File, env)
	if err != nil {
		return Loaded{}, err
	}
	return build(name, text, env)
}

// build is Load without the file system: text is the content of the file called name, if any.
func build(name string, text []byte, env []string) (Loaded, error) {
	l := Loaded{Config: Default(), File: name}
	d := newDecoder()
	if name != "" {
		d.file(name, text, &l.Config)
	}
	for _, variable := range d.environment(env, &l.Config) {
		l.Warnings = append(l.Warnings, "the environment variable "+variable+" is not a configuration key and is ignored")
	}
	// The rules run also when decoding found problems, so that the operator sees all of them in one go;
	// a value that could not be read is reported once, by the decoder.
	d.problems = append(d.problems, validate(l.Config, d)...)
	if len(d.problems) > 0 {
		return Loaded{}, d.problems
	}
	l.Warnings = append(l.Warnings, l.warnings()...)
	return l, nil
}

// readFile finds and reads the configuration file. A file that was named must exist; one of the
// search path need not.
func readFile(named string, env []string) (name string, text []byte, err error) {
	if named == "" {
		named = lookup(env, envFile)
	}
	if named != "" {
		text, err = readBounded(named)
		if err != nil {
			return "", nil, Problems{{Source: named, Message: "the configuration file cannot be read: " + reason(err)}}
		}
		return named, text, nil
	}
	for _, name := range searchPath {
		text, err := readBounded(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", nil, Problems{{Source: name, Message: "the configuration file cannot be read: " + reason(err)}}
		}
		return name, text, nil
	}
	return "", nil, nil
}

// readBounded reads a file of at most maxFile bytes, and one more so that the decoder can tell.
func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open configuration: %w", err)
	}
	defer f.Close() // opened for reading: closing loses nothing
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return text, nil
}

// reason is the operating system's word on a failed file operation, without the name and our verbs.
func reason(err error) string {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// lookup finds a variable in an environment; the last one counts, as in the shell.
func lookup(env []string, name string) string {
	value := ""
	for _, entry := range env {
		if n, v, ok := strings.Cut(entry, "="); ok && n == name {
			value = v
		}
	}
	return value
}

package internal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const maxLines = 500

// forbiddenNames say nothing about what is inside.
var forbiddenNames = []string{
	"util", "utils", "common", "base", "types", "defs", "helper", "helpers", "logic", "core",
}

// sourceFile is one Go file with the path it has below the module's root.
type sourceFile struct {
	path string
	text []byte
}

func TestSourcesKeepTheRules(t *testing.T) {
	var files []sourceFile
	for _, top := range []string{"internal", "cmd"} {
		files = append(files, readSources(t, top)...)
	}
	complaints := checkSources(files)
	require.Empty(t, complaints, strings.Join(complaints, "\n"))
}

// readSources reads the Go files below a folder of the module, without tests, test data and fetched files.
func readSources(t *testing.T, top string) []sourceFile {
	t.Helper()
	var files []sourceFile
	root := os.DirFS("..")
	err := fs.WalkDir(root, top, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "testdata":
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := fs.ReadFile(root, path)
		files = append(files, sourceFile{path: path, text: text})
		return err
	})
	require.NoError(t, err)
	return files
}

// checkSources returns one sentence for each rule about source text that a file breaks.
func checkSources(files []sourceFile) []string {
	var complaints []string
	fset := token.NewFileSet()
	parsed := map[string][]*ast.File{} // by folder
	for _, f := range files {
		complaints = append(complaints, checkName(f.path)...)
		if lines := strings.Count(string(f.text), "\n"); lines > maxLines {
			complaints = append(complaints, fmt.Sprintf(
				"%s has %d lines: past %d it holds two ideas; find the name of the second", f.path, lines, maxLines))
		}
		tree, err := parser.ParseFile(fset, f.path, f.text, parser.ParseComments)
		if err != nil {
			complaints = append(complaints, err.Error())
			continue
		}
		folder := filepath.Dir(f.path)
		parsed[folder] = append(parsed[folder], tree)
		complaints = append(complaints, checkFile(fset, f.path, tree)...)
	}
	for _, trees := range parsed {
		complaints = append(complaints, checkWrites(fset, trees)...)
	}
	slices.Sort(complaints)
	return complaints
}

func checkName(path string) []string {
	var complaints []string
	for name := range strings.SplitSeq(strings.TrimSuffix(path, ".go"), "/") {
		if slices.Contains(forbiddenNames, name) {
			complaints = append(complaints, fmt.Sprintf(
				"%s: %q says nothing; name the folder after its noun and the file after its step", path, name))
		}
	}
	return complaints
}

// checkFile holds the rules that one file can break alone.
func checkFile(fset *token.FileSet, path string, tree *ast.File) []string {
	var complaints []string
	say := func(at ast.Node, format string, args ...any) {
		complaints = append(complaints, fset.Position(at.Pos()).String()+": "+fmt.Sprintf(format, args...))
	}
	for _, decl := range tree.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				say(d, "init() works behind the reader's back; let a constructor or app do it")
			}
		case *ast.GenDecl:
			if d.Tok == token.VAR {
				checkVars(d, say)
			}
		}
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			if !strings.HasPrefix(path, "internal/run/") {
				say(n, "a raw go statement has no name and nobody waits for it; start it with run.Group")
			}
		case *ast.SelectorExpr:
			if readsEnvironment(n) && !strings.HasPrefix(path, "internal/config/") {
				say(n, "os.%s outside internal/config; a setting is a key of the configuration, handed over as a value", n.Sel.Name)
			}
		}
		return true
	})
	return complaints
}

func readsEnvironment(n *ast.SelectorExpr) bool {
	pkg, ok := n.X.(*ast.Ident)
	return ok && pkg.Name == "os" && slices.Contains([]string{"Getenv", "LookupEnv", "Environ", "Setenv", "ExpandEnv"}, n.Sel.Name)
}

// checkVars complains about package variables that are more than names for fixed things.
func checkVars(d *ast.GenDecl, say func(ast.Node, string, ...any)) {
	for _, spec := range d.Specs {
		v := spec.(*ast.ValueSpec)
		if embedded(d.Doc) || embedded(v.Doc) {
			continue
		}
		for i, name := range v.Names {
			var value ast.Expr
			if i < len(v.Values) {
				value = v.Values[i]
			}
			if name.Name != "_" && !fixed(v.Type, value) {
				say(name, "package variable %s is state for everybody; a package variable may only be an error, a table, "+
					"a compiled pattern, an embedded file, a pool or an interface assertion", name.Name)
			}
		}
	}
}

func embedded(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

// fixed reports whether a package variable of this type and value is one of the kinds that may exist.
func fixed(typ, value ast.Expr) bool {
	if typ != nil && dotted(typ) == "sync.Pool" {
		return true
	}
	switch v := value.(type) {
	case *ast.CompositeLit: // a table, or a fixed value such as a key or an identifier
		name := dotted(v.Type)
		return name == "sync.Pool" || !strings.HasPrefix(name, "sync.") && !strings.HasPrefix(name, "atomic.")
	case *ast.UnaryExpr: // &T{} is a table's row or a pool; other addresses are state
		lit, ok := v.X.(*ast.CompositeLit)
		return v.Op == token.AND && ok && fixed(nil, lit)
	case *ast.CallExpr:
		return fixedCall(v)
	default:
		return false
	}
}

// fixedCalls make values that never change afterwards.
var fixedCalls = []string{
	"errors.New", "fmt.Errorf", "fault.New", "strings.NewReplacer", "template.Must", "prometheus.NewDesc",
	"reflect.TypeFor", "reflect.TypeOf", "crc32.MakeTable", "crc64.MakeTable",
}

func fixedCall(call *ast.CallExpr) bool {
	switch fun := call.Fun.(type) {
	case *ast.ArrayType: // []byte("...")
		return true
	case *ast.FuncLit: // func() [256]T { ... }() fills a table
		return true
	case *ast.IndexExpr:
		return slices.Contains(fixedCalls, dotted(fun.X))
	default:
		name := dotted(call.Fun)
		last := strings.ToLower(name[strings.LastIndex(name, ".")+1:])
		return slices.Contains(fixedCalls, name) || strings.HasPrefix(last, "must") || strings.Contains(last, "table")
	}
}

// dotted renders an identifier or a selector: "sync.Pool"; anything else is "".
func dotted(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return dotted(e.X) + "." + e.Sel.Name
	default:
		return ""
	}
}

// checkWrites complains when a function of a package changes one of its package variables: a table is only read.
// It needs no types: a name that a file does not resolve, or resolves to its own top level, is the package's.
func checkWrites(fset *token.FileSet, trees []*ast.File) []string {
	vars := map[string]bool{}
	for _, tree := range trees {
		for _, decl := range tree.Decls {
			if d, ok := decl.(*ast.GenDecl); ok && d.Tok == token.VAR {
				for _, spec := range d.Specs {
					for _, name := range spec.(*ast.ValueSpec).Names {
						vars[name.Name] = true
					}
				}
			}
		}
	}
	var complaints []string
	for _, tree := range trees {
		ast.Inspect(tree, func(n ast.Node) bool {
			for _, target := range written(n) {
				name := root(target)
				if name != nil && name.Name != "_" && vars[name.Name] && topLevel(tree, name) {
					complaints = append(complaints, fmt.Sprintf(
						"%s: package variable %s is written here; what changes belongs to a value that somebody owns",
						fset.Position(n.Pos()), name.Name))
				}
			}
			return true
		})
	}
	return complaints
}

// written returns the expressions that a statement changes.
func written(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	case *ast.CallExpr:
		if name := dotted(n.Fun); (name == "delete" || name == "clear") && len(n.Args) > 0 {
			return n.Args[:1]
		}
	}
	return nil
}

// root is the name at the left end of x.y[i].z.
func root(e ast.Expr) *ast.Ident {
	switch e := e.(type) {
	case *ast.Ident:
		return e
	case *ast.SelectorExpr:
		return root(e.X)
	case *ast.IndexExpr:
		return root(e.X)
	case *ast.StarExpr:
		return root(e.X)
	case *ast.ParenExpr:
		return root(e.X)
	default:
		return nil
	}
}

// topLevel reports whether the name means a package variable and not a local one of the same name.
func topLevel(tree *ast.File, name *ast.Ident) bool {
	if name.Obj == nil { // declared in another file of the package
		return true
	}
	return tree.Scope.Lookup(name.Name) == name.Obj
}

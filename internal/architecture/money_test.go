package architecture

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

const (
	clientPackage = module + "/internal/shopper"
	clientType    = "Client"
)

// costly are the client's methods that rent, prolong or destroy.
var costly = []string{"CreateSession", "Extend", "Delete"}

// spender is the only package that may use them.
const spender = "internal/rental"

// unit is a package's source with all that it takes to type-check it.
type unit struct {
	path  string // import path
	files []*ast.File
	fset  *token.FileSet
	from  types.Importer
}

// spending complains about every use of a costly method, also when it is used
// through an interface that the client fits, so that a small interface declared
// somewhere else is no way around the rule.
func spending(u unit) ([]string, error) {
	info := &types.Info{Selections: map[*ast.SelectorExpr]*types.Selection{}}
	config := types.Config{Importer: u.from, FakeImportC: true}
	if _, err := config.Check(u.path, u.fset, u.files, info); err != nil {
		return nil, fmt.Errorf("type-checking %s: %w", u.path, err)
	}
	shopper, err := u.from.Import(clientPackage)
	if err != nil {
		return nil, fmt.Errorf("importing the client: %w", err)
	}
	object := shopper.Scope().Lookup(clientType)
	if object == nil {
		return nil, fmt.Errorf("%s has no type %s", clientPackage, clientType)
	}
	client := types.NewPointer(object.Type())

	var complaints []string
	for expression, selection := range info.Selections {
		method, ok := selection.Obj().(*types.Func)
		if !ok || !slices.Contains(costly, method.Name()) || !reaches(method, client) {
			continue
		}
		position := u.fset.Position(expression.Pos())
		complaints = append(complaints, fmt.Sprintf("%s:%d uses %s of the shopper's client; only %s may",
			filepath.Base(position.Filename), position.Line, method.Name(), spender))
	}
	slices.Sort(complaints)
	return complaints, nil
}

// reaches reports whether calling method can end up in the client: it is the
// client's own, or that of an interface which the client implements.
func reaches(method *types.Func, client *types.Pointer) bool {
	receiver := method.Signature().Recv().Type()
	if contract, ok := receiver.Underlying().(*types.Interface); ok {
		return types.Implements(client, contract)
	}
	if pointer, ok := receiver.(*types.Pointer); ok {
		receiver = pointer.Elem()
	}
	return types.Identical(receiver, client.Elem())
}

func TestOnlyRentalSpends(t *testing.T) {
	t.Parallel()
	inv := packages(t)
	fset := token.NewFileSet()
	from := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(inv.exports[path])
	})
	seen := 0
	for _, p := range inv.packages {
		full := module + "/" + p.path
		if !slices.Contains(p.deps, clientPackage) {
			continue // can't have the client in hand, or is the client
		}
		u := unit{path: full, fset: fset, from: from}
		for _, name := range p.files {
			file, err := parser.ParseFile(fset, filepath.Join(p.dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			u.files = append(u.files, file)
		}
		complaints, err := spending(u)
		if err != nil {
			t.Fatal(err)
		}
		if within(p.path, spender) {
			seen += len(complaints)
			continue
		}
		for _, c := range complaints {
			t.Errorf("%s/%s", p.path, c)
		}
	}
	if seen == 0 {
		t.Errorf("%s is not seen to use %v: the check looks in the wrong place", spender, costly)
	}
}

func TestSpendingRuleCanFail(t *testing.T) {
	t.Parallel()
	const client = `package shopper
type Client struct{}
func (c *Client) CreateSession(name string) error { return nil }
func (c *Client) Extend(id string, hours int) error { return nil }
func (c *Client) Delete(id string) error { return nil }
func (c *Client) Session(id string) error { return nil }`
	tests := []struct {
		name, body, want string
	}{
		{"reading", `func f(c *shopper.Client) { _ = c.Session("x") }`, ""},
		{"somebody else's Delete", `type file struct{}; func (file) Delete() {}; func f(x file, _ *shopper.Client) { x.Delete() }`, ""},
		{"another interface's Delete", `func f(x interface{ Delete() }, _ *shopper.Client) { x.Delete() }`, ""},
		{"a call", `func f(c *shopper.Client) { _ = c.CreateSession("x") }`, "CreateSession"},
		{"a method value", `func f(c *shopper.Client) func(string) error { return c.Delete }`, "Delete"},
		{"a method expression", `var f = (*shopper.Client).Extend; var _ shopper.Client`, "Extend"},
		{"an embedded client", `type all struct{ *shopper.Client }; func f(a all) { _ = a.Delete("x") }`, "Delete"},
		{"an interface", `type deleter interface{ Delete(string) error }
			func f(d deleter) { _ = d.Delete("x") }; var _ deleter = (*shopper.Client)(nil)`, "Delete"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fset := token.NewFileSet()
			config := types.Config{}
			shopper, err := config.Check(clientPackage, fset, []*ast.File{source(t, fset, client)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			user := source(t, fset, "package user\nimport \""+clientPackage+"\"\n"+test.body)
			complaints, err := spending(unit{path: "user", files: []*ast.File{user}, fset: fset, from: only{shopper}})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, complaints, test.want)
		})
	}
}

// only imports one package.
type only struct{ pkg *types.Package }

// Import implements [types.Importer].
func (o only) Import(path string) (*types.Package, error) {
	if path != o.pkg.Path() {
		return nil, fmt.Errorf("no package %s here", path)
	}
	return o.pkg, nil
}

func source(t *testing.T, fset *token.FileSet, text string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(fset, "source.go", text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

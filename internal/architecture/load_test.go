package architecture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// module is this repository's module path; packages are named relative to it.
const module = "github.com/cloud-gpu-shopper/terraform-provider-shopper"

// pkg is what the rules look at of a package of this module. Test files are
// left out: they may import what they like.
type pkg struct {
	path    string   // relative to the module, "." for the root
	doc     string   // the package's doc comment
	dir     string   // where the source is
	files   []string // Go files, relative to dir
	imports []string // direct imports, as full import paths
	deps    []string // all imports, direct and indirect
}

// listed is the part of `go list -json` that is used here.
type listed struct {
	ImportPath string
	Dir        string
	Doc        string
	Export     string
	GoFiles    []string
	CgoFiles   []string
	Imports    []string
	Deps       []string
	Module     *struct{ Main bool }
}

// inventory is the output of one `go list`.
type inventory struct {
	packages []pkg
	exports  map[string]string // import path to compiled export data
}

// load lists this module once for all tests. A package that does not compile
// (-e) fails its own build and tests; it need not fail these too.
var load = sync.OnceValues(func() (inventory, error) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return inventory{}, err
	}
	command := exec.Command("go", "list", "-e", "-export", "-deps",
		"-json=ImportPath,Dir,Doc,Export,GoFiles,CgoFiles,Imports,Deps,Module", "./...")
	command.Dir = root
	var stderr bytes.Buffer
	command.Stderr = &stderr
	stdout, err := command.Output()
	if err != nil {
		return inventory{}, fmt.Errorf("go list: %w\n%s", err, stderr.String())
	}
	return parse(bytes.NewReader(stdout))
})

// parse reads the stream of objects that `go list -json` prints.
func parse(stream io.Reader) (inventory, error) {
	inv := inventory{exports: map[string]string{}}
	decoder := json.NewDecoder(stream)
	for {
		var l listed
		err := decoder.Decode(&l)
		if errors.Is(err, io.EOF) {
			return inv, nil
		}
		if err != nil {
			return inventory{}, fmt.Errorf("reading go list: %w", err)
		}
		inv.exports[l.ImportPath] = l.Export
		if l.Module == nil || !l.Module.Main {
			continue
		}
		inv.packages = append(inv.packages, pkg{
			path:    relative(l.ImportPath),
			doc:     l.Doc,
			dir:     l.Dir,
			files:   append(l.GoFiles, l.CgoFiles...),
			imports: l.Imports,
			deps:    l.Deps,
		})
	}
}

// packages returns this module's packages that have code outside tests.
func packages(t *testing.T) inventory {
	t.Helper()
	inv, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.packages) == 0 {
		t.Fatal("go list found no package")
	}
	return inv
}

// relative turns an import path of this module into one relative to it, and
// leaves any other as it is.
func relative(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

// within reports whether path is dir or below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}

// withinAny is within for several.
func withinAny(path string, dirs []string) bool {
	for _, dir := range dirs {
		if within(path, dir) {
			return true
		}
	}
	return false
}

// complain fails the test once per complaint.
func complain(t *testing.T, complaints []string) {
	t.Helper()
	for _, c := range complaints {
		t.Error(c)
	}
}

// tracked returns the repository's text files, new ones that are not ignored
// included, relative to its root.
func tracked(t *testing.T) (root string, files []string) {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	command.Dir = root
	out, err := command.Output()
	if err != nil {
		t.Skipf("SKIPPED: this is no git work tree (%v)", err)
	}
	for _, name := range strings.Split(strings.TrimRight(string(out), "\x00"), "\x00") {
		info, err := os.Lstat(filepath.Join(root, name))
		if err == nil && info.Mode().IsRegular() {
			files = append(files, name)
		}
	}
	if len(files) == 0 {
		t.Fatal("git lists no file")
	}
	return root, files
}

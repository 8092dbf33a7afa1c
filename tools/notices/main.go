// Command notices writes the licenses and notices of the modules that the released programs are linked from, Go included, into
// one file, which each archive of a release contains. With -list it prints the path and folder of each module instead. Run it
// from the repository's root; go mod download fetches the modules.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	list := flag.Bool("list", false, "print the path and folder of each module instead")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./tools/notices FILE\n       go run ./tools/notices -list")
	}
	flag.Parse()
	if *list == (flag.NArg() == 1) {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(context.Background(), flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "notices:", err)
		os.Exit(1)
	}
}

// run writes the file, or prints the modules if its name is "".
func run(ctx context.Context, file string) error {
	modules, err := linked(ctx)
	if err != nil {
		return err
	}
	if file == "" {
		for _, m := range modules {
			fmt.Println(m.path, m.folder)
		}
		return nil
	}
	text, err := notices(ctx, modules)
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, text, 0o644))
}

// module is one that a program is linked from.
type module struct {
	path, version, folder string
	packages              []string // the folders of those of its packages that are linked
}

// linked returns the modules of the provider and the sandbox on all systems they are released for, ordered by path.
func linked(ctx context.Context) ([]*module, error) {
	modules := map[string]*module{}
	for _, system := range []string{"linux", "darwin", "windows", "freebsd"} {
		programs := []string{"."}
		if system == "linux" || system == "darwin" {
			programs = append(programs, "./internal/sandbox/cmd")
		}
		const format = `{{with .Module}}{{if not .Main}}{{.Path}}{{"\t"}}{{.Version}}{{"\t"}}{{.Dir}}{{"\t"}}{{$.Dir}}{{end}}{{end}}`
		command := exec.CommandContext(ctx, "go", append([]string{"list", "-deps", "-f", format}, programs...)...)
		command.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
		command.Stderr = os.Stderr
		out, err := command.Output()
		if err != nil {
			return nil, fmt.Errorf("go list for %s: %w", system, err)
		}
		for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
			fields := strings.Split(lines.Text(), "\t")
			path, folder := fields[0], fields[3]
			if modules[path] == nil {
				modules[path] = &module{path: path, version: fields[1], folder: fields[2]}
			}
			modules[path].packages = append(modules[path].packages, folder)
		}
	}
	return slices.SortedFunc(maps.Values(modules), func(a, b *module) int { return strings.Compare(a.path, b.path) }), nil
}

// notice matches the names of files that have to be passed on with a program.
var notice = regexp.MustCompile(`^(?i:licen[cs]e|copying|notice|patents)(\W.*)?$`)

// texts returns a module's notices: those in its folder, and in the folders between it and each linked package.
func (m *module) texts() ([]string, error) {
	var folders, found []string
	for _, folder := range append(m.packages, m.folder) {
		for ; strings.HasPrefix(folder, m.folder); folder = filepath.Dir(folder) {
			folders = append(folders, folder)
		}
	}
	slices.Sort(folders)
	for _, folder := range slices.Compact(folders) {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if entry.IsDir() || !notice.MatchString(entry.Name()) || filepath.Ext(entry.Name()) == ".go" {
				continue
			}
			text, err := os.ReadFile(filepath.Join(folder, entry.Name()))
			if err != nil {
				return nil, err
			}
			found = append(found, strings.TrimSpace(string(text)))
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no license in %s", m.path, m.folder)
	}
	return found, nil
}

// notices returns the file's text: each text once, below the modules that have it.
func notices(ctx context.Context, modules []*module) ([]byte, error) {
	golang, err := exec.CommandContext(ctx, "go", "env", "GOVERSION", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	version, root, _ := strings.Cut(strings.TrimSpace(string(golang)), "\n")
	holders := map[string][]string{} // the modules with a text
	var order []string
	for _, m := range append(modules, &module{path: "Go", version: version, folder: root}) {
		texts, err := m.texts()
		if err != nil {
			return nil, err
		}
		for _, text := range texts {
			if holders[text] == nil {
				order = append(order, text)
			}
			holders[text] = append(holders[text], m.path+" "+m.version)
		}
	}
	var b bytes.Buffer
	b.WriteString("This program contains the following modules. \"go mod download -json MODULE@VERSION\" fetches the source code of one.\n")
	for _, text := range order {
		fmt.Fprintf(&b, "\n%s\n\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(slices.Compact(holders[text]), "\n"), text)
	}
	return b.Bytes(), nil
}

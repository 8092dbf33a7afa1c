package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// origin is what is added to an example that doesn't say where the provider comes from.
const origin = "terraform {\n  required_providers {\n    shopper = { source = \"cloud-gpu-shopper/shopper\" }\n  }\n}\n"

var (
	declares = regexp.MustCompile(`(?m)^\s*required_providers\s*{`)
	hcl      = regexp.MustCompile("(?s)```hcl\n(.*?)```")
	guided   = regexp.MustCompile("(?s)```terraform\n(.*?)```")
)

// Every configuration below examples/, README's and the guides' are formatted and valid, as far as the CLI knows what it is about.
func TestE2EExamplesAreValid(t *testing.T) {
	t.Parallel()
	examplesAreValid(t)
}

// The newest Terraform knows all of it.
func TestTerraformExamplesAreValid(t *testing.T) {
	t.Parallel()
	newTerraform(t)
	examplesAreValid(t)
}

func examplesAreValid(t *testing.T) {
	t.Helper()
	s := newWorld(t).newStack(t, "s")
	root := filepath.Join(s.dir, "examples")
	if err := os.CopyFS(root, os.DirFS(filepath.Join("..", "..", "examples"))); err != nil {
		t.Fatal(err)
	}
	pages(t, root)
	if code, diff := s.run(t, "fmt", "-check", "-diff", "-recursive", "examples"); code != 0 {
		t.Errorf("make fmt formats this:\n%s", diff)
	}
	apart(t, root)
	folders := configurations(t, root)
	if len(folders) < 20 {
		t.Errorf("%d examples: %q", len(folders), folders)
	}
	for _, folder := range folders {
		name, err := filepath.Rel(root, folder)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !known(name) {
				t.Skipf("SKIPPED: %s has no such thing", built.version)
			}
			one := *s
			one.dir = folder
			one.env = []string{"TF_CLI_CONFIG_FILE=" + s.cliConfig()}
			one.validate(t, strings.HasPrefix(name, "list-resources"))
		})
	}
}

// validate needs no init: providers come from dev_overrides, modules from beside the example.
func (s *stack) validate(t *testing.T, query bool) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "*.tf"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(files, func(file string) bool { return declares.MatchString(read(t, file)) }) {
		write(t, filepath.Join(s.dir, "origin_of_the_provider.tf"), origin)
	}
	s.must(t, 0, "get", "-no-color")
	args := []string{"validate", "-no-color"}
	if query {
		args = append(args, "-query")
	}
	s.must(t, 0, args...)
}

// known reports whether the CLI has what an example is about.
func known(name string) bool {
	var minor int
	terraform, _ := fmt.Sscanf(built.version, "Terraform v1.%d", &minor)
	switch {
	case strings.HasPrefix(name, "actions"), strings.HasPrefix(name, "list-resources"):
		return terraform == 1 && minor >= 14
	case filepath.Base(name) == "import-by-identity":
		return terraform == 0 || minor >= 12
	default:
		return true
	}
}

// pages makes an example of README's configuration, and of each that a guide shows and that is no file of examples/.
func pages(t *testing.T, root string) {
	t.Helper()
	example := func(name, config string) {
		folder := filepath.Join(root, name)
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(folder, "main.tf"), config)
	}
	var config strings.Builder
	for _, block := range hcl.FindAllStringSubmatch(read(t, filepath.Join("..", "..", "README.md")), -1) {
		config.WriteString(block[1])
	}
	example("readme", config.String())
	guides, err := filepath.Glob(filepath.Join("..", "..", "templates", "guides", "*.tmpl"))
	if err != nil || len(guides) == 0 {
		t.Fatalf("there are no guides: %v", err)
	}
	for _, guide := range guides {
		for i, block := range guided.FindAllStringSubmatch(read(t, guide), -1) {
			example(fmt.Sprintf("guide-%s-%d", strings.TrimSuffix(filepath.Base(guide), ".md.tmpl"), i+1), block[1])
		}
	}
}

// apart gives each import-by-….tf a folder beside what it imports to: a resource has one import block at a time.
func apart(t *testing.T, root string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "resources", "*", "import-by-*.tf"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		folder := strings.TrimSuffix(file, ".tf")
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(folder, "resource.tf"), read(t, filepath.Join(filepath.Dir(file), "resource.tf")))
		if err := os.Rename(file, filepath.Join(folder, filepath.Base(file))); err != nil {
			t.Fatal(err)
		}
	}
}

// configurations returns the folders that hold a configuration.
func configurations(t *testing.T, root string) []string {
	t.Helper()
	var folders []string
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		is := filepath.Ext(path) == ".tf" || strings.HasSuffix(path, ".tfquery.hcl")
		if folder := filepath.Dir(path); is && !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return folders
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

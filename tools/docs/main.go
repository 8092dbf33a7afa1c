// Command docs writes the provider's pages under docs/ from its schema, the
// templates and the examples; with -check it only tells whether they are up to
// date. It is run from the repository's root.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/tools/internal/cli"
)

const (
	pages    = "docs"
	rendered = ".build/docs" // tfplugindocs wants a folder below the repository
)

func main() {
	providers := flag.String("providers", ".build/bin", "folder that holds terraform-provider-shopper")
	terraform := flag.String("terraform", ".build/bin/terraform", "the Terraform to ask for the schema: one that knows actions and lists")
	check := flag.Bool("check", false, "write nothing, fail when a page is out of date")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *providers, *terraform, *check)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, providers, terraform string, check bool) error {
	work, err := os.MkdirTemp("", "docs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)

	schema, err := schemas(ctx, work, providers, terraform)
	if err != nil {
		return err
	}
	file := filepath.Join(work, "schema.json")
	if err := os.WriteFile(file, schema, 0o600); err != nil {
		return err
	}
	generate := exec.CommandContext(ctx, "go", "tool", "-modfile=tools/dev/go.mod", "tfplugindocs", "generate", "--provider-name", shortName,
		"--rendered-provider-name", "Shopper", "--providers-schema", file, "--rendered-website-dir", rendered)
	if out, err := generate.CombinedOutput(); err != nil {
		return fmt.Errorf("tfplugindocs: %w\n%s", err, out)
	}
	if err := categorize(rendered); err != nil {
		return err
	}
	if err := summarize(rendered); err != nil {
		return err
	}
	if err := fill(rendered); err != nil {
		return err
	}
	if check {
		return compare(os.DirFS(rendered), os.DirFS(pages))
	}
	if err := os.RemoveAll(pages); err != nil {
		return err
	}
	return os.CopyFS(pages, os.DirFS(rendered))
}

// schemas returns the provider's schema as `terraform providers schema -json`
// prints it.
func schemas(ctx context.Context, work, providers, terraform string) ([]byte, error) {
	found, err := cli.Identify(ctx, terraform)
	if err != nil {
		return nil, err
	}
	env, err := cli.Overridden(work, map[string]string{cli.Address: providers})
	if err != nil {
		return nil, err
	}
	configuration := fmt.Sprintf("terraform {\n  required_providers {\n    shopper = {\n      source = %q\n    }\n  }\n}\n", cli.Address)
	if err := os.WriteFile(filepath.Join(work, "main.tf"), []byte(configuration), 0o600); err != nil {
		return nil, err
	}
	out, err := found.Run(ctx, work, env, "providers", "schema", "-json")
	if err != nil {
		return nil, err
	}
	return shorten(out)
}

// shortName is the only name but hashicorp's by which tfplugindocs finds a
// provider in a schema.
const shortName = "shopper"

// shorten gives the provider in the schema its short name: each CLI files it
// under the address at its own registry.
func shorten(schema []byte) ([]byte, error) {
	var document map[string]json.RawMessage
	if err := json.Unmarshal(schema, &document); err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	var byName map[string]json.RawMessage
	if err := json.Unmarshal(document["provider_schemas"], &byName); err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	renamed := map[string]json.RawMessage{}
	for name, provider := range byName {
		if strings.HasSuffix(name, "/"+cli.Address) {
			renamed[shortName] = provider
		}
	}
	if len(renamed) != 1 {
		return nil, fmt.Errorf("the schema has no provider %s", cli.Address)
	}
	var err error
	if document["provider_schemas"], err = json.Marshal(renamed); err != nil {
		return nil, err
	}
	return json.Marshal(document)
}

// categories are the groups of a registry's menu, with how their objects' names begin.
var categories = map[string][]string{
	"Rental":  {"gpu_", "costs", "templates", "service", "extend_session"},
	"Serving": {"vllm_", "restart_vllm", "ssh_tunnel", "estimate_vram", "format_tunnel_command"},
}

// categorize says in each object's page, in a folder of its kind, which group it
// belongs to. tfplugindocs leaves that empty without a template for every kind.
func categorize(folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "*", "*.md"))
	if err != nil {
		return err
	}
	for _, file := range files {
		page, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		const none = "subcategory: \"\"\n"
		if !bytes.Contains(page, []byte(none)) {
			continue // a guide
		}
		category := categoryOf(strings.TrimSuffix(filepath.Base(file), ".md"))
		if category == "" {
			return fmt.Errorf("%s belongs to no category: add its name to categories in tools/docs", file)
		}
		page = bytes.Replace(page, []byte(none), fmt.Appendf(nil, "subcategory: %q\n", category), 1)
		if err := os.WriteFile(file, page, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// furtherText is what follows the first paragraph of a description in front matter.
var furtherText = regexp.MustCompile(`(?s)\A(---\n.*?\ndescription: \|-\n  [^\n]*\n)(?:  [^\n]*\n)+(---\n)`)

// summarize leaves the first paragraph of a description in each page's front matter, which registries show as a summary. The page
// itself has the others.
func summarize(folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "*", "*.md"))
	if err != nil {
		return err
	}
	for _, file := range files {
		page, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, furtherText.ReplaceAll(page, []byte("$1$2")), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func categoryOf(name string) string {
	for category, beginnings := range categories {
		if slices.ContainsFunc(beginnings, func(beginning string) bool { return strings.HasPrefix(name, beginning) }) {
			return category
		}
	}
	return ""
}

// compare fails when the two trees differ, and says where.
func compare(want, got fs.FS) error {
	fresh, err := tree(want)
	if err != nil {
		return err
	}
	present, err := tree(got)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var stale []string
	for name, text := range fresh {
		old, exists := present[name]
		switch {
		case !exists:
			stale = append(stale, name+" is missing")
		case !bytes.Equal(old, text):
			stale = append(stale, name+" is out of date")
		}
	}
	for name := range present {
		if _, exists := fresh[name]; !exists {
			stale = append(stale, name+" describes nothing that exists")
		}
	}
	if len(stale) == 0 {
		return nil
	}
	slices.Sort(stale)
	return fmt.Errorf("docs/ does not say what the schema says; run `make docs`:\n  %s", strings.Join(stale, "\n  "))
}

// tree reads all files of a folder.
func tree(folder fs.FS) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files[name], err = fs.ReadFile(folder, name)
		return err
	})
	return files, err
}

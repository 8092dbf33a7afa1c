// Command docs writes the provider's pages under docs/ from the schema of the built provider, the templates and the examples. Run
// it from the repository's root, after make build.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
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
	rendered = ".build/docs" // tfplugindocs requires a folder below the repository
)

func main() {
	check := flag.Bool("check", false, "write nothing, and fail if a page is out of date")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *check)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, check bool) error {
	work, err := os.MkdirTemp("", "docs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)

	schema, err := schemas(ctx, work)
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
		return compare(ctx, rendered, pages)
	}
	if err := os.RemoveAll(pages); err != nil {
		return err
	}
	return os.CopyFS(pages, os.DirFS(rendered))
}

// schemas returns the provider's schema as the built Terraform, which has actions and lists, prints it with -json. It works in the
// folder work.
func schemas(ctx context.Context, work string) ([]byte, error) {
	terraform, err := cli.Identify(ctx, filepath.Join(cli.Bin, "terraform"))
	if err != nil {
		return nil, err
	}
	env, err := cli.Overridden(work, map[string]string{cli.Address: cli.Bin})
	if err != nil {
		return nil, err
	}
	configuration := fmt.Sprintf("terraform {\n  required_providers {\n    shopper = {\n      source = %q\n    }\n  }\n}\n", cli.Address)
	if err := os.WriteFile(filepath.Join(work, "main.tf"), []byte(configuration), 0o600); err != nil {
		return nil, err
	}
	out, err := terraform.Run(ctx, work, env, "providers", "schema", "-json")
	if err != nil {
		return nil, err
	}
	return shorten(out)
}

// shortName is the name by which tfplugindocs finds a provider in a schema, unless it is one of hashicorp's.
const shortName = "shopper"

// shorten files the provider in the schema under its short name, instead of its address at the CLI's registry.
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

// categories are the groups of a registry's menu, with the beginnings of their objects' names.
var categories = map[string][]string{
	"Rental":  {"gpu_", "costs", "templates", "service", "extend_session"},
	"Serving": {"vllm_", "restart_vllm", "ssh_tunnel", "estimate_vram", "format_tunnel_command"},
}

// categorize writes into each object's page the group it belongs to, which tfplugindocs leaves empty without a template for each
// kind.
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

// compare returns an error that lists how the folder with the pages differs from a fresh one.
func compare(ctx context.Context, fresh, present string) error {
	diff := exec.CommandContext(ctx, "diff", "-rq", fresh, present)
	diff.Env = append(os.Environ(), "LC_ALL=C")
	if out, err := diff.CombinedOutput(); err != nil {
		return fmt.Errorf("docs/ is out of date; run `make docs`:\n%s%w", out, err)
	}
	return nil
}

// Command examples checks every configuration under examples/, and those of README and the guides: that it is
// formatted, and that each Terraform and OpenTofu on this machine finds it
// valid with the provider built here. It is run from the repository's root.
package main

import (
	"context"
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

const examples = "examples"

// declares finds out whether a configuration says where the provider comes
// from. The short ones, which are part of the documentation, do not.
var (
	declares = regexp.MustCompile(`(?m)^\s*required_providers\s*{`)
	modular  = regexp.MustCompile(`(?m)^\s*module\s+"`)
)

// origin is what is added to an example that does not say it.
const origin = "terraform {\n  required_providers {\n    shopper = {\n      source = \"" + cli.Address + "\"\n    }\n  }\n}\n"

func main() {
	providers := flag.String("providers", ".build/bin", "folder that holds terraform-provider-shopper")
	tofu := flag.String("tofu", ".build/bin/tofu", "an OpenTofu built from source")
	terraform := flag.String("terraform", ".build/bin/terraform", "a Terraform built from source")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *providers, *tofu, *terraform)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "examples:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, providers string, built ...string) error {
	programs, err := cli.Find(ctx, built...)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "examples")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := standIn(ctx, work); err != nil {
		return err
	}
	env, err := cli.Overridden(work, map[string]string{cli.Address: providers, "hashicorp/http": work})
	if err != nil {
		return err
	}
	// A copy of the whole tree: examples refer to modules beside them.
	root := filepath.Join(work, examples)
	if err := os.CopyFS(root, os.DirFS(examples)); err != nil {
		return err
	}
	if err := readme(root); err != nil {
		return err
	}
	if err := guides(root, filepath.Join("templates", "guides")); err != nil {
		return err
	}
	var problems []error
	for _, program := range programs {
		if _, err := program.Run(ctx, root, env, "fmt", "-check", "-diff", "-recursive"); err != nil {
			problems = append(problems, err)
		}
	}
	if err := apart(root); err != nil {
		return err
	}
	folders, err := configurations(root)
	if err != nil {
		return err
	}
	if len(folders) == 0 {
		return fmt.Errorf("%s/ holds no configuration", examples)
	}
	for _, folder := range folders {
		problems = append(problems, check(ctx, programs, env, folder, strings.TrimPrefix(folder, work+"/")))
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	fmt.Printf("%d examples are valid with %v\n", len(folders), programs)
	return nil
}

// standIn builds what stands in for hashicorp/http, which an example uses.
func standIn(ctx context.Context, folder string) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(folder, "terraform-provider-http"), "./tools/http")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building ./tools/http: %w\n%s", err, out)
	}
	return nil
}

// check checks one example with each CLI that has what it is about.
func check(ctx context.Context, programs []cli.CLI, env []string, folder, name string) error {
	if err := prepare(folder); err != nil {
		return err
	}
	var problems []error
	for _, program := range programs {
		if !knows(program, folder) {
			fmt.Printf("%s: not checked with %s, which has no such thing\n", name, program)
			continue
		}
		if err := validate(ctx, program, env, folder); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(problems...)
}

// knows tells whether a CLI has what an example is about.
func knows(program cli.CLI, folder string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(program.Version, "%d.%d", &major, &minor); err != nil {
		return true // it will say so itself
	}
	since := func(least int) bool { return major > 1 || minor >= least }
	switch {
	case slices.Contains([]string{"actions", "list-resources"}, kind(folder)):
		return program.Product == cli.Terraform && since(14)
	case filepath.Base(folder) == "import-by-identity":
		return since(12)
	default:
		return true
	}
}

// kind is the kind of object that a documentation snippet is about.
func kind(folder string) string { return filepath.Base(filepath.Dir(folder)) }

// apart gives each import-by-….tf a folder of its own beside what it imports to:
// a resource has one import block at a time.
func apart(root string) error {
	files, err := filepath.Glob(filepath.Join(root, "resources", "*", "import-by-*.tf"))
	if err != nil {
		return err
	}
	for _, file := range files {
		folder := strings.TrimSuffix(file, ".tf")
		resource, err := os.ReadFile(filepath.Join(filepath.Dir(file), "resource.tf"))
		if err != nil {
			return err
		}
		if err := os.Mkdir(folder, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, "resource.tf"), resource, 0o600); err != nil {
			return err
		}
		if err := os.Rename(file, filepath.Join(folder, filepath.Base(file))); err != nil {
			return err
		}
	}
	return nil
}

// configurations returns the folders that hold a configuration.
func configurations(root string) ([]string, error) {
	var folders []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == ".terraform" {
			return fs.SkipDir
		}
		is := filepath.Ext(path) == ".tf" || strings.HasSuffix(path, ".tfquery.hcl")
		if folder := filepath.Dir(path); is && !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
		return nil
	})
	return folders, err
}

// prepare makes a documentation snippet a whole configuration.
func prepare(folder string) error {
	text, err := source(folder)
	if err != nil || declares.MatchString(text) {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "origin_of_the_provider.tf"), []byte(origin), 0o600)
}

// source returns the text of a folder's configuration.
func source(folder string) (string, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.tf"))
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		text.Write(content)
		text.WriteByte('\n')
	}
	return text.String(), nil
}

// validate needs no init: the provider comes from dev_overrides, modules are
// fetched from beside the example.
func validate(ctx context.Context, program cli.CLI, env []string, folder string) error {
	text, err := source(folder)
	if err != nil {
		return err
	}
	env = append(slices.Clone(env), "TF_DATA_DIR="+filepath.Join(folder, ".terraform", program.Product+program.Version))
	if modular.MatchString(text) {
		if _, err := program.Run(ctx, folder, env, "get"); err != nil {
			return err
		}
	}
	args := []string{"validate", "-no-color"}
	if kind(folder) == "list-resources" {
		args = append(args, "-query")
	}
	_, err = program.Run(ctx, folder, env, args...)
	return err
}

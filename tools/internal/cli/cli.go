// Package cli finds and runs the Terraform and OpenTofu programs of this computer with the provider that was built here, whatever
// the user's own configuration says, and starts the sandbox.
package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// Bin is the folder, below the repository's root, for which make builds programs.
	Bin = ".build/bin"
	// Address is the provider's source address without a registry's host: each CLI puts its own in front.
	Address = "cloud-gpu-shopper/shopper"
)

// The two products that run the provider.
const (
	Terraform = "Terraform"
	OpenTofu  = "OpenTofu"
)

// CLI is one program that runs the provider.
type CLI struct {
	Product string // Terraform or OpenTofu
	Version string // such as 1.11.4
	Path    string // absolute
	Built   bool   // from source, by make
}

// String is such as "OpenTofu 1.12.6 (built from source)".
func (c CLI) String() string {
	name := c.Product + " " + c.Version
	if c.Built {
		name += " (built from source)"
	}
	return name
}

// AtLeast reports whether the program has this version or a later one.
func (c CLI) AtLeast(major, minor int) bool {
	var has [2]int
	_, _ = fmt.Sscanf(c.Version, "%d.%d", &has[0], &has[1]) // 0.0 is older than all
	return slices.Compare(has[:], []int{major, minor}) >= 0
}

// Registry is the host that the program puts in front of a provider's address that has none.
func (c CLI) Registry() string {
	if c.Product == OpenTofu {
		return "registry.opentofu.org"
	}
	return "registry.terraform.io"
}

// Find returns the terraform and the tofu on PATH. One that doesn't answer is an error.
func Find(ctx context.Context) ([]CLI, error) {
	var found []CLI
	for _, name := range []string{"terraform", "tofu"} {
		path, err := exec.LookPath(name)
		if errors.Is(err, exec.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("looking for %s: %w", name, err)
		}
		c, err := Identify(ctx, path)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(found, func(f CLI) bool { return f.String() == c.String() }) {
			found = append(found, c)
		}
	}
	return found, nil
}

// Any returns the first one on PATH, else the OpenTofu that make builds.
func Any(ctx context.Context) (CLI, error) {
	found, err := Find(ctx)
	if err != nil {
		return CLI{}, err
	}
	if len(found) > 0 {
		return found[0], nil
	}
	return Identify(ctx, filepath.Join(Bin, "tofu"))
}

// Identify asks the program at path what it is.
func Identify(ctx context.Context, path string) (CLI, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return CLI{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, path, "version")
	command.Env = CleanEnv(os.Environ())
	out, err := command.Output()
	if err != nil {
		return CLI{}, fmt.Errorf("%s version: %w", path, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	product, version, ok := strings.Cut(strings.TrimSpace(line), " v")
	if !ok || (product != Terraform && product != OpenTofu) {
		return CLI{}, fmt.Errorf("%s is neither Terraform nor OpenTofu: it says %q", path, line)
	}
	return CLI{Product: product, Version: version, Path: path}, nil
}

// CleanEnv returns env without the variables that change what a CLI or the provider does: TF_CLI_CONFIG_FILE may name a file that
// doesn't exist, and SHOPPER_URL a service that really rents.
func CleanEnv(env []string) []string {
	clean := make([]string, 0, len(env)+1)
	for _, entry := range env {
		if strings.HasPrefix(entry, "TF_") || strings.HasPrefix(entry, "TOFU_") || strings.HasPrefix(entry, "SHOPPER_") {
			continue
		}
		clean = append(clean, entry)
	}
	return append(clean, "CHECKPOINT_DISABLE=1") // Terraform asks nobody whether there is a newer one
}

// Overridden returns the environment in which a CLI runs providers without init, each from its program's folder, by their source
// addresses. It writes a CLI configuration file into dir.
func Overridden(dir string, providers map[string]string) ([]string, error) {
	var overrides strings.Builder
	for address, folder := range providers {
		absolute, err := filepath.Abs(folder)
		if err != nil {
			return nil, err
		}
		// A JSON string is a valid HCL string unless it contains a template.
		quoted, err := json.Marshal(filepath.ToSlash(absolute))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&overrides, "    %q = %s\n", address, quoted)
	}
	file := filepath.Join(dir, "cli.tfrc")
	text := fmt.Sprintf("provider_installation {\n  dev_overrides {\n%s  }\n  direct {}\n}\n", &overrides)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("writing a CLI configuration: %w", err)
	}
	return append(CleanEnv(os.Environ()), "TF_CLI_CONFIG_FILE="+file, "TF_IN_AUTOMATION=1", "TF_INPUT=0"), nil
}

// Run runs the program in dir and returns its standard output. An error contains both outputs.
func (c CLI) Run(ctx context.Context, dir string, env []string, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, c.Path, args...)
	command.Dir = dir
	command.Env = env
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 30 * time.Second
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("%s %s: %w\n%s%s", c, strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes(), nil
}

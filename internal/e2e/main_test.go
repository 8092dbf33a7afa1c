// Package e2e runs the provider as users do: the built binary under a real
// Terraform or OpenTofu, against a sandbox that is a process of its own, with
// signals and deaths at every step. It holds tests only.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const cliPath = "TF_ACC_TERRAFORM_PATH"

// built is what TestMain has made for all tests.
var built struct {
	providers string // directory with the provider
	sandbox   string // program
	cli       string // Terraform or OpenTofu
	version   string // what it is, such as "Terraform v1.11.4"
}

// TestMain builds the provider and the sandbox, without the race detector: what
// is tested are the programs that people run.
func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if os.Getenv("TF_ACC") != "" {
		dir, err := os.MkdirTemp("", "b")
		if err != nil {
			return 1, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		if err := prepare(dir); err != nil {
			return 1, err
		}
	}
	return m.Run(), nil
}

func prepare(dir string) error {
	root := filepath.Join("..", "..")
	built.providers, built.sandbox = dir, filepath.Join(dir, "shopper-sandbox")
	programs := map[string]string{
		filepath.Join(dir, providerName): ".",
		built.sandbox:                    "./internal/sandbox/cmd",
		filepath.Join(dir, httpProvider): "./tools/standin",
	}
	if release := os.Getenv(releaseFolder); release != "" {
		if err := releasedSandbox(release, built.sandbox); err != nil {
			return err
		}
		delete(programs, built.sandbox)
	}
	for output, source := range programs {
		build := exec.Command("go", "build", "-o", output, source)
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", source, err, out)
		}
	}
	path := os.Getenv(cliPath)
	if path == "" {
		var err error
		if path, err = exec.LookPath("terraform"); err != nil {
			return fmt.Errorf("%s is not set: %w", cliPath, err)
		}
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	command := exec.CommandContext(context.Background(), absolute, "version")
	command.Env = cleanEnv()
	out, err := command.Output()
	if err != nil {
		return fmt.Errorf("%s version: %w", absolute, err)
	}
	first, _, _ := strings.Cut(string(out), "\n")
	built.cli, built.version = absolute, strings.TrimSpace(first)
	return nil
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/tools/internal/cli"
)

const (
	// config is what is applied.
	config = "examples/quickstart"
	// version is what the built provider counts as in the demo's mirror.
	version = "0.1.0"
	// patience is how long an interrupted CLI and the clean-up after a failure may take.
	patience = 3 * time.Minute
)

// stage is what the demo runs on: the sandbox, a CLI, and a folder with the configuration and a mirror of the provider.
type stage struct {
	sandbox *cli.Sandbox
	program cli.CLI
	dir     string
}

// prepare makes a working folder with the configuration, and a mirror with the provider, laid out as a registry's.
func (s *stage) prepare(ctx context.Context) (err error) {
	if s.program, err = cli.Any(ctx); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "shopper-demo-"); err != nil {
		return err
	}
	mirror := filepath.Join(s.dir, "mirror")
	at := filepath.Join(mirror, s.program.Registry(), cli.Address, version, runtime.GOOS+"_"+runtime.GOARCH)
	for _, folder := range []string{s.work(), s.home(), at} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
	}
	files, err := filepath.Glob(filepath.Join(config, "*.tf"))
	if err != nil {
		return err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.work(), filepath.Base(file)), data, 0o600); err != nil {
			return err
		}
	}
	built, err := filepath.Abs(filepath.Join(cli.Bin, "terraform-provider-shopper"))
	if err != nil {
		return err
	}
	text := fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", mirror)
	if err := os.WriteFile(s.cliConfig(), []byte(text), 0o600); err != nil {
		return err
	}
	return os.Symlink(built, filepath.Join(at, "terraform-provider-shopper_v"+version))
}

func (s *stage) work() string      { return filepath.Join(s.dir, "work") }
func (s *stage) home() string      { return filepath.Join(s.dir, "home") }
func (s *stage) cliConfig() string { return filepath.Join(s.dir, "cli.tfrc") }

// quiet runs the CLI and returns its output. An error contains it, unless the exit code is 2, which is -detailed-exitcode's.
func (s *stage) quiet(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	err := s.runCLI(ctx, &out, args...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && (ctx.Err() != nil || exit.ExitCode() != 2) {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(s.program.Path), args[0], err, out.String())
	}
	return out.String(), err
}

// shown runs the CLI and prints its output as it comes.
func (s *stage) shown(ctx context.Context, args ...string) error {
	reader, writer := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewScanner(reader)
		for lines.Scan() {
			if strings.TrimSpace(lines.Text()) != "" {
				fmt.Printf("   | %s\n", lines.Text())
			}
		}
		_, _ = io.Copy(io.Discard, reader) // a line that is too long for the scanner must not block the CLI
	}()
	err := s.runCLI(ctx, writer, args...)
	_ = writer.Close()
	<-done
	if err != nil {
		return fmt.Errorf("%s %s: %w", filepath.Base(s.program.Path), args[0], err)
	}
	return nil
}

// runCLI runs the CLI in its own process group, so that a Ctrl-C reaches it only once, from here.
func (s *stage) runCLI(ctx context.Context, out io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, s.program.Path, append([]string{args[0], "-no-color"}, args[1:]...)...)
	cmd.Dir = s.work()
	cmd.Env = append(cli.CleanEnv(os.Environ()), "TF_CLI_CONFIG_FILE="+s.cliConfig(), "TF_INPUT=0", "HOME="+s.home(), "SHOPPER_URL="+s.sandbox.URL)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = cli.OwnGroup()
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = patience
	return cmd.Run()
}

// close ends the sandbox, and its machines with it, and removes the folder.
func (s *stage) close() (err error) {
	if s.sandbox != nil {
		err = s.sandbox.Close()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

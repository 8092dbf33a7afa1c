package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/tools/internal/cli"
)

// parts are the versions of the real programs on this computer that tests use, "" for one that is missing.
type parts struct {
	noRace string // why there is no race detector, "" if there is one
	sshd   string
	ssh    string
	docker string
}

// lookAround returns what this computer has.
func lookAround(ctx context.Context) parts {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return parts{
		noRace: noRace(ctx),
		sshd:   openSSHServer(ctx),
		ssh:    firstLine(ctx, "ssh", "-V"),
		docker: firstLine(ctx, "docker", "version", "--format", "{{.Server.Version}}"),
	}
}

// noRace returns why tests can't run with the race detector, which needs a C compiler everywhere but on macOS.
func noRace(ctx context.Context) string {
	if runtime.GOOS == "darwin" {
		return ""
	}
	if firstLine(ctx, "go", "env", "CGO_ENABLED") != "1" {
		return "cgo is off, or there is no C compiler"
	}
	compiler, _, _ := strings.Cut(firstLine(ctx, "go", "env", "CC"), " ")
	if _, err := exec.LookPath(compiler); err != nil {
		return fmt.Sprintf("there is no C compiler (%s)", compiler)
	}
	return ""
}

// openSSHServer looks for sshd on PATH and in the system's folders.
func openSSHServer(ctx context.Context) string {
	for _, name := range []string{"sshd", "/usr/sbin/sshd", "/usr/local/sbin/sshd"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		// An older sshd has no -V, and prints its version in its complaint.
		out, _ := exec.CommandContext(ctx, path, "-V").CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "OpenSSH") {
				return strings.TrimSpace(line)
			}
		}
		return path
	}
	return ""
}

// firstLine returns the first line that a program prints, "" if it fails.
func firstLine(ctx context.Context, name string, args ...string) string {
	command := exec.CommandContext(ctx, name, args...)
	command.Env = cli.CleanEnv(os.Environ())
	out, err := command.CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// summary is one line: what ran on what, what was skipped, and why.
func summary(programs []cli.CLI, newest cli.CLI, cliTests bool, p parts, total *tally) string {
	names := make([]string, 0, len(programs))
	for _, program := range programs {
		names = append(names, program.String())
	}
	acceptance := "acceptance tests on " + strings.Join(names, " and ")
	switch {
	case len(names) == 0:
		acceptance = "NO acceptance tests (no terraform, no tofu)"
	case !cliTests:
		acceptance = "NO acceptance tests (there are none)"
	}
	if cliTests && newest.Path != "" {
		acceptance += ", actions and queries on " + newest.String()
	}
	race := "race detector on"
	if p.noRace != "" {
		race = "WITHOUT race detector, because " + p.noRace
	}
	processes := ""
	if !processesChecked {
		processes = "; no check for processes left behind on " + runtime.GOOS
	}
	return fmt.Sprintf("%s; %s; real sshd: %s; ssh client: %s; real Docker: %s%s; %s", acceptance, race,
		cmp.Or(p.sshd, "no"), cmp.Or(p.ssh, "no"), cmp.Or(p.docker, "no"), processes, total.skips())
}

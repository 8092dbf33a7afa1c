package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/tools/internal/cli"
)

// parts are the real things on this machine that tests use when they are there.
// An empty version means that there is none.
type parts struct {
	noRace string // why there is no race detector, "" when there is
	sshd   string
	ssh    string
	docker string
}

// lookAround finds out what this machine has.
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

// noRace says why tests can't run with the race detector: it needs a C compiler
// everywhere but on macOS.
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

// openSSHServer finds sshd also where it is not on a user's PATH.
func openSSHServer(ctx context.Context) string {
	for _, name := range []string{"sshd", "/usr/sbin/sshd", "/usr/local/sbin/sshd"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		// sshd -V is new; an older one says its version while it complains.
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

// firstLine is the first line that a program prints, "" when it fails.
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

// summary says in one line what ran on what, and what was skipped and why.
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
		processes = "; not checked for processes left behind on " + runtime.GOOS
	}
	return fmt.Sprintf("%s; %s; real sshd: %s; ssh client: %s; real Docker: %s%s; %s", acceptance, race,
		orNo(p.sshd), orNo(p.ssh), orNo(p.docker), processes, total.skips())
}

func orNo(version string) string {
	if version == "" {
		return "no"
	}
	return version
}

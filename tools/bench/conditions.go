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

// conditions are those under which the figures were taken.
type conditions struct {
	cli, commit, load string
	date              time.Time
	took              time.Duration
}

func conditionsNow(ctx context.Context) (conditions, error) {
	program, err := cli.Any(ctx)
	if err != nil {
		return conditions{}, err
	}
	commit, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		commit = []byte("unknown") // no git, or no repository
	}
	return conditions{cli: program.String(), commit: strings.TrimSpace(string(commit)), load: load(), date: time.Now().UTC()}, nil
}

// load is the computer's average load of the last minute, "unknown" except on Linux.
func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(data), " ")
	return one
}

// String is the conditions as a sentence.
func (c conditions) String() string {
	return fmt.Sprintf("Taken on %s in %s, at commit %s, with %s on %s/%s, %d processors, %s. The load was %s before it began. The sandbox ran"+
		" at speed %d where nothing else is said: a minute of the service's took a second.\n",
		c.date.Format(time.DateOnly), c.took.Round(time.Second), c.commit, c.cli, runtime.GOOS, runtime.GOARCH,
		runtime.NumCPU(), runtime.Version(), c.load, quick)
}

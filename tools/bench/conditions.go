package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// conditions are those that the figures were taken in.
type conditions struct {
	cli, commit, load string
	date              time.Time
	took              time.Duration
}

func conditionsNow(ctx context.Context, s settings) (conditions, error) {
	program, err := s.program(ctx)
	if err != nil {
		return conditions{}, err
	}
	commit, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		commit = []byte("unknown") // no git, or no repository
	}
	return conditions{cli: program.String(), commit: strings.TrimSpace(string(commit)), load: load(), date: time.Now().UTC()}, nil
}

// load is the computer's average load before the run, where the system says so.
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

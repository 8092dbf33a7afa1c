package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	provider = "terraform-provider-shopper"
	// started is how often a start is measured.
	started = 21
	// watched is the variable that makes this program run the provider it names, peaks the variable with the file it then writes to.
	watched, peaks = "BENCH_WATCHED_PROVIDER", "BENCH_PEAKS"
	megabyte       = 1 << 20
)

// handshake are the variables that a provider expects from Terraform (terraform-plugin-go, tf6server).
var handshake = []string{
	"TF_PLUGIN_MAGIC_COOKIE=d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2", "PLUGIN_PROTOCOL_VERSIONS=5,6",
}

// footprint measures the provider's start, memory and size.
func footprint(ctx context.Context, w *world) ([]row, error) {
	rows, err := starts(ctx, w)
	if err != nil {
		return nil, err
	}
	peak, err := peakMemory(ctx, w)
	if err != nil {
		return nil, err
	}
	sizes, err := binarySizes(ctx, w)
	return append(append(rows, peak), sizes...), err
}

// starts compares the time from the provider's start to its handshake with the null provider's.
func starts(ctx context.Context, w *world) ([]row, error) {
	start := func(program string) func(context.Context) (spent, error) {
		return func(ctx context.Context) (spent, error) {
			command := exec.CommandContext(ctx, program)
			command.Env = append(append(os.Environ(), handshake...), "TMPDIR="+w.dir) // a killed one leaves its socket
			stdout, err := command.StdoutPipe()
			if err != nil {
				return spent{}, err
			}
			begun := time.Now()
			if err := command.Start(); err != nil {
				return spent{}, err
			}
			_, err = bufio.NewReader(stdout).ReadString('\n')
			took := spent{wall: time.Since(begun)}
			_ = command.Process.Kill()
			_ = command.Wait() // it was killed
			return took, err
		}
	}
	took, err := interleaved(ctx, started, start(filepath.Join(w.bin, provider)), start(filepath.Join(w.bin, "terraform-provider-null")))
	if err != nil {
		return nil, err
	}
	ms := func(t times) string { return fmt.Sprintf("%.0f ms", median(t.wall).Seconds()*1000) }
	return []row{{
		what: "Start to handshake, against the null provider", value: took[0].ratio(took[1]), unit: "×",
		note: ms(took[0]) + " to " + ms(took[1]),
	}}, nil
}

// peakMemory measures the most memory that any process of the provider held in a plan over many sessions.
func peakMemory(ctx context.Context, w *world) (row, error) {
	s, err := w.startService(ctx, many, 0, quick)
	if err != nil {
		return row{}, err
	}
	folder := filepath.Join(w.dir, "watched")
	self, err := os.Executable()
	if err != nil {
		return row{}, err
	}
	if err := errors.Join(os.Mkdir(folder, 0o700), os.Symlink(self, filepath.Join(folder, provider))); err != nil {
		return row{}, err
	}
	built, err := filepath.Abs(filepath.Join(w.bin, provider))
	if err != nil {
		return row{}, err
	}
	seen := *w
	seen.bin = folder
	stack, err := seen.newStack("watched-plan", s.url, sessions(many))
	if err != nil {
		return row{}, err
	}
	stack.env = append(stack.env, watched+"="+built)
	if _, err := stack.apply(ctx, 50); err != nil {
		return row{}, err
	}
	file := filepath.Join(w.dir, "peaks")
	stack.env = append(stack.env, peaks+"="+file)
	if _, err := stack.plan(ctx); err != nil {
		return row{}, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return row{}, err
	}
	highest := 0
	for _, text := range strings.Fields(string(data)) {
		bytes, err := strconv.Atoi(text)
		if err != nil {
			return row{}, err
		}
		highest = max(highest, bytes)
	}
	return row{
		what:  fmt.Sprintf("Most memory that the provider held in a plan over %d sessions", many),
		value: float64(highest) / megabyte, unit: "MB", goal: 100,
	}, nil
}

// runWatched runs the provider, as Terraform started this program in its place, and appends the most memory that it held to the
// file in peaks. It returns the exit code.
func runWatched(program string) int {
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE) // the provider decides
	command := exec.Command(program, os.Args[1:]...)              //nolint:noctx // it ends when Terraform says so
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := command.Run()
	if file := os.Getenv(peaks); file != "" && command.ProcessState != nil {
		if notes, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			_, _ = fmt.Fprintln(notes, peakOf(command.ProcessState))
			_ = notes.Close()
		}
	}
	if err != nil {
		return 1
	}
	return 0
}

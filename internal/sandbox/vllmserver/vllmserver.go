// Package vllmserver is a stand-in for vLLM's OpenAI-compatible server. It takes a real
// server's arguments and environment. It loads in phases, holds GPU memory of its
// sandbox machine, and answers the HTTP API with short deterministic text. No model
// runs.
//
// Flags, log lines, failures, exit codes and answers are played from recordings of real
// servers (package facts). For a release that was not recorded, the nearest older
// recording is used.
package vllmserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// Environment variables with what a real server knows from its image and its namespaces.
// All are optional.
const (
	// VersionEnv is the vLLM release to be, such as "0.11.0" or "v0.11.0".
	VersionEnv = "SHOPPER_SANDBOX_VLLM_VERSION"
	// NetEnv is a directory like a machine's (see machinefs.Root.Create) whose network is
	// used instead of the machine's, for a container. Ports of its loopback are under
	// LoopbackDir in it.
	NetEnv = "SHOPPER_SANDBOX_NET"
	// GPUsEnv are the indices of the visible GPUs, separated by commas, or "none"; unset = all.
	GPUsEnv = "SHOPPER_SANDBOX_GPUS"
	// FilesEnv is a directory with the files that were copied into a container.
	FilesEnv = "SHOPPER_SANDBOX_FILES"
	// FactsEnv are machinefs.Facts as JSON, for a run without a machine.
	FactsEnv = "SHOPPER_SANDBOX_FACTS"
	// OnePipeEnv, if set, sends standard error to standard output, each line after
	// StderrMark. The stand-in does at once what takes a real server seconds: over two
	// pipes, an error could be read before the first line.
	OnePipeEnv = "SHOPPER_SANDBOX_ONE_PIPE"
)

// StderrMark begins a line of standard error; see OnePipeEnv.
const StderrMark = "\x02"

// marked writes whole lines, each after StderrMark.
type marked struct{ out io.Writer }

func (m marked) Write(data []byte) (int, error) {
	var lines strings.Builder
	for line := range strings.Lines(string(data)) {
		lines.WriteString(StderrMark + line)
	}
	if _, err := io.WriteString(m.out, lines.String()); err != nil {
		return 0, err
	}
	return len(data), nil
}

// LoopbackDir is the directory below NetEnv with the ports of a container's 127.0.0.1, which
// published ports don't reach.
const LoopbackDir = "lo"

// FilesDir is the directory below a container's for FilesEnv.
const FilesDir = "files"

// DefaultVersion is the release that is played by default.
const DefaultVersion = "0.33.0"

// Exit codes of the program.
const (
	exitOK        = 0
	exitFailure   = 1
	exitUsage     = 2
	exitContainer = 128 // as an engine records a container that it could not start
	exitInterrupt = 130
)

// Main is the program `vllm`. args are its arguments ("serve", MODEL, …), or a whole command
// line `python3 -m vllm.entrypoints.openai.api_server …`. It returns the exit code when
// the server has ended: on SIGTERM, SIGINT, the end of ctx or of the machine's lifeline.
func Main(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	e := environment(env)
	if e[OnePipeEnv] != "" {
		stderr = marked{stdout}
	}
	place, err := newPlace(e)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return exitFailure
	}
	ctx, stop := place.heed(ctx)
	defer stop()
	ctx, release := place.holdLifeline(ctx)
	defer release()
	return dispatch(ctx, args, place, newLog(stdout, stderr, place))
}

const usage = "usage: vllm [-h] [-v] {chat,complete,serve,launch,bench,collect-env,run-batch} ..."

func dispatch(ctx context.Context, args []string, place *place, log *logger) int {
	module := false
	if len(args) > 2 && strings.HasPrefix(args[0], "python") && args[1] == "-m" {
		module, args = true, args[3:]
	} else {
		if len(args) == 0 {
			log.plain(usage)
			return exitOK
		}
		switch args[0] {
		case "-v", "--version":
			log.plain(place.version)
			return exitOK
		case "-h", "--help":
			log.plain(usage)
			return exitOK
		case "serve":
			args = args[1:]
		default:
			log.plainError(usage, fmt.Sprintf("vllm: error: argument subparser: invalid choice: '%s' (choose from chat, complete, serve, launch, bench, collect-env, run-batch)", args[0]))
			return exitUsage
		}
	}
	for _, arg := range args {
		if arg == "-h" || arg == "--help" {
			log.plain("usage: vllm serve [model_tag] [options]")
			return exitOK
		}
	}
	opts, err := parseServe(place.version, args)
	run := &run{opts: opts, place: place, log: log, children: children{killed: make(chan struct{})}}
	var bad *usageError
	switch {
	case errors.As(err, &bad):
		return run.ended(run.usage(bad, module))
	case opts.on("enable-auto-tool-choice") && opts.text("tool-call-parser") == "":
		return run.ended(run.whole("auto-tool-without-parser"))
	}
	defer run.release()
	if err := run.start(ctx); err != nil {
		return run.ended(err)
	}
	return run.listen(ctx)
}

// usage is argparse's recorded error with another message.
func (r *run) usage(bad *usageError, module bool) error {
	refused := r.whole("unknown-flag")
	if bad.serve {
		refused = r.whole("bad-value")
	}
	if module {
		refused.lines = []line{{text: "usage: api_server.py [-h] [options]"}, {text: "api_server.py: error: "}}
	}
	last := &refused.lines[len(refused.lines)-1]
	program, _, _ := strings.Cut(last.text, ": error: ")
	last.text = program + ": error: " + bad.message
	return refused
}

// environment is a list of NAME=value as a map; the last value counts.
func environment(env []string) map[string]string {
	m := make(map[string]string, len(env))
	for _, entry := range env {
		if name, value, ok := strings.Cut(entry, "="); ok {
			m[name] = value
		}
	}
	return m
}

// ended prints the end of a start that failed, and returns the exit code.
func (r *run) ended(err error) int {
	var failed *startError
	switch {
	case errors.Is(err, errInterrupted):
		rec, _ := facts.Ended(r.place.version, "sigterm-early")
		r.printAll(tail(r.read(rec)))
		return exitInterrupt
	case !errors.As(err, &failed):
		rec, _ := facts.Failure(r.place.version, "port-taken")
		failed = &startError{lines: replaceCause(tail(r.read(rec)), causeOf(rec)[0], []string{err.Error()}), exit: exitFailure}
	}
	r.printAll(failed.lines)
	return failed.exit
}

func (r *run) printAll(lines []line) {
	for _, l := range lines {
		r.print(l)
	}
}

var errInterrupted = errors.New("interrupted")

// heed returns a context that SIGTERM and SIGINT end. The first TERM to only the main process
// while the worker warms up has no effect, as recorded (runs/sigterm-loading).
func (p *place) heed(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		defer cancel()
		for {
			select {
			case <-ctx.Done():
				return
			case sent := <-signals:
				if sent != syscall.SIGTERM || !p.warming.Swap(false) {
					return
				}
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel()
	}
}

// release releases what the run holds.
func (r *run) release() {
	r.children.stop()
	r.dropClaim()
	if r.bound != nil {
		r.bound.close()
	}
}

// dropClaim releases the GPU memory that the run holds.
func (r *run) dropClaim() {
	if r.place.root != "" {
		_ = r.place.root.DropClaim(os.Getpid())
	}
}

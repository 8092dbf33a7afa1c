// Package vllmserver is a stand-in for vLLM's OpenAI-compatible server. It takes
// a real server's arguments and environment, loads in phases with a real
// server's log lines, holds GPU memory of the sandbox machine it runs on, fails
// for the reasons and with the words of a real server, and answers the HTTP API
// with short deterministic text. No model runs in it.
//
// Flags, log lines, messages, exit codes and answers are played from recordings of
// real servers (package facts): a release that was not recorded is played from the
// nearest older one.
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

// Environment variables by which whoever starts the stand-in tells it what a
// real server would know from its image and its namespaces. All are optional.
const (
	// VersionEnv is the vLLM release to be, such as "0.11.0" or "v0.11.0".
	VersionEnv = "SHOPPER_SANDBOX_VLLM_VERSION"
	// NetEnv is a directory like a machine's (see machinefs.Root.Create) whose
	// network is used instead of the machine's: a container's own port space.
	// What listens on its loopback only is under LoopbackDir in it.
	NetEnv = "SHOPPER_SANDBOX_NET"
	// GPUsEnv lists the machine's GPUs that are visible, by index, separated by
	// commas; "none" for none. Unset means all.
	GPUsEnv = "SHOPPER_SANDBOX_GPUS"
	// FilesEnv is a directory with the files that were copied into a container, by
	// their paths in it.
	FilesEnv = "SHOPPER_SANDBOX_FILES"
	// FactsEnv are machinefs.Facts as JSON, for a run that is on no machine.
	FactsEnv = "SHOPPER_SANDBOX_FACTS"
	// OnePipeEnv, when set, has standard error come on standard output, each line
	// behind StderrMark. A real server takes seconds for what the stand-in does in a
	// moment: over two pipes its error could be read before its first line.
	OnePipeEnv = "SHOPPER_SANDBOX_ONE_PIPE"
)

// StderrMark begins a line of standard error; see OnePipeEnv.
const StderrMark = "\x02"

// marked writes lines behind StderrMark. What it is given are whole lines.
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

// LoopbackDir is the directory under NetEnv in which a server that listens on a
// container's 127.0.0.1 has its ports, out of reach of published ports.
const LoopbackDir = "lo"

// FilesDir is the directory in a container's own that FilesEnv names.
const FilesDir = "files"

// DefaultVersion is the release that the stand-in is where nobody says.
const DefaultVersion = "0.33.0"

// Exit codes of the program.
const (
	exitOK        = 0
	exitFailure   = 1
	exitUsage     = 2
	exitContainer = 128 // as an engine records a container that it could not start
	exitInterrupt = 130
)

// Main is the program `vllm`: args are its arguments after the program's name
// ("serve", MODEL, …), or a whole `python3 -m
// vllm.entrypoints.openai.api_server …` command line. It returns the exit code
// when the server has ended, which ctx, SIGTERM, SIGINT or the end of the
// machine's lifeline brings about.
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

// usage is argparse's refusal as it was recorded, with what it says this time.
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

// environment is a list of NAME=value as a map; the last one wins.
func environment(env []string) map[string]string {
	m := make(map[string]string, len(env))
	for _, entry := range env {
		if name, value, ok := strings.Cut(entry, "="); ok {
			m[name] = value
		}
	}
	return m
}

// ended reports a start that did not get to serving.
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

// heed returns a context that SIGTERM and SIGINT end. A TERM to the main process alone
// while the worker warms up is swallowed, as it was recorded (runs/sigterm-loading); the
// next one isn't.
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

// release gives back what the run holds.
func (r *run) release() {
	r.children.stop()
	r.dropClaim()
	if r.bound != nil {
		r.bound.close()
	}
}

// dropClaim gives back the GPU memory that the run holds.
func (r *run) dropClaim() {
	if r.place.root != "" {
		_ = r.place.root.DropClaim(os.Getpid())
	}
}

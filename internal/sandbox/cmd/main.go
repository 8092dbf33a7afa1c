// Command cmd is the sandbox as a program: a stand-in for the rental service with
// machines that can be logged in to. See -help.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

const usage = `A stand-in for the GPU rental service ("the shopper") with machines behind it.

It answers as the real service does, rents machines that exist on this computer
only, and costs nothing. Each machine has SSH with its own key, a shell, an
nvidia-smi for the rented GPUs, and a stand-in for vLLM once that is installed.
They are what the clouds' real machines showed themselves to be; with -machines
friendly VMs have a Docker engine.

    $ go run ./internal/sandbox/cmd
    http://127.0.0.1:8080
    $ SHOPPER_URL=http://127.0.0.1:8080 terraform apply

The first line of standard output is the service's URL and nothing else. The log
goes to standard error. SIGINT and SIGTERM end it, and its machines with it.

What runs and what it has cost:      curl 'http://127.0.0.1:8080/sandbox/ledger?format=text'
Every other control and its bodies:  curl http://127.0.0.1:8080/sandbox/
The stand-in for vLLM alone:         go run ./internal/sandbox/cmd vllm -help

Flags:
`

const usageEnd = `
Exit code: 0 after SIGINT, SIGTERM or the end of standard input, 1 when it could
not start or could not end everything, 2 for wrong flags.
`

// flags are the options, and what becomes options once all flags are known.
type flags struct {
	sandbox.Options

	faults, log                 string
	random                      int
	templates, untilStdinCloses bool
}

func main() {
	sandbox.Main()
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "vllm" {
		return vllmserver.Alone(context.Background(), filepath.Base(os.Args[0]), args[1:], os.Environ(), stdout, stderr)
	}
	f, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2 // flag has said why
	}
	opts, err := f.options(stderr)
	if err != nil {
		fmt.Fprintln(stderr, "sandbox:", err)
		return 1
	}
	// From here on a signal ends the sandbox in an orderly way.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := sandbox.Start(opts)
	if err != nil {
		fmt.Fprintln(stderr, "sandbox:", err)
		return 1
	}
	fmt.Fprintln(stdout, s.URL())
	if f.random > 0 {
		fmt.Fprintf(stderr, "sandbox: %d random faults; -random-faults %d -seed %d makes them again\n", f.random, f.random, s.Seed())
	}
	if f.untilStdinCloses {
		var closed context.CancelFunc
		ctx, closed = context.WithCancel(ctx)
		go func() {
			_, _ = io.Copy(io.Discard, stdin)
			closed()
		}()
	}
	<-ctx.Done()
	if err := errors.Join(s.Close(), sandbox.Finish()); err != nil {
		fmt.Fprintln(stderr, "sandbox:", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (flags, error) {
	var f flags
	set := flag.NewFlagSet("sandbox", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.StringVar(&f.Listen, "listen", "127.0.0.1:8080", "listen on this `address`; port 0 takes a free one")
	set.Float64Var(&f.Speed, "speed", 60, "divide every delay by this: at 60 a minute takes a second, 1 is real time;\n"+
		"dates and reservations don't run faster, see /sandbox/clock")
	set.StringVar(&f.OffersFile, "offers", "", "read the market from this JSON `file`, a list like the offers of GET /api/v1/inventory;\n"+
		"without it there are about forty offers over three clouds")
	set.Func("machines", "rent out this `kind` of machine: friendly has Docker on VMs and a current driver and a toolchain\n"+
		"everywhere; without it they are as the clouds' real ones showed themselves", func(kind string) error {
		f.Machines = sandbox.Machines(kind)
		return nil
	})
	set.BoolVar(&f.Moving, "moving", false, "let prices and availability change every (scaled) minute, by -seed")
	set.StringVar(&f.faults, "faults", "", "put the fault rules of this JSON `file` in force, as PUT /sandbox/faults does")
	set.IntVar(&f.random, "random-faults", 0, "put `n` random fault rules in force, made from -seed")
	set.Int64Var(&f.Seed, "seed", 0, "decide everything random by this; 0 takes one and logs it")
	set.BoolVar(&f.templates, "templates", false, "have a few Vast.ai templates; without, those routes answer 500")
	set.IntVar(&f.HardMaxHours, "hard-max-hours", 12, "let the service destroy every machine `n` hours after its session was created, as its\n"+
		"lifecycle.hard_max_hours does")
	set.BoolVar(&f.Reconciler, "reconciler", false, "let the service destroy machines that none of its sessions has, once they are\n"+
		"five minutes old, as a service with a deployment ID does")
	set.BoolVar(&f.untilStdinCloses, "until-stdin-closes", false,
		"end when standard input ends, so that a parent that dies takes the sandbox along")
	set.StringVar(&f.log, "log", "info", "log at this `level`: debug (every request), info, warn, error, or off")
	set.Usage = func() {
		fmt.Fprint(stderr, usage)
		set.PrintDefaults()
		fmt.Fprint(stderr, usageEnd)
	}
	if err := set.Parse(args); err != nil {
		return f, err
	}
	var err error
	switch {
	case set.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", set.Arg(0))
	case f.Speed <= 0:
		err = errors.New("-speed must be above 0")
	case f.HardMaxHours <= 0:
		err = errors.New("-hard-max-hours must be above 0")
	case f.random > 0 && f.faults != "":
		err = errors.New("-faults and -random-faults exclude each other")
	}
	if err != nil {
		fmt.Fprintln(stderr, "sandbox:", err)
	}
	return f, err
}

// options turns the flags into the sandbox's options.
func (f flags) options(stderr io.Writer) (sandbox.Options, error) {
	opts := f.Options
	if f.templates {
		opts.Templates = sandbox.BuiltinTemplates()
	}
	if f.log != "off" {
		var level slog.Level
		if err := level.UnmarshalText([]byte(f.log)); err != nil {
			return opts, fmt.Errorf("-log: %w", err)
		}
		opts.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	}
	if f.faults != "" {
		var err error
		if opts.Faults, err = sandbox.LoadFaults(f.faults); err != nil {
			return opts, fmt.Errorf("-faults: %w", err)
		}
	}
	if f.random > 0 {
		if opts.Seed == 0 {
			opts.Seed = sandbox.NewSeed()
		}
		opts.Faults = sandbox.RandomFaults(opts.Seed, f.random)
	}
	return opts, nil
}

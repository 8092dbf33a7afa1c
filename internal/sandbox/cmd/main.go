// Command cmd is the sandbox as a program, shopper-sandbox: a stand-in for the rental
// service and its machines. See -help.
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

const usage = `A stand-in for the GPU rental service ("the shopper") and its machines.

It answers as the real service does and costs nothing: the machines that it rents
out exist on this computer only. Each has an SSH server with its own key, a shell,
nvidia-smi for the rented GPUs and, once it is installed, a stand-in for vLLM.

    $ shopper-sandbox
    http://127.0.0.1:8080
    $ SHOPPER_URL=http://127.0.0.1:8080 terraform apply

Standard output is one line, the service's URL. The log goes to standard error.
SIGINT and SIGTERM stop the sandbox and its machines.

What runs, and what it has cost:  curl 'http://127.0.0.1:8080/sandbox/ledger?format=text'
All controls and faults:          curl http://127.0.0.1:8080/sandbox/
The stand-in for vLLM by itself:  shopper-sandbox vllm -help

Flags:
`

const usageEnd = `
Exit code: 0 after SIGINT, SIGTERM or the end of standard input; 1 if the sandbox
could not start, or could not stop everything; 2 for wrong flags.
`

// flags are the sandbox's options, and what becomes options once all flags are known.
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
		return 2 // package flag has printed why
	}
	opts, err := f.options(stderr)
	if err != nil {
		fmt.Fprintln(stderr, "sandbox:", err)
		return 1
	}
	// From here on a signal ends the sandbox properly.
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
	set.StringVar(&f.Listen, "listen", "127.0.0.1:8080", "listen on this `address`; port 0 picks a free port")
	set.Float64Var(&f.Speed, "speed", 60, "divide every delay by this `factor`: at 60 a minute takes a second, 1 is real time;\n"+
		"dates and reservations don't run faster, see /sandbox/clock")
	set.StringVar(&f.OffersFile, "offers", "", "read the market from this JSON `file`, which looks like the answer to GET /api/v1/inventory;\n"+
		"by default there are about forty offers of three clouds")
	set.Func("machines", "rent out machines of this `kind`: on friendly ones nothing is missing, VMs have Docker, and all have\n"+
		"a current driver and a compiler; by default they are like the clouds' real machines", func(kind string) error {
		f.Machines = sandbox.Machines(kind)
		return nil
	})
	set.BoolVar(&f.Moving, "moving", false, "change prices and availability every minute of service time, as -seed decides")
	set.StringVar(&f.faults, "faults", "", "start with the fault rules in this JSON `file`, which looks like the body of PUT /sandbox/faults")
	set.IntVar(&f.random, "random-faults", 0, "start with `n` random fault rules, made from -seed")
	set.Int64Var(&f.Seed, "seed", 0, "derive everything random from this `number`; 0 picks one and logs it")
	set.BoolVar(&f.templates, "templates", false, "have a few Vast.ai templates; without them their routes answer 500")
	set.IntVar(&f.HardMaxHours, "hard-max-hours", 12, "destroy every machine `n` hours after its session was created, as the service's\n"+
		"lifecycle.hard_max_hours does")
	set.BoolVar(&f.Reconciler, "reconciler", false, "destroy machines that belong to no session once they are five minutes old,\n"+
		"as a service with a deployment ID does")
	set.BoolVar(&f.untilStdinCloses, "until-stdin-closes", false, "stop when standard input ends, and so together with the parent process")
	set.StringVar(&f.log, "log", "info", "log at this `level`: debug (every request), info, warn, error or off")
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

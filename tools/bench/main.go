// Command bench measures the provider in the sandbox, and writes the figures into the guide about performance: a table, a picture,
// and the conditions under which they were taken. Most figures are ratios within one run, which can be compared with another
// computer's. Run it from the repository's root with make bench.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/tools/internal/cli"
)

// benchmark measures one thing. A new one is a file in this folder and a line in benchmarks.
type benchmark struct {
	name string // for -only
	what string // is printed
	run  func(ctx context.Context, w *world) ([]row, error)
}

// benchmarks run one after another, each in a new world.
var benchmarks = []benchmark{
	{"refresh", "plans over 200 sessions against 200 null resources", refresh},
	{"told", "applies at real speed: how soon Terraform sees the end", toldAtOnce},
	{"overlap", "a deployment on a machine that builds its driver", overlap},
	{"fanout", "fifty sessions and deployments at once against one", fanOut},
	{"footprint", "start, memory and size", footprint},
	{"byhand", "the main job against a shell script", byHand},
	{"latency", "a refresh at a distance", latency},
	{"capacity", "the sandbox itself", capacity},
}

// row is one line of the table.
type row struct {
	what  string  // what was measured
	value float64 // in unit
	unit  string  // "×" for a ratio; "" for a count
	goal  float64 // the most it may be; 0 = none
	note  string  // what the value was made of
}

func main() {
	if program := os.Getenv(watched); program != "" {
		os.Exit(runWatched(program))
	}
	var names []string
	for _, b := range benchmarks {
		names = append(names, b.name)
	}
	null := flag.String("null", cli.Bin, "`folder` of the terraform-provider-null to compare with; make builds a stand-in")
	only := flag.String("only", "", "run only these `benchmarks` and write nothing: "+strings.Join(names, ","))
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "bench: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *null, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:gocritic // a signal's handler needs no undoing
	}
}

// run runs the benchmarks that only names, separated by commas, and prints their figures. If it is "", it runs all of them and
// writes the guide.
func run(ctx context.Context, null, only string) error {
	chosen := benchmarks
	if only != "" {
		names := strings.Split(only, ",")
		chosen = slices.DeleteFunc(slices.Clone(benchmarks), func(b benchmark) bool { return !slices.Contains(names, b.name) })
		if len(chosen) != len(names) {
			return fmt.Errorf("-only %s contains a name that is not a benchmark, see -help", only)
		}
	}
	begun := time.Now()
	at, err := conditionsNow(ctx)
	if err != nil {
		return err
	}
	var rows []row
	for _, b := range chosen {
		fmt.Printf("%s: %s\n", b.name, b.what)
		found, err := measure(ctx, null, b)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		for _, r := range found {
			fmt.Printf("  %s\n", r)
		}
		rows = append(rows, found...)
	}
	at.took = time.Since(begun)
	fmt.Printf("\n%s", at)
	if only != "" {
		return nil
	}
	return write(rows, at)
}

// measure runs one benchmark in a new world.
func measure(ctx context.Context, null string, b benchmark) (rows []row, err error) {
	program, err := cli.Any(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, program: program, bin: cli.Bin, null: null}
	defer func() { err = errors.Join(err, w.close()) }()
	return b.run(ctx, w)
}

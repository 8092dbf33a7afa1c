// Command bench measures the provider in the sandbox, and writes what it has measured into the guide about performance:
// a table, a picture, and the conditions that both were taken in. Most figures are ratios within one run, which
// another computer can be compared with. It is run from the repository's root by make bench.
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
)

// benchmark measures one thing. A figure more is a file more in this folder, and a line more in benchmarks.
type benchmark struct {
	name string // for -only
	what string // for people
	run  func(ctx context.Context, w *world) ([]row, error)
}

// benchmarks are run one after another, each in a world that nothing is left of.
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
	var s settings
	flag.StringVar(&s.bin, "bin", ".build/bin", "where the provider, the sandbox and the null provider have been built")
	flag.StringVar(&s.null, "null", "", "folder with another terraform-provider-null to measure against; \"\" = the stand-in in -bin")
	flag.StringVar(&s.tofu, "tofu", ".build/bin/tofu", "the OpenTofu to use when neither terraform nor tofu is on PATH")
	only := flag.String("only", "", "run these alone, by name, and write nothing: "+strings.Join(names, ", "))
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "bench: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:gocritic // a signal's handler needs no undoing
	}
}

// run measures everything, or those named in only, and prints the table. It writes the guide where all was measured.
func run(ctx context.Context, s settings, only string) error {
	chosen := benchmarks
	if only != "" {
		names := strings.Split(only, ",")
		chosen = slices.DeleteFunc(slices.Clone(benchmarks), func(b benchmark) bool { return !slices.Contains(names, b.name) })
		if len(chosen) != len(names) {
			return fmt.Errorf("-only %s: not all of these are benchmarks", only)
		}
	}
	begun := time.Now()
	at, err := conditionsNow(ctx, s)
	if err != nil {
		return err
	}
	var rows []row
	for _, b := range chosen {
		fmt.Printf("%s: %s\n", b.name, b.what)
		found, err := measure(ctx, s, b)
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

// measure runs one benchmark in a separate world, and removes it, whatever happens.
func measure(ctx context.Context, s settings, b benchmark) (rows []row, err error) {
	w, err := newWorld(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	return b.run(ctx, w)
}

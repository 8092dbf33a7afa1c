// Command demo does the provider's main job once, step by step, without renting anything: it starts the sandbox, applies
// examples/quickstart with a real Terraform or OpenTofu, asks the model a question through SSH, plans again, destroys, and asks the
// sandbox what is still billing. It exits with 0 only if every step succeeded, and leaves nothing behind, even when it is
// interrupted. Run it from the repository's root, after make build.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: make demo, or go run ./tools/demo after make build")
	}
	flag.Parse()
	os.Exit(demonstrate(&demo{}))
}

// demonstrate runs the demo and returns the exit code.
func demonstrate(d *demo) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	begun := time.Now()
	err := d.run(ctx)
	took := time.Since(begun).Round(100 * time.Millisecond)
	switch {
	case err == nil:
		fmt.Printf("\nEvery step succeeded, in %s. Nothing is billing, and nothing was left behind.\n", took)
		return 0
	case ctx.Err() != nil:
		fmt.Printf("\nInterrupted after %s. %v\n", took, err)
		return 130
	default:
		fmt.Printf("\nThe demo failed after %s: %v\n", took, err)
		return 1
	}
}

// demo is one run.
type demo struct {
	stage   stage
	applied bool // something may be rented
}

// run does the steps. If one fails, it releases what was rented; it always ends the sandbox and removes the files.
func (d *demo) run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, d.stage.close()) }()
	err = d.steps(ctx)
	if err != nil && d.applied {
		err = errors.Join(err, d.rescue(context.WithoutCancel(ctx)))
	}
	return err
}

func (d *demo) steps(ctx context.Context) error {
	for i, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Start the sandbox: a stand-in for the rental service, with machines that cost nothing", d.startSandbox},
		{"Prepare a working directory with examples/quickstart, and initialize it", d.prepare},
		{"Plan: what would be rented and deployed", d.plan},
		{"Apply: rent the cheapest machine that fits, start vLLM on it, wait for a real completion", d.apply},
		{"Ask the model through SSH", d.ask},
		{"Plan again: nothing may have changed", d.planAgain},
		{"Destroy: remove the server, release the machine, wait until that is confirmed", d.destroy},
		{"Ask the sandbox what is still billing", d.audit},
	} {
		fmt.Printf("\n%d. %s\n", i+1, step.title)
		begun := time.Now()
		if err := step.do(ctx); err != nil {
			return err
		}
		fmt.Printf("   done in %s\n", time.Since(begun).Round(100*time.Millisecond))
	}
	return nil
}

// rescue releases what a run that was cut short has rented.
func (d *demo) rescue(ctx context.Context) error {
	fmt.Printf("\nReleasing what was rented.\n")
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := d.destroy(ctx); err != nil {
		return err
	}
	return d.audit(ctx)
}

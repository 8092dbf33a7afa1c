// Command demo does the provider's main job once, step by step, without renting
// anything: it starts the sandbox, applies examples/quickstart with a real
// Terraform or OpenTofu, asks the model a question over the OpenAI API
// through SSH, sees that a second plan is empty, destroys everything, and asks
// the sandbox what is still billing. It ends with exit code 0 only if all of that
// held, and leaves nothing behind, also when it is interrupted. It is run from
// the repository's root, after make build.
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
	tofu := flag.String("tofu", ".build/bin/tofu", "the OpenTofu to use when neither terraform nor tofu is on PATH")
	bin := flag.String("bin", ".build/bin", "where the provider and the sandbox have been built")
	config := flag.String("config", "examples/quickstart", "the configuration to apply")
	question := flag.String("question", "What is the capital of France?", "what to ask the model")
	flag.Parse()

	os.Exit(demonstrate(&demo{tofu: *tofu, bin: *bin, config: *config, question: *question}))
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
		fmt.Printf("\nAll of it held, in %s. Nothing is billing, and nothing was left behind.\n", took)
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
	tofu, bin, config, question string

	number int
	stage  *stage
}

// run does the steps. Whatever fails, what was rented is given back, and the
// sandbox and the files are cleaned up.
func (d *demo) run(ctx context.Context) (err error) {
	d.stage = &stage{}
	defer func() { err = errors.Join(err, d.stage.close()) }()
	err = d.steps(ctx)
	if err != nil && d.stage.applied {
		err = errors.Join(err, d.rescue(context.WithoutCancel(ctx)))
	}
	return err
}

func (d *demo) steps(ctx context.Context) error {
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Start the sandbox: a stand-in for the rental service, with machines that cost nothing", d.startSandbox},
		{"Prepare a working directory with examples/quickstart, and initialize it", d.prepare},
		{"Plan: what would be rented and deployed", d.plan},
		{"Apply: rent the cheapest machine that fits, start vLLM on it, wait for a real completion", d.apply},
		{"Ask the model through SSH", d.ask},
		{"Plan again: nothing may have changed", d.planAgain},
		{"Destroy: remove the server, release the machine, wait for the proof", d.destroy},
		{"Ask the sandbox what is still billing", d.audit},
	} {
		d.number++
		fmt.Printf("\n%d. %s\n", d.number, step.title)
		begun := time.Now()
		if err := step.do(ctx); err != nil {
			return err
		}
		fmt.Printf("   done in %s\n", time.Since(begun).Round(100*time.Millisecond))
	}
	return nil
}

// rescueLimit bounds the clean-up after a failure or an interruption.
const rescueLimit = 3 * time.Minute

// rescue gives back what a run that didn't get to its end has rented.
func (d *demo) rescue(ctx context.Context) error {
	fmt.Printf("\nReleasing what was rented.\n")
	ctx, cancel := context.WithTimeout(ctx, rescueLimit)
	defer cancel()
	if err := d.destroy(ctx); err != nil {
		return err
	}
	return d.audit(ctx)
}

package main

import (
	"context"
	"fmt"
	"time"
)

const (
	fan = 50 // sessions with a deployment each, all at once
	// loading is how long the model loads on each machine, in the service's time.
	loading = 4 * time.Minute
)

// fanOut compares an apply of many sessions and deployments with an apply of one.
func fanOut(ctx context.Context, w *world) ([]row, error) {
	s, err := w.startService(ctx, fan, loading, slow)
	if err != nil {
		return nil, err
	}
	one, err := w.newStack("one", s.url, deployments(1))
	if err != nil {
		return nil, err
	}
	many, err := w.newStack("many", s.url, deployments(fan))
	if err != nil {
		return nil, err
	}
	applied := func(stack *stack) func(context.Context) (spent, error) {
		return func(ctx context.Context) (spent, error) {
			took, err := stack.apply(ctx, fan)
			if err == nil {
				err = stack.destroy(ctx)
			}
			return took, err
		}
	}
	took, err := interleaved(ctx, 2, applied(one), applied(many))
	if err != nil {
		return nil, err
	}
	return []row{{
		what:  fmt.Sprintf("%d sessions and deployments with -parallelism=%d, against one", fan, fan),
		value: took[1].ratio(took[0]), unit: "×", goal: 1.3,
		note: fmt.Sprintf("%s to %s at speed %d; the machines run on this computer, too, and the CLI and the provider take %s of its time",
			seconds(median(took[1].wall)), seconds(median(took[0].wall)), slow, seconds(median(took[1].cpu))),
	}}, nil
}

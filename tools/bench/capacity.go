package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// rented is how many machines are rented, atOnce how many requests run at a time.
const rented, atOnce = 300, 16

// capacity measures how many machines the sandbox rents in a second and has at once.
func capacity(ctx context.Context, w *world) ([]row, error) {
	s, err := w.startService(ctx, rented, 0, quick)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := rentAll(ctx, s); err != nil {
		return nil, err
	}
	asked := time.Since(begun)
	for running := 0; running < rented; {
		var list struct {
			Count int `json:"count"`
		}
		if err := s.ask(ctx, http.MethodGet, "/api/v1/sessions?status=running", nil, &list); err != nil {
			return nil, err
		}
		running = list.Count
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
	ready := time.Since(begun)
	return []row{
		{
			what: "Machines that the sandbox rents a second", value: rented / asked.Seconds(),
			note: fmt.Sprintf("%d in %s, %d requests at a time", rented, seconds(asked), atOnce),
		},
		{
			what: "Machines that it has at once, each with an SSH server that was logged in to", value: rented,
			note: "the last one runs after " + seconds(ready),
		},
	}, nil
}

// rentAll rents each offer once.
func rentAll(ctx context.Context, s *service) error {
	rentals, ctx := errgroup.WithContext(ctx)
	rentals.SetLimit(atOnce)
	for i := range rented {
		rentals.Go(func() error {
			number := strconv.Itoa(i + 1)
			return s.ask(ctx, http.MethodPost, "/api/v1/sessions", map[string]any{
				"consumer_id": "bench/" + number, "offer_id": "vastai-" + number, "workload_type": "llm_vllm", "reservation_hours": 1,
			}, nil)
		})
	}
	return rentals.Wait()
}

// pause waits this long, or returns ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// rented is how many machines the sandbox is asked for, atOnce how many requests for them are under way.
const rented, atOnce = 300, 16

// capacity measures the sandbox itself: how many machines it rents a second, and has at once.
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
	offers := make(chan int, rented)
	for i := range rented {
		offers <- i + 1
	}
	close(offers)
	errs := make([]error, atOnce)
	var all sync.WaitGroup
	for worker := range atOnce {
		all.Go(func() {
			for offer := range offers {
				errs[worker] = errors.Join(errs[worker], s.ask(ctx, http.MethodPost, "/api/v1/sessions", map[string]any{
					"consumer_id": "bench/" + strconv.Itoa(offer), "offer_id": "vastai-" + strconv.Itoa(offer),
					"workload_type": "llm_vllm", "reservation_hours": 1,
				}, nil))
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// pause waits for a while, or returns ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

package rental

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// watchRows bounds the list that several waits share: the newest sessions, of which those are that are waited for.
const watchRows = 200

// watch reads sessions that are waited for, within a budget that all waits share. One that waits alone reads its own session;
// several share a list. A list proves no end: a session that it doesn't show on its way or running is read by itself.
type watch struct {
	service Service
	budget  *pace.Budget
	waits   atomic.Int64

	mu   sync.Mutex
	next *listing // nil while nobody asks for one
}

// listing is a list of sessions that is there once done is closed.
type listing struct {
	done chan struct{}
	rows []shopper.Session
	err  error
	// gaveUp is true where the wait that asked for it ended before: that says nothing about the service.
	gaveUp bool
}

func newWatch(service Service) *watch {
	return &watch{service: service, budget: pace.PerMinute(readsPerMinute, readsAtOnce)}
}

// enter begins a wait, and returns what ends it.
func (w *watch) enter() (leave func()) {
	w.waits.Add(1)
	return func() { w.waits.Add(-1) }
}

// session reads a session when it is its turn.
func (w *watch) session(ctx context.Context, id string) (shopper.Session, error) {
	if w.waits.Load() > 1 {
		rows, err := w.list(ctx)
		if err != nil {
			return shopper.Session{}, err
		}
		for _, row := range rows {
			if row.ID == id && (row.Status == shopper.Running || row.Status == shopper.Pending || row.Status == shopper.Provisioning) {
				return row, nil
			}
		}
	}
	if err := w.budget.Wait(ctx); err != nil {
		return shopper.Session{}, err
	}
	return w.service.Session(ctx, id)
}

// list returns the next list. The first to come asks for it, and everybody gets it who comes until it is there.
func (w *watch) list(ctx context.Context) ([]shopper.Session, error) {
	w.mu.Lock()
	l := w.next
	if l != nil {
		w.mu.Unlock()
		select {
		case <-l.done:
			if l.gaveUp {
				return w.list(ctx)
			}
			return l.rows, l.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	l = &listing{done: make(chan struct{})}
	w.next = l
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.next = nil
		close(l.done)
	}()
	if l.err = w.budget.Wait(ctx); l.err == nil {
		l.rows, l.err = w.service.Sessions(ctx, shopper.SessionFilter{Limit: watchRows})
	}
	l.gaveUp = l.err != nil && ctx.Err() != nil
	return l.rows, l.err
}

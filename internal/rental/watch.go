package rental

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// watchRows is the length of the list that several waits share. It has the newest sessions, and so those that are waited for.
const watchRows = 200

// watch reads sessions that are waited for, within a budget that all waits share. A single wait reads its own session;
// several share a list. A list doesn't prove that a session ended: one that it shows neither starting nor running is read individually.
type watch struct {
	service Service
	budget  *pace.Budget
	waits   atomic.Int64

	mu   sync.Mutex
	next *listing // nil while none is in progress
}

// listing is a list of sessions, complete once done is closed.
type listing struct {
	done chan struct{}
	rows []shopper.Session
	err  error
	// gaveUp is true where the wait that requested it ended first: then err says nothing about the service.
	gaveUp bool
}

func newWatch(service Service) *watch {
	return &watch{service: service, budget: pace.PerMinute(readsPerMinute, readsAtOnce)}
}

// enter begins a wait; leave ends it.
func (w *watch) enter() (leave func()) {
	w.waits.Add(1)
	return func() { w.waits.Add(-1) }
}

// session reads a session, within the budget.
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

// list returns the next list. The first caller requests it, and all callers until it is complete get it.
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

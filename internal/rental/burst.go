package rental

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

const (
	// burstReads is how many sessions have to be read within burstAge to make a burst.
	burstReads = 3
	// burstAge is how long a list serves the reads of a burst, each session once: a plan over hundreds of sessions takes that long.
	burstAge = 10 * time.Second
	// burstRows is the length of a list, which has the newest sessions.
	burstRows = 1000
)

// burst reads sessions. Where many are read at once, as in a refresh, one list serves them all. A session that the list doesn't
// show as running is read individually. Any write to the service invalidates the list.
type burst struct {
	service Service
	lists   singleflight.Group

	mu      sync.Mutex
	begun   time.Time
	read    map[string]bool // the sessions that were read since begun
	writes  int
	listed  time.Time // when the list was asked for
	running map[string]shopper.Session
}

// session reads one session. What it returns is at most burstAge old.
func (b *burst) session(ctx context.Context, id string) (shopper.Session, error) {
	if b.wantsList(id) {
		select {
		case <-b.lists.DoChan("", func() (any, error) { b.list(ctx); return nil, nil }): //nolint:nilnil // the result is in b
		case <-ctx.Done():
		}
	}
	b.mu.Lock()
	s, found := b.running[id]
	found = found && time.Since(b.listed) <= burstAge
	delete(b.running, id) // a second read is for what has changed
	b.mu.Unlock()
	if found {
		return s, nil
	}
	return b.service.Session(ctx, id)
}

// wantsList counts a read, and reports whether it belongs to a burst that no list serves yet.
func (b *burst) wantsList(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.begun) > burstAge {
		b.begun, b.read = time.Now(), map[string]bool{}
	}
	b.read[id] = true
	return len(b.read) >= burstReads && time.Since(b.listed) > burstAge
}

// list lists the newest sessions. Where that fails, each session is read individually.
func (b *burst) list(ctx context.Context) {
	b.mu.Lock()
	writes, asked := b.writes, time.Now()
	fresh := asked.Sub(b.listed) <= burstAge
	b.mu.Unlock()
	if fresh { // another call has just listed them
		return
	}
	rows, err := b.service.Sessions(ctx, shopper.SessionFilter{Limit: burstRows})
	running := make(map[string]shopper.Session, len(rows))
	for _, s := range rows {
		if err == nil && s.Status == shopper.Running {
			running[s.ID] = s
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listed = asked
	if b.running = nil; writes == b.writes {
		b.running = running
	}
}

// forget invalidates the list. It is called after each write.
func (b *burst) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writes++
	b.running = nil
}

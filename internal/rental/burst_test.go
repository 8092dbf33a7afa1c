package rental

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// shelf is a service of many sessions that answers after a while. It counts its requests.
type shelf struct {
	Service
	rows         map[string]shopper.Session
	broken       bool // of lists
	gets, lists  atomic.Int64
	mu           sync.Mutex
	beforeAnswer func()
}

func (s *shelf) Session(ctx context.Context, id string) (shopper.Session, error) {
	s.gets.Add(1)
	if err := nap(ctx, 50*time.Millisecond); err != nil {
		return shopper.Session{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows[id], nil
}

func (s *shelf) Sessions(ctx context.Context, _ shopper.SessionFilter) ([]shopper.Session, error) {
	s.lists.Add(1)
	s.mu.Lock()
	var all []shopper.Session
	for _, row := range s.rows {
		all = append(all, row)
	}
	s.mu.Unlock()
	if err := nap(ctx, 50*time.Millisecond); err != nil {
		return nil, err
	}
	if s.beforeAnswer != nil {
		s.beforeAnswer()
	}
	if s.broken {
		return nil, errors.New("no list today")
	}
	return all, nil
}

func newShelf(n int) *shelf {
	s := &shelf{rows: map[string]shopper.Session{}}
	for i := range n {
		id := fmt.Sprint("s", i)
		s.rows[id] = shopper.Session{ID: id, Status: shopper.Running, ReservationHours: 1}
	}
	return s
}

// readAll reads all sessions as Terraform refreshes them: ten at a time.
func readAll(t *testing.T, b *burst, s *shelf) {
	t.Helper()
	ids := make(chan string, len(s.rows))
	for id := range s.rows {
		ids <- id
	}
	close(ids)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for id := range ids {
				if row, err := b.session(t.Context(), id); err != nil || row != s.rows[id] {
					t.Errorf("%s is %v, %v", id, row, err)
				}
			}
		})
	}
	all.Wait()
}

// A refresh of 500 sessions takes at most ten requests, whatever a list fails for, or shows of an end, is asked for by itself.
func TestBurst(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*shelf)
		gets   [2]int64 // at least, at most
		lists  int64
	}{
		{"running", func(*shelf) {}, [2]int64{0, 9}, 1},
		{"some have ended", func(s *shelf) {
			for _, id := range []string{"s3", "s77"} {
				row := s.rows[id]
				row.Status = shopper.Stopped
				s.rows[id] = row
			}
		}, [2]int64{2, 11}, 1},
		{"lists fail", func(s *shelf) { s.broken = true }, [2]int64{500, 500}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newShelf(500)
				test.change(s)
				readAll(t, &burst{service: s}, s)
				if gets := s.gets.Load(); gets < test.gets[0] || gets > test.gets[1] || s.lists.Load() != test.lists {
					t.Errorf("%d single reads and %d lists", gets, s.lists.Load())
				}
			})
		})
	}
}

// A plan over 500 sessions takes ten requests at most on a slow computer, too.
func TestBurstOfASlowPlan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(500)
		b := &burst{service: s}
		for i := range 500 {
			if _, err := b.session(t.Context(), fmt.Sprint("s", i)); err != nil {
				t.Fatal(err)
			}
			ok(t, nap(t.Context(), 50*time.Millisecond))
		}
		if all := s.gets.Load() + s.lists.Load(); all > 10 {
			t.Errorf("%d requests", all)
		}
	})
}

// What was written isn't hidden by a list of before, nor by one that was under way.
func TestBurstAfterAWrite(t *testing.T) {
	t.Parallel()
	for _, during := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newShelf(20)
			b := &burst{service: s}
			extend := func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				row := s.rows["s1"]
				row.ReservationHours = 5
				s.rows["s1"] = row
				b.forget()
			}
			if during {
				s.beforeAnswer = extend
			}
			for i := range burstReads {
				if _, err := b.session(t.Context(), fmt.Sprint("s", i+2)); err != nil {
					t.Fatal(err)
				}
			}
			if !during {
				extend()
			}
			if row, err := b.session(t.Context(), "s1"); err != nil || row.ReservationHours != 5 || s.lists.Load() != 1 {
				t.Errorf("during=%t: %v, %v after %d lists", during, row, err, s.lists.Load())
			}
			ok(t, nap(t.Context(), burstAge+1))
			if row, err := b.session(t.Context(), "s1"); err != nil || row.ReservationHours != 5 {
				t.Errorf("during=%t: later it is %v, %v", during, row, err)
			}
		})
	}
}

// A few sessions are read by themselves, and a list grows old.
func TestBurstOfFew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(20)
		b := &burst{service: s}
		for _, id := range []string{"s1", "s2"} {
			if _, err := b.session(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if s.gets.Load() != 2 || s.lists.Load() != 0 {
			t.Errorf("two reads are %d single ones and %d lists", s.gets.Load(), s.lists.Load())
		}
		readAll(t, b, s)
		ok(t, nap(t.Context(), burstAge+1))
		before := s.gets.Load()
		if _, err := b.session(t.Context(), "s1"); err != nil || s.gets.Load() != before+1 {
			t.Errorf("an old list was used: %v", err)
		}
	})
}

package rental

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// nursery is a service whose sessions turn running by themselves. It answers after a while, and knows when it was asked.
type nursery struct {
	Service
	mu    sync.Mutex
	ready map[string]time.Time
	asked []time.Time
}

func (n *nursery) row(id string) shopper.Session {
	s := shopper.Session{ID: id, Status: shopper.Provisioning}
	if !time.Now().Before(n.ready[id]) {
		s.Status = shopper.Running
	}
	return s
}

func (n *nursery) Session(ctx context.Context, id string) (shopper.Session, error) {
	rows, err := n.Sessions(ctx, shopper.SessionFilter{})
	at := slices.IndexFunc(rows, func(s shopper.Session) bool { return s.ID == id })
	return rows[at], err
}

func (n *nursery) Sessions(ctx context.Context, _ shopper.SessionFilter) ([]shopper.Session, error) {
	_ = nap(ctx, 20*time.Millisecond)
	n.mu.Lock()
	n.asked = append(n.asked, time.Now())
	var rows []shopper.Session
	for id := range n.ready {
		rows = append(rows, n.row(id))
	}
	n.mu.Unlock()
	return rows, nap(ctx, 20*time.Millisecond)
}

// busiest is how many requests came within any minute.
func (n *nursery) busiest() int {
	most := 0
	for i, from := range n.asked {
		end, _ := slices.BinarySearchFunc(n.asked, from.Add(time.Minute), time.Time.Compare)
		most = max(most, end-i)
	}
	return most
}

// boots are machines of a cloud, of which each is found ready at one of the service's first checks.
func (n *nursery) boots(cloud string, count int) []*Rental {
	if n.ready == nil {
		n.ready = map[string]time.Time{}
	}
	var list []*Rental
	for i := range count {
		at, gap := bootDelays[cloud]+firstCheck, firstCheck
		for range rand.IntN(5) {
			gap = min(gap*3/2, slowestCheck)
			at += gap
		}
		login := 200*time.Millisecond + rand.N(2*time.Second)
		id := fmt.Sprint(cloud, i)
		n.ready[id] = time.Now().Add(at + login)
		list = append(list, &Rental{Session: shopper.Session{ID: id, Status: shopper.Provisioning}, Offer: shopper.Offer{Cloud: cloud}})
	}
	return list
}

// delays waits for machines, all at once, and returns how long after each ran that was known, in order.
func (n *nursery) delays(t *testing.T, rentals []*Rental) []time.Duration {
	t.Helper()
	r := &run{shared: &Renter{watch: newWatch(n)}}
	delays := make([]time.Duration, len(rentals))
	var all sync.WaitGroup
	for i, rental := range rentals {
		all.Go(func() {
			if err := r.waitRunning(t.Context(), rental); err != nil {
				t.Error(err)
			}
			delays[i] = time.Since(n.ready[rental.Session.ID])
		})
	}
	all.Wait()
	slices.Sort(delays)
	return delays
}

// That a machine runs is known within half a second in the median and within one in all but one of twenty, with at most 60
// requests in any minute. Many that are waited for share those, and a service that checks at other moments is no disaster.
func TestRunningIsKnownAtOnce(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, what string, delays []time.Duration, wantMedian, wantLate time.Duration) {
		t.Helper()
		slices.Sort(delays)
		median, late := delays[len(delays)/2], delays[len(delays)*95/100]
		t.Logf("%s: median %s, 95th percentile %s, at most %s", what, median, late, delays[len(delays)-1])
		if median >= wantMedian || late >= wantLate {
			t.Errorf("%s: median %s, 95th percentile %s", what, median, late)
		}
	}
	frugal := func(t *testing.T, n *nursery) {
		t.Helper()
		if busiest := n.busiest(); busiest > 60 {
			t.Errorf("%d requests in a minute", busiest)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var all, unexpected []time.Duration
		for range 100 {
			for _, cloud := range []string{vastAI, tensorDock, blueLobster} {
				n := &nursery{}
				all = append(all, n.delays(t, n.boots(cloud, 1))...)
				frugal(t, n)
			}
			n := &nursery{}
			rentals := n.boots(vastAI, 1)
			n.ready[rentals[0].Session.ID] = time.Now().Add(rand.N(5 * time.Minute))
			unexpected = append(unexpected, n.delays(t, rentals)...)
			frugal(t, n)
		}
		check(t, "one at a time", all, time.Second/2, time.Second)
		check(t, "at any moment", unexpected, 1500*time.Millisecond, 2500*time.Millisecond)
		n := &nursery{}
		fifty := slices.Concat(n.boots(vastAI, 17), n.boots(tensorDock, 17), n.boots(blueLobster, 16))
		check(t, "fifty at once", n.delays(t, fifty), 1500*time.Millisecond, 2*time.Second)
		frugal(t, n)
	})
}

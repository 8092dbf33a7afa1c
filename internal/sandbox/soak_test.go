package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestSoak rents 200 machines, ten at a time, under random faults, as a careful
// client does, and ends with nothing billing and no process left.
func TestSoak(t *testing.T) {
	t.Parallel()
	seed := NewSeed()
	if text := os.Getenv("SANDBOX_SOAK_SEED"); text != "" {
		given, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = given
	}
	t.Logf("seed %d; SANDBOX_SOAK_SEED=%d makes the same faults again", seed, seed)
	const rentals, tenants = 200, 10
	// Enough that those which fail, and are hidden for it, aren't missed.
	const offersPerCloud = 60
	s := startSandbox(t, Options{Speed: 300, Seed: seed, Offers: realOffers(offersPerCloud), Faults: RandomFaults(seed, 120)})
	jobs := make(chan int)
	var doubts sync.Map // the marks of requests without a clear answer
	var renting sync.WaitGroup
	for n := range tenants {
		renting.Go(func() {
			u := &careful{t: t, s: s, doubts: &doubts, random: rand.New(rand.NewPCG(uint64(seed), uint64(n)))}
			for job := range jobs {
				for try := range 4 {
					if u.rentOnce(fmt.Sprintf("soak/%d/%d", job, try), u.random.IntN(offersPerCloud)) {
						break
					}
				}
			}
		})
	}
	for job := range rentals {
		jobs <- job
	}
	close(jobs)
	renting.Wait()
	// What was destroyed slowly is still ending. On a busy computer a request without a clear answer can take effect after its
	// client has stopped looking for it.
	last := &careful{t: t, s: s, random: rand.New(rand.NewPCG(uint64(seed), tenants))}
	waitUntil := time.Now().Add(20 * time.Second)
	for billing := s.Ledger().Billing; len(billing) > 0 && time.Now().Before(waitUntil); billing = s.Ledger().Billing {
		for _, rental := range billing {
			if _, doubtful := doubts.Load(rental.ConsumerID); doubtful {
				last.release(rental.ConsumerID)
			}
		}
		last.pause()
	}
	struck := 0
	for _, rule := range s.Faults() {
		struck += rule.Struck
	}
	ledger := s.Ledger()
	ends := map[string]int{}
	for _, r := range ledger.Rentals {
		ends[r.ReleasedBy]++
	}
	t.Logf("%d machines rented, %d calls spoiled; ended by %v", len(ledger.Rentals), struck, ends)
	if len(ledger.Billing) != 0 {
		t.Errorf("still billing: %+v", ledger.Billing)
	}
	if len(ledger.Rentals) < rentals*9/10 || struck < 20 {
		t.Error("that was no soak")
	}
	if left := processesBelow(t, s.dir.path); len(left) != 0 {
		t.Errorf("processes left behind: %v", left)
	}
}

// processesBelow lists the processes that run in a directory or have it in their
// environment, where the system can tell.
func processesBelow(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Skip("SKIPPED: no /proc on this machine")
	}
	var left []string
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil || entry.Name() == strconv.Itoa(os.Getpid()) {
			continue
		}
		env, _ := os.ReadFile("/proc/" + entry.Name() + "/environ") // ended meanwhile, or somebody else's
		if cwd, _ := os.Readlink("/proc/" + entry.Name() + "/cwd"); strings.HasPrefix(cwd, dir) || strings.Contains(string(env), dir) {
			command, _ := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
			left = append(left, fmt.Sprintf("%s %q", entry.Name(), command))
		}
	}
	return left
}

// careful is a client that loses no machine: it marks each rental, and after
// anything but a clear answer looks for its mark until nothing more can come.
type careful struct {
	t      *testing.T
	s      *Sandbox
	doubts *sync.Map // by mark
	random *rand.Rand
}

// call sends one request and decodes its answer; ok says that it was a clear one.
func (u *careful) call(method, path string, body, into any) (status int, ok bool) {
	data, err := json.Marshal(body)
	if err != nil {
		u.t.Error(err)
	}
	ctx, cancel := context.WithTimeout(u.t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u.s.URL()+path, strings.NewReader(string(data)))
	if err != nil {
		u.t.Error(err)
		return 0, false
	}
	r := read(http.DefaultClient.Do(req))
	if r.err != nil || r.status >= 400 {
		return r.status, false
	}
	return r.status, json.Unmarshal([]byte(r.text), into) == nil
}

func (u *careful) pause() {
	timer := time.NewTimer(time.Duration(5+u.random.IntN(10)) * time.Millisecond)
	defer timer.Stop()
	<-timer.C
}

// rentOnce takes a machine, looks whether it runs, and gives it back. It reports
// whether there was one.
func (u *careful) rentOnce(mark string, n int) bool {
	offer := fmt.Sprintf("%s-%d", []string{VastAI, TensorDock}[u.random.IntN(2)], n)
	var made struct {
		Session struct{ ID string }
		Key     string `json:"ssh_private_key"`
	}
	status, ok := u.call(http.MethodPost, "/api/v1/sessions", order(mark, offer), &made)
	plain := ok && made.Session.ID != "" || status == http.StatusNotFound || status == http.StatusTooManyRequests
	if !plain {
		u.doubts.Store(mark, true)
	}
	sent := time.Now()
	if ok && made.Session.ID != "" && made.Key != "" {
		for range 40 {
			var row struct{ Status string }
			if _, ok := u.call(http.MethodGet, "/api/v1/sessions/"+made.Session.ID, nil, &row); ok && row.Status != statusProvisioning {
				break
			}
			u.pause()
		}
	}
	for u.release(mark); !plain && u.underWay(mark, time.Since(sent)); u.pause() {
		u.release(mark)
	}
	return made.Session.ID != ""
}

// release deletes all sessions of a mark until a listing shows that each is over.
func (u *careful) release(mark string) {
	for deadline := time.Now().Add(25 * time.Second); time.Now().Before(deadline); u.pause() {
		var list struct {
			Sessions []struct{ ID, Status string }
			Count    *int
		}
		if _, ok := u.call(http.MethodGet, "/api/v1/sessions?consumer_id="+url.QueryEscape(mark), nil, &list); !ok || list.Count == nil {
			continue
		}
		over := true
		for _, row := range list.Sessions {
			if row.Status == statusStopped {
				continue
			}
			if row.Status == statusFailed && !u.bills(row.ID) {
				continue
			}
			over = false
			u.call(http.MethodDelete, "/api/v1/sessions/"+row.ID, nil, &struct{}{})
		}
		if over {
			return
		}
	}
	u.t.Errorf("%s: can't be released", mark)
}

// bills asks the ledger, for a failed session that never had a machine stays failed.
func (u *careful) bills(id string) bool {
	for _, r := range u.s.Ledger().Billing {
		if r.SessionID == id {
			return true
		}
	}
	return false
}

// underWay reports whether a POST that got no clear answer may still take effect.
// A client would wait for the five minutes that the service may take at most; on
// a busy computer those are longer than this test's speed makes them, so it looks
// behind the scenes for a session that was deleted before it had a machine.
func (u *careful) underWay(mark string, since time.Duration) bool {
	early := u.s.sessions.List(func(row session) bool {
		return row.Consumer == mark && row.Status == statusStopped && row.providerID == "" && row.Error == ""
	})
	if len(early) > 0 {
		return since < 15*time.Second
	}
	return since < 3*time.Second
}

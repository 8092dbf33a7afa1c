package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

// patience bounds every wait for something that takes seconds.
const patience = 90 * time.Second

// world is a sandbox of a test's own, in a process of its own, and a directory
// for everything that the test writes.
type world struct {
	url string
	dir string
	log *output

	process *exec.Cmd
	stdin   io.Closer
	ended   chan error
}

// newWorld starts a sandbox that ends with the test, with nothing billing and
// without a process or a file left behind.
func newWorld(t *testing.T, flags ...string) *world {
	t.Helper()
	if os.Getenv("TF_ACC") == "" {
		t.Skip("SKIPPED: TF_ACC is not set, so no CLI is run")
	}
	dir, err := os.MkdirTemp("", "e")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{dir: dir, log: &output{}, ended: make(chan error, 1)}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	offers := filepath.Join(dir, "offers.json")
	data, err := json.Marshal(market())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(offers, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{w.tmp(), w.home()} {
		if err := os.Mkdir(sub, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.start(t, append([]string{
		"-listen", "127.0.0.1:0", "-until-stdin-closes", "-log", "debug", "-seed", "1", "-offers", offers,
		"-machines", "friendly",
	}, flags...)...)
	t.Cleanup(func() { w.close(t) })
	return w
}

func (w *world) tmp() string  { return filepath.Join(w.dir, "t") }
func (w *world) home() string { return filepath.Join(w.dir, "h") }

// market is a dozen machines that boot at once, each a little dearer than the
// one before.
func market() []sandbox.Offer {
	var offers []sandbox.Offer
	for i := range 24 {
		offers = append(offers, sandbox.Offer{
			ID: fmt.Sprintf("vastai-%d", 1000+i), GPUType: "RTX 4090", GPUCount: 1, PricePerHour: 0.30 + float64(i)/100,
			Location: "Virginia, US", Reliability: 0.99, CUDAVersion: 12.9,
			Machine: sandbox.MachineSpec{Boot: sandbox.Duration(time.Second)},
		})
	}
	return offers
}

// start starts the sandbox's process, whose first line is its URL.
func (w *world) start(t *testing.T, args ...string) {
	t.Helper()
	w.process = exec.Command(built.sandbox, args...)
	w.process.Env = append(os.Environ(), "TMPDIR="+w.dir)
	w.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	w.process.Stderr = w.log
	stdin, err := w.process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := w.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.process.Start(); err != nil {
		t.Fatal(err)
	}
	w.stdin = stdin
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the sandbox didn't say where it listens: %v\n%s", err, w.log)
	}
	w.url = strings.TrimSpace(line)
	go func() { w.ended <- w.process.Wait() }()
}

// close ends the sandbox and says what a test has left.
func (w *world) close(t *testing.T) {
	t.Helper()
	if !t.Failed() {
		if billing := w.ledger(t).Billing; len(billing) > 0 {
			t.Errorf("still billing at the end: %v", billing)
		}
		if err := w.idle(t); err != nil {
			t.Error(err)
		}
	}
	w.endProcesses(t)
	_ = w.stdin.Close()
	select {
	case err := <-w.ended:
		if err != nil {
			t.Errorf("the sandbox ended with %v:\n%s", err, w.log.tail(20))
		}
	case <-time.After(patience):
		_ = w.process.Process.Kill()
		t.Errorf("the sandbox didn't end and was killed:\n%s", w.log.tail(20))
	}
	if t.Failed() {
		t.Logf("the sandbox's log ends with:\n%s", w.log.tail(60))
	}
}

// ask sends a request to the sandbox's own routes or to the service.
func (w *world) ask(t *testing.T, method, path string, body, into any) {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, w.url+path, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if t.Context().Err() != nil { // in a clean-up
		req, err = http.NewRequest(method, w.url+path, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s %s %v", method, path, resp.Status, answer, err)
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, answer)
		}
	}
}

func (w *world) ledger(t *testing.T) sandbox.Ledger {
	t.Helper()
	var ledger sandbox.Ledger
	w.ask(t, http.MethodGet, "/sandbox/ledger", nil, &ledger)
	return ledger
}

// faults puts rules in force instead of those before, each of which must have struck.
func (w *world) faults(t *testing.T, rules ...sandbox.Rule) {
	t.Helper()
	if err := w.idle(t); err != nil {
		t.Error(err)
	}
	if rules == nil {
		rules = []sandbox.Rule{}
	}
	w.ask(t, http.MethodPut, "/sandbox/faults", rules, nil)
}

// idle is an error for a rule in force that has not struck.
func (w *world) idle(t *testing.T) error {
	t.Helper()
	var rules []sandbox.RuleCount
	w.ask(t, http.MethodGet, "/sandbox/faults", nil, &rules)
	for _, rule := range rules {
		if rule.Struck == 0 {
			return fmt.Errorf("%s at %s %s has not struck; it matched %d times", rule.Fault, rule.Route, rule.Consumer, rule.Matched)
		}
	}
	return nil
}

// struck waits until every rule in force has struck.
func (w *world) struck(t *testing.T) {
	t.Helper()
	eventually(t, func() error { return w.idle(t) })
}

// advance moves the sandbox's clock.
func (w *world) advance(t *testing.T, by time.Duration) {
	t.Helper()
	w.ask(t, http.MethodPost, "/sandbox/clock", map[string]string{"advance": by.String()}, nil)
}

// status is what the service says a session is.
func (w *world) status(t *testing.T, id string) string {
	t.Helper()
	var session struct {
		Status string `json:"status"`
	}
	w.ask(t, http.MethodGet, "/api/v1/sessions/"+id, nil, &session)
	return session.Status
}

// rent rents a machine past Terraform, and returns the session's id.
func (w *world) rent(t *testing.T, consumer, offer string) string {
	t.Helper()
	var answer struct {
		Session struct {
			ID string `json:"id"`
		} `json:"session"`
	}
	w.ask(t, http.MethodPost, "/api/v1/sessions", map[string]any{
		"consumer_id": consumer, "offer_id": offer, "workload_type": "llm_vllm", "reservation_hours": 1,
	}, &answer)
	eventually(t, func() error {
		if status := w.status(t, answer.Session.ID); status != "running" {
			return fmt.Errorf("it reads %s", status)
		}
		return nil
	})
	return answer.Session.ID
}

// name is the rental's name in its mark.
func name(r sandbox.Rental) string {
	parts := strings.Split(r.ConsumerID, "/")
	return parts[min(1, len(parts)-1)]
}

// accounted checks the clouds' books: what bills is what the stacks have in
// state, each of these names once, and no name ever had two machines at a time.
func (w *world) accounted(t *testing.T, stacks []*stack, names ...string) {
	t.Helper()
	ledger := w.ledger(t)
	var known, billing []string
	for _, s := range stacks {
		known = append(known, s.sessions(t)...)
	}
	for _, r := range ledger.Billing {
		billing = append(billing, name(r))
		if !slices.Contains(known, r.SessionID) {
			t.Errorf("LOST: session %s (%s) bills and is in no state", r.SessionID, r.ConsumerID)
		}
	}
	slices.Sort(billing)
	slices.Sort(names)
	if !slices.Equal(billing, names) {
		t.Errorf("these names bill: %q, want %q\n%v", billing, names, ledger)
	}
	w.neverTwice(t)
}

// neverTwice checks that no name ever had two machines at a time.
func (w *world) neverTwice(t *testing.T) {
	t.Helper()
	rentals := w.ledger(t).Rentals
	for i, a := range rentals {
		for _, b := range rentals[i+1:] {
			if name(a) == name(b) && (a.ReleasedAt == nil || b.RentedAt.Before(*a.ReleasedAt)) {
				t.Errorf("DOUBLE: sessions %s and %s of %s billed at the same time", a.SessionID, b.SessionID, name(a))
			}
		}
	}
}

// eventually waits until check has nothing to say any more.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("still after %s: %v", patience, err)
		}
	}
}

// output collects what a process writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// tail is the last lines of it.
func (o *output) tail(lines int) string {
	all := strings.Split(strings.TrimSpace(o.String()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

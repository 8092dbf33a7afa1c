package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// client asks a sandbox whose clock stands still. Requests that wait for a cloud
// are helped on by advancing the clock.
type client struct {
	t testing.TB
	s *Sandbox
	f *fleet
}

// frozen starts a sandbox with a few offers and a clock that stands still.
func frozen(t testing.TB, opts Options) client {
	t.Helper()
	opts.Frozen = true
	if opts.Offers == nil {
		opts.Offers = recordedOffers()
	}
	s, f := startFake(t, opts)
	return client{t, s, f}
}

// reading is an answer. Only one of its bodies is set.
type reading struct {
	status int
	header http.Header
	body   map[string]any
	text   string
	err    error
}

func (r reading) str(names ...string) string {
	path := make([]any, 0, len(names))
	for _, name := range names {
		path = append(path, name)
	}
	text, _ := r.at(path...).(string)
	return text
}

// at is what a body holds at a path of names and indexes; nil where there is none.
func (r reading) at(path ...any) any {
	var v any = r.body
	for _, step := range path {
		switch step := step.(type) {
		case string:
			object, _ := v.(map[string]any)
			v = object[step]
		case int:
			list, _ := v.([]any)
			if step >= len(list) {
				return nil
			}
			v = list[step]
		}
	}
	return v
}

// size is the length of a list in the body, -1 where there is none.
func (r reading) size(name string) int {
	list, ok := r.body[name].([]any)
	if !ok {
		return -1
	}
	return len(list)
}

// send sends a request; body is JSON, text or nil.
func (c client) send(ctx context.Context, method, path string, body any) chan reading {
	c.t.Helper()
	data, isText := body.(string)
	if !isText && body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		data = string(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.s.URL()+path, bytes.NewReader([]byte(data)))
	if err != nil {
		c.t.Fatal(err)
	}
	answers := make(chan reading, 1)
	go func() { answers <- read(http.DefaultClient.Do(req)) }()
	return answers
}

func read(resp *http.Response, err error) reading {
	if err != nil {
		return reading{err: err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	r := reading{status: resp.StatusCode, header: resp.Header, text: string(data), err: err}
	_ = json.Unmarshal(data, &r.body) // stays nil where it isn't an object
	return r
}

// get reads, without moving the clock.
func (c client) get(path string) reading {
	c.t.Helper()
	r := <-c.send(c.t.Context(), http.MethodGet, path, nil)
	if r.err != nil {
		c.t.Fatal(r.err)
	}
	return r
}

// do sends a request and advances the clock until it is answered.
func (c client) do(method, path string, body any) reading {
	c.t.Helper()
	return c.answer(c.send(c.t.Context(), method, path, body))
}

// answer waits for an answer, with the clock running at a hundred times its speed or so.
func (c client) answer(answers chan reading) reading {
	c.t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for range 30000 {
		select {
		case r := <-answers:
			return r
		case <-ticker.C:
			c.s.Advance(100 * time.Millisecond)
		}
	}
	c.t.Fatal("no answer")
	return reading{}
}

func order(consumer, offer string) map[string]any {
	return map[string]any{"consumer_id": consumer, "offer_id": offer, "workload_type": "llm_vllm", "reservation_hours": 1}
}

// rent makes a session and returns its id.
func (c client) rent(consumer, offer string) string {
	c.t.Helper()
	r := c.do(http.MethodPost, "/api/v1/sessions", order(consumer, offer))
	if r.status != http.StatusCreated {
		c.t.Fatalf("renting %s: %d %s %v", offer, r.status, r.text, r.err)
	}
	return r.str("session", "id")
}

// run makes a session and waits until it runs.
func (c client) run(consumer, offer string) string {
	c.t.Helper()
	id := c.rent(consumer, offer)
	c.until(id, statusRunning)
	return id
}

func (c client) status(id string) string {
	row, err := c.s.sessions.Get(id)
	if err != nil {
		return ""
	}
	return row.Status
}

// until advances the clock until a session has a status.
func (c client) until(id, status string) {
	c.t.Helper()
	c.advanceUntil(fmt.Sprintf("%s to be %s (it is %s)", id, status, c.status(id)), func() bool { return c.status(id) == status })
}

func (c client) advanceUntil(what string, holds func() bool) {
	c.t.Helper()
	testkit.Eventually(c.t, what, func() bool {
		if holds() {
			return true
		}
		c.s.Advance(500 * time.Millisecond)
		return false
	})
}

// advance moves the clock in steps, so that what is due in between happens in its order.
func (c client) advance(d time.Duration) {
	c.t.Helper()
	end := c.s.clock.Elapsed() + d
	c.advanceUntil(d.String(), func() bool { return c.s.clock.Elapsed() >= end })
}

// billing is the ids of the sessions whose machine bills.
func (c client) billing() []string {
	ids := []string{}
	for _, r := range c.s.Ledger().Billing {
		ids = append(ids, r.SessionID)
	}
	return ids
}

func (c client) wantBilling(ids ...string) {
	c.t.Helper()
	if got := c.billing(); fmt.Sprint(got) != fmt.Sprint(append([]string{}, ids...)) {
		c.t.Fatalf("billing %v, want %v", got, ids)
	}
}

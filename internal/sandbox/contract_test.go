package sandbox

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

const recordingsFile = "../shopper/testdata/shopper-recordings.json"

type recording struct {
	Name    string `json:"name"`
	Request struct {
		Method string          `json:"method"`
		Path   string          `json:"path"`
		Body   json.RawMessage `json:"body"`
		Raw    *string         `json:"raw_body"`
	} `json:"request"`
	Response struct {
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
		Body    any               `json:"body"`
	} `json:"response"`
}

// recordedOffers are the twelve offers of the deployment that was recorded.
func recordedOffers() []Offer {
	kinds := []struct {
		gpu   string
		count int
		vram  int
		price float64
	}{{"RTX 4090", 1, 24, 0.4}, {"RTX 4090", 2, 24, 0.75}, {"A100 SXM4", 1, 80, 1.5}, {"H100 SXM5", 1, 80, 3.5}}
	var offers []Offer
	for i := range 12 {
		kind := kinds[i%4]
		offers = append(offers, Offer{
			ID: fmt.Sprintf("vastai-%d", 100+i), GPUType: kind.gpu, GPUCount: kind.count, VRAMGB: kind.vram, PricePerHour: kind.price + 0.01*float64(i/4),
			Location: "US-West", Reliability: 0.99, CUDAVersion: 12.9, MachineID: fmt.Sprint(9000 + i),
			Machine: MachineSpec{Boot: Duration(500 * time.Millisecond)},
		})
	}
	return offers
}

// recordedFaults are what the recordings show of that deployment's clouds.
func recordedFaults() []Rule {
	return []Rule{
		{Route: "GET /health", Nth: 2, Fault: NotReady},
		{Route: "GET /ready", Nth: 2, Fault: NotReady},
		{Route: EventCreate, Offer: "vastai-102", Fault: OffersGone},
		{Route: EventCreate, Offer: "vastai-103", Fault: OffersGone},
		{Route: EventBoot, Offer: "vastai-110", Consumer: "c4", Fault: BootsLate, Value: "1m"},
		{Route: EventBoot, Offer: "vastai-106", Consumer: "c6", Fault: NeverBoots},
		{Route: EventBoot, Offer: "vastai-107", Fault: NeverBoots},
		{Route: EventDestroy, Consumer: "d2", Fault: DestroyFails},
	}
}

// contract replays recordings. The sandbox's clock stands still but for what the
// replay advances it by, so nothing depends on how fast the test runs.
type contract struct {
	t    *testing.T
	s    *Sandbox
	byID map[string]recording
	ids  map[string]string // recorded UUID to the sandbox's
	pend map[string]chan answered
}

type answered struct {
	status int
	header http.Header
	body   []byte
	err    error
}

// contractSeed makes auto_retry choose the offers that it chose in the recording.
const contractSeed = 4

func TestContractReplaysEveryRecording(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(recordingsFile)
	if err != nil {
		t.Fatal(err)
	}
	var recordings []recording
	if err := json.Unmarshal(data, &recordings); err != nil {
		t.Fatal(err)
	}
	if len(recordings) != 79 {
		t.Fatalf("%d recordings, want the 79 there are", len(recordings))
	}
	s, _ := startFake(t, Options{
		Frozen: true, Seed: contractSeed, Offers: recordedOffers(), Faults: recordedFaults(),
		SSHTimeout: 20 * time.Second, SSHInterval: time.Second,
	})
	c := &contract{t: t, s: s, byID: map[string]recording{}, ids: map[string]string{}, pend: map[string]chan answered{}}
	for _, r := range recordings {
		c.byID[r.Name] = r
	}
	for i, r := range recordings {
		c.prepare(r)
		begun := c.pend[r.Name]
		if begun == nil {
			begun = c.begin(r)
		}
		step := 100 * time.Millisecond
		switch {
		case r.Name == "delete_destroy_unverified":
			step = time.Second
		case r.Request.Method == http.MethodGet:
			step = 0
		}
		got := c.finish(begun, step)
		c.compare(r, got)
		if t.Failed() {
			t.Fatalf("recording %d, %s: %d %s", i, r.Name, got.status, got.body)
		}
	}
	for _, rule := range s.Faults() {
		if rule.Struck == 0 {
			t.Errorf("the rule %+v never struck", rule.Rule)
		}
	}
}

// prepare brings about what the recordings imply and don't show.
func (c *contract) prepare(r recording) {
	c.t.Helper()
	switch r.Name {
	case "get_running":
		c.advanceUntil("c1 runs", c.reads("create_ok", statusRunning))
	case "get_stopping":
		c.pend["delete_ok"] = c.begin(c.byID["delete_ok"])
		testkit.Eventually(c.t, "c1 stopping", c.reads("create_ok", statusStopping))
	case "done_ok":
		c.rent("8eb88b4d-038c-40f5-a755-fac7b9c847be", "c2", "vastai-104")
	case "create_insufficient_disk":
		c.endAutoRetry()
	case "get_failed":
		c.advanceUntil("c6 fails", c.reads("create_that_never_gets_ssh", statusFailed))
	case "create_auto_retry_async":
		c.advanceTo(65 * time.Second) // just after a periodic check, which would turn failed into stopped
	case "get_failed_with_retry_child":
		c.advanceUntil("c7 is replaced", func() bool { return c.row("create_auto_retry_async").Child != "" })
		c.ids["c9ed6c06-4de3-462f-83f9-041b8df502a3"] = c.row("create_auto_retry_async").Child
	case "get_retry_child":
		child := c.ids["c9ed6c06-4de3-462f-83f9-041b8df502a3"]
		c.advanceUntil("c7's child runs", func() bool { return c.status(child) == statusRunning })
	case "list_page":
		c.call(http.MethodDelete, "/api/v1/sessions/"+c.ids["c9ed6c06-4de3-462f-83f9-041b8df502a3"], nil)
		c.advanceUntil("c7 is cleaned", c.reads("create_auto_retry_async", statusStopped))
	case "get_after_client_abandoned_delete":
		c.advanceTo(c.s.clock.Elapsed() + cacheLife) // the cache forgets what auto_retry asked for
		id := c.rent("6abb0318-36c5-4532-9516-07f3f9a02016", "d1", "vastai-109")
		c.abandonDelete(id)
	case "get_20s_after_abandoned_delete":
		c.advanceTo(c.s.clock.Elapsed() + 20*time.Second)
	case "delete_destroy_unverified":
		c.rent("9448d53a-025a-4163-b414-9168385f0406", "d2", "vastai-110")
	}
}

// row is the session that a recording made.
func (c *contract) row(name string) session {
	var id string
	body, _ := c.byID[name].Response.Body.(map[string]any)
	if made, ok := body["session"].(map[string]any); ok {
		id, _ = made["id"].(string)
	}
	row, _ := c.s.sessions.Get(c.ids[id])
	return row
}

func (c *contract) status(id string) string {
	row, _ := c.s.sessions.Get(id)
	return row.Status
}

func (c *contract) reads(name, status string) func() bool {
	return func() bool { return c.row(name).Status == status }
}

func (c *contract) advanceUntil(what string, holds func() bool) {
	c.t.Helper()
	testkit.Eventually(c.t, what, func() bool {
		if holds() {
			return true
		}
		c.s.Advance(100 * time.Millisecond)
		return false
	})
}

func (c *contract) advanceTo(elapsed time.Duration) {
	c.t.Helper()
	c.advanceUntil(elapsed.String(), func() bool { return c.s.clock.Elapsed() >= elapsed })
}

// rent makes a session that wasn't recorded, and waits until it runs.
func (c *contract) rent(recorded, consumer, offer string) string {
	c.t.Helper()
	body := fmt.Sprintf(`{"consumer_id":%q,"offer_id":%q,"workload_type":"llm_vllm","reservation_hours":1}`, consumer, offer)
	got := c.call(http.MethodPost, "/api/v1/sessions", []byte(body))
	var made struct{ Session struct{ ID string } }
	if err := json.Unmarshal(got.body, &made); err != nil || got.status != http.StatusCreated {
		c.t.Fatalf("renting for %s: %d %s", consumer, got.status, got.body)
	}
	c.ids[recorded] = made.Session.ID
	c.advanceUntil(consumer+" runs", func() bool { return c.status(made.Session.ID) == statusRunning })
	return made.Session.ID
}

// endAutoRetry deletes the session that auto_retry rented, before it runs. That
// makes the service rent another one, as it did when the recordings were made.
func (c *contract) endAutoRetry() {
	c.t.Helper()
	child := c.row("create_auto_retry_sync").ID
	c.call(http.MethodDelete, "/api/v1/sessions/"+child, nil)
	var grandchild string
	c.advanceUntil("c4's grandchild runs", func() bool {
		rows := c.s.sessions.List(func(row session) bool { return row.Parent == child && row.Status == statusRunning })
		if len(rows) == 1 {
			grandchild = rows[0].ID
		}
		return grandchild != ""
	})
	c.call(http.MethodDelete, "/api/v1/sessions/"+grandchild, nil)
}

// abandonDelete hangs up one second into a DELETE.
func (c *contract) abandonDelete(id string) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	begun := c.send(ctx, http.MethodDelete, "/api/v1/sessions/"+id, nil)
	testkit.Eventually(c.t, "d1 stopping", func() bool { return c.status(id) == statusStopping })
	c.s.Advance(time.Second)
	cancel()
	if got := <-begun; got.err == nil {
		c.t.Fatal("the abandoned DELETE was answered")
	}
	testkit.Eventually(c.t, "the service to notice", func() bool {
		c.s.service.mu.Lock()
		defer c.s.service.mu.Unlock()
		return len(c.s.locks) == 0
	})
}

// begin sends a recorded request.
func (c *contract) begin(r recording) chan answered {
	body := []byte(r.Request.Body)
	if r.Request.Raw != nil {
		body = []byte(*r.Request.Raw)
	}
	if r.Name == "create_body_over_1MiB" { // the recording keeps its beginning only
		body = append(body[:len(body)-2], bytes.Repeat([]byte("x"), maxBody)...)
	}
	return c.send(c.t.Context(), r.Request.Method, c.translate(r.Request.Path), body)
}

func (c *contract) send(ctx context.Context, method, path string, body []byte) chan answered {
	begun := make(chan answered, 1)
	req, err := http.NewRequestWithContext(ctx, method, c.s.URL()+path, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			begun <- answered{err: err}
			return
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		begun <- answered{resp.StatusCode, resp.Header, data, err}
	}()
	return begun
}

func (c *contract) call(method, path string, body []byte) answered {
	c.t.Helper()
	return c.finish(c.send(c.t.Context(), method, path, body), 100*time.Millisecond)
}

// finish waits for an answer, letting the clouds' time pass in steps.
func (c *contract) finish(begun chan answered, step time.Duration) answered {
	c.t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for range 20000 {
		select {
		case got := <-begun:
			if got.err != nil {
				c.t.Fatal(got.err)
			}
			return got
		case <-ticker.C:
			c.s.Advance(step)
		}
	}
	c.t.Fatal("no answer")
	return answered{}
}

var uuidPattern = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// translate writes the sandbox's ids where a recording has its own.
func (c *contract) translate(text string) string {
	return uuidPattern.ReplaceAllStringFunc(text, func(id string) string {
		if ours, ok := c.ids[id]; ok {
			return ours
		}
		return id
	})
}

func (c *contract) compare(r recording, got answered) {
	c.t.Helper()
	if got.status != r.Response.Status {
		c.t.Errorf("status %d, want %d", got.status, r.Response.Status)
	}
	for name, want := range r.Response.Headers {
		have := got.header.Get(name)
		if name == requestIDHeader {
			if !uuidPattern.MatchString(have) {
				c.t.Errorf("%s: %q", name, have)
			}
		} else if have != want {
			c.t.Errorf("%s: %q, want %q", name, have, want)
		}
	}
	if want, isText := r.Response.Body.(string); isText {
		if string(got.body) != want {
			c.t.Errorf("body %q, want %q", got.body, want)
		}
		return
	}
	var body any
	if err := json.Unmarshal(got.body, &body); err != nil {
		c.t.Errorf("body %q: %v", got.body, err)
		return
	}
	if r.Name == "offer_health" { // the real service lists a map: in no order
		sortOffers(r.Response.Body)
		sortOffers(body)
	}
	c.same("body", r.Response.Body, body)
	if object, ok := body.(map[string]any); ok && object["request_id"] != nil && object["request_id"] != got.header.Get(requestIDHeader) {
		c.t.Errorf("request_id %v isn't the header's", object["request_id"])
	}
}

func sortOffers(body any) {
	object, _ := body.(map[string]any)
	offers, _ := object["offers"].([]any)
	id := func(offer any) string {
		object, _ := offer.(map[string]any)
		return fmt.Sprint(object["offer_id"])
	}
	slices.SortFunc(offers, func(a, b any) int { return strings.Compare(id(a), id(b)) })
}

// same compares values: ids, times, ports and prices by their form, the rest exactly.
func (c *contract) same(path string, want, got any) {
	c.t.Helper()
	if reflect.TypeOf(want) != reflect.TypeOf(got) {
		c.t.Errorf("%s: %v, want %v", path, got, want)
		return
	}
	switch want := want.(type) {
	case map[string]any:
		got, _ := got.(map[string]any) // of the same type, as was seen above
		for name := range got {
			if _, ok := want[name]; !ok {
				c.t.Errorf("%s.%s: not in the recording", path, name)
			}
		}
		for name, value := range want {
			if _, ok := got[name]; !ok {
				c.t.Errorf("%s.%s: missing", path, name)
				continue
			}
			c.same(path+"."+name, value, got[name])
		}
	case []any:
		got, _ := got.([]any)
		if len(got) != len(want) {
			c.t.Errorf("%s: %d of them, want %d", path, len(got), len(want))
			return
		}
		for i := range want {
			c.same(fmt.Sprintf("%s[%d]", path, i), want[i], got[i])
		}
	case float64:
		port := strings.HasSuffix(path, ".ssh_port")
		if got, _ := got.(float64); !port && got != want || port && (got < 1 || got > 65535) {
			c.t.Errorf("%s: %v, want %v", path, got, want)
		}
	case string:
		got, _ := got.(string)
		c.sameText(path, want, got)
	default:
		if want != got {
			c.t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
}

var providerID = regexp.MustCompile(`\(provider: \d+\)`)

func (c *contract) sameText(path, want, got string) {
	c.t.Helper()
	if strings.HasSuffix(path, ".ssh_private_key") {
		block, rest := pem.Decode([]byte(got))
		if block == nil || len(rest) > 0 {
			c.t.Errorf("%s: not a PEM block", path)
		} else if _, err := x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			c.t.Errorf("%s: %v", path, err)
		}
		return
	}
	if _, err := time.Parse(time.RFC3339Nano, want); err == nil {
		if date, err := time.Parse(time.RFC3339Nano, got); err != nil || date.Location() != time.UTC {
			c.t.Errorf("%s: %q is not a date in UTC", path, got)
		}
		return
	}
	// The first time an id is seen it is learned; from then on it has to be that one.
	if uuidPattern.FindString(want) == want && c.ids[want] == "" && uuidPattern.FindString(got) == got {
		for recorded, ours := range c.ids {
			if ours == got {
				c.t.Errorf("%s: %s is the sandbox's id for %s already", path, got, recorded)
			}
		}
		c.ids[want] = got
		return
	}
	want = c.translate(want)
	if providerID.ReplaceAllString(want, "(provider)") != providerID.ReplaceAllString(got, "(provider)") {
		c.t.Errorf("%s: %q, want %q", path, got, want)
	}
}

package sandbox

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

func TestTheLedgerOverHTTP(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	if r := c.get("/sandbox/ledger"); r.size("billing") != 0 || r.size("rentals") != 0 {
		t.Errorf("empty: %s", r.text) // lists, not null
	}
	kept, ended := c.run("terraform/a/1", "vastai-100"), c.run("other", "vastai-101")
	c.s.Advance(90 * time.Minute)
	c.until(ended, statusStopped) // expired, as kept is
	c.until(kept, statusStopped)
	again := c.run("terraform/a/2", "vastai-100")
	r := c.get("/sandbox/ledger")
	for _, name := range []string{
		"session_id", "consumer_id", "offer_id", "price_per_hour", "rented_at", "released_at", "status", "cost", "cloud", "gpu_type", "released_by",
	} {
		if value := r.at("rentals", 0, name); value == nil || value == "" {
			t.Errorf("a rental without %s: %s", name, r.text)
		}
	}
	if r.size("billing") != 1 || r.at("billing", 0, "session_id") != again || r.at("billing", 0, "released_at") != nil {
		t.Errorf("billing: %s", r.text)
	}
	if cost, _ := r.at("rentals", 0, "cost").(float64); cost < 0.6 || cost > 0.65 {
		t.Errorf("an hour and a half at 0.4 cost %v", cost)
	}
	if r := c.get("/sandbox/ledger?consumer=terraform"); r.size("rentals") != 2 {
		t.Errorf("one consumer's: %s", r.text)
	}
	text := c.get("/sandbox/ledger?format=text")
	if !strings.HasPrefix(text.header.Get("Content-Type"), "text/plain") || !strings.HasPrefix(text.text, "1 billing now, $0.40 per hour; 3 rented in all") {
		t.Errorf("text: %s", text.text)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, c.s.URL()+"/sandbox/ledger", http.NoBody)
	req.Header.Set("Accept", "text/plain")
	if r := read(http.DefaultClient.Do(req)); r.text != text.text {
		t.Errorf("by Accept: %s", r.text)
	}
}

func TestTheLedgerOutlivesTheSandbox(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	id := c.run("c", "vastai-100")
	if err := c.s.Close(); err != nil {
		t.Fatal(err)
	}
	if c.f.running() != 0 {
		t.Error("a machine survived")
	}
	c.wantBilling(id) // nobody released it
	if r := <-c.send(t.Context(), http.MethodGet, "/health", nil); r.err == nil {
		t.Error("a closed sandbox answers")
	}
}

func TestControlOverHTTP(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{Seed: 12})
	put := func(path, body string) reading { return <-c.send(t.Context(), http.MethodPut, path, body) }
	post := func(path string, body any) reading { return <-c.send(t.Context(), http.MethodPost, path, body) }

	r := put("/sandbox/faults", `[{"route":"GET /health","nth":1,"fault":"status","value":{"status":429,"retry_after":"nonsense"}}]`)
	if r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.text)
	}
	if r := c.get("/health"); r.status != http.StatusTooManyRequests {
		t.Errorf("%d", r.status)
	}
	var counts []RuleCount
	if err := json.Unmarshal([]byte(c.get("/sandbox/faults").text), &counts); err != nil || len(counts) != 1 || counts[0].Struck != 1 || counts[0].Matched != 1 {
		t.Errorf("%v %v", counts, err)
	}
	if r := put("/sandbox/faults", `[{"rout":"GET /health","fault":"status"}]`); r.status != http.StatusBadRequest {
		t.Errorf("a misspelt rule: %d %s", r.status, r.text)
	}
	if r := put("/sandbox/faults", `[{"route":"GET /health","fault":"stats"}]`); r.status != http.StatusBadRequest || len(c.s.Faults()) != 1 {
		t.Errorf("an unknown fault: %d %s", r.status, r.text)
	}
	if r := put("/sandbox/faults/random", `{"count":5}`); r.status != http.StatusOK || len(c.s.Faults()) != 5 {
		t.Errorf("random: %d %s", r.status, r.text)
	}
	if r := put("/sandbox/faults", `[]`); strings.TrimSpace(r.text) != "[]" {
		t.Errorf("none: %s", r.text)
	}

	before := c.s.clock.Now()
	if r := post("/sandbox/clock", map[string]any{"advance": "2h"}); r.status != http.StatusOK || r.body["seed"] != 12.0 {
		t.Errorf("%d %s", r.status, r.text)
	}
	if moved := c.s.clock.Now().Sub(before); moved < 2*time.Hour || moved > 2*time.Hour+time.Minute {
		t.Errorf("moved by %v", moved)
	}
	if r := post("/sandbox/ready", map[string]any{"not_ready_for": 60}); r.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", r.status, r.text)
	}
	if r := post("/sandbox/offers/vastai-100", map[string]any{"gone": true}); r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.text)
	}
	if r := post("/sandbox/offers/nope", map[string]any{"price_per_hour": 1}); r.status != http.StatusNotFound {
		t.Errorf("%d %s", r.status, r.text)
	}
	if r := c.get("/api/v1/inventory/vastai-100"); r.status != http.StatusNotFound {
		t.Errorf("%d %s", r.status, r.text)
	}

	id := c.run("c", "vastai-101")
	if r := post("/sandbox/machines/"+id+"/strike", map[string]any{"fault": "change_host_key"}); r.status != http.StatusOK || c.f.last().keys != 1 {
		t.Errorf("%d %s", r.status, r.text)
	}
	if r := post("/sandbox/machines/"+id+"/strike", map[string]any{"fault": "fail_start", "value": "out_of_memory"}); r.status != http.StatusOK || c.f.last().facts.VLLM.Fail == "" {
		t.Errorf("%d %s", r.status, r.text)
	}
	if r := post("/sandbox/machines/"+id+"/strike", map[string]any{"fault": "boots_late"}); r.status != http.StatusBadRequest {
		t.Errorf("%d %s", r.status, r.text)
	}
	if r := post("/sandbox/machines/nope/strike", map[string]any{"fault": "vanish"}); r.status != http.StatusNotFound {
		t.Errorf("%d %s", r.status, r.text)
	}
	if r := c.get("/sandbox/machines/" + id + "/commands"); r.status != http.StatusOK || r.size("commands") != 1 {
		t.Errorf("%d %s", r.status, r.text)
	}
	if r := c.get("/sandbox/"); !strings.Contains(r.text, "/sandbox/ledger") {
		t.Errorf("help: %s", r.text)
	}
	if r := c.get("/sandbox/nope"); r.status != http.StatusNotFound {
		t.Errorf("%d", r.status)
	}
}

func TestTheBuiltinMarket(t *testing.T) {
	t.Parallel()
	offers, err := completeOffers(BuiltinOffers(), AsSeen)
	if err != nil {
		t.Fatal(err)
	}
	for _, cloud := range facts.Clouds() {
		if err := facts.Decode(cloud.Offers, new([]Offer)); err != nil {
			t.Errorf("%s: %v", cloud.Name, err)
		}
	}
	if n := len(BuiltinTemplates()); n != 3 {
		t.Errorf("%d templates", n)
	}
	clouds := map[string]int{}
	spot, lies, truncated := 0, 0, 0
	for _, o := range offers {
		clouds[o.Provider]++
		f := o.facts(60, createRequest{})
		if _, known := facts.FindGPU(o.GPUType); !known || len(f.GPUs) == 0 {
			t.Errorf("%s: unknown GPU type %q", o.ID, o.GPUType)
		}
		if o.Interruptible {
			spot++
		}
		if len(f.GPUs) != o.GPUCount {
			lies++
		}
		if o.VRAMGB*1024 < f.GPUs[0].MemoryMiB {
			truncated++
		}
		switch o.Provider {
		case VastAI:
			if f.Docker || !f.Container || f.User != "root" || o.CUDAVersion == 0 || o.Reliability == 0 {
				t.Errorf("%s: %+v", o.ID, f)
			}
		case TensorDock:
			if len(f.GPUs) != 1 || f.User != "user" || o.CUDAVersion != 0 {
				t.Errorf("%s: %+v", o.ID, f)
			}
		case BlueLobster:
			if o.Reliability != 0 || o.CUDAVersion != 0 || f.User != "ubuntu" || o.Machine.DriverBuild < Duration(7*time.Minute) {
				t.Errorf("%s: %+v", o.ID, f)
			}
		}
	}
	if len(offers) != 40 || len(clouds) != 3 || spot < 2 || lies < 5 || truncated < 5 {
		t.Errorf("%d offers, %v, %d interruptible, %d with fewer GPUs, %d truncated", len(offers), clouds, spot, lies, truncated)
	}
}

func TestAMovingMarketFollowsTheSeed(t *testing.T) {
	t.Parallel()
	listing := func(seed int64, minutes int) string {
		clock := newClock(0)
		clock.Advance(time.Duration(minutes) * time.Minute)
		data, err := json.Marshal(newMarket(clock, BuiltinOffers(), seed, true).List(""))
		if err != nil {
			t.Error(err)
		}
		return string(data)
	}
	if first, second := listing(1, 5), listing(1, 5); first != second {
		t.Error("the same seed at the same minute lists differently")
	}
	if listing(1, 5) == listing(1, 6) || listing(1, 5) == listing(2, 5) {
		t.Error("it doesn't move")
	}
}

func TestOffersFile(t *testing.T) {
	t.Parallel()
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "offers.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const good = `[{"id":"tensordock-x","gpu_type":"RTX 5090","price_per_hour":0.5,"gpu_count":4,"machine":{"driver_build":"2m","no_docker":true}}]`
	for _, text := range []string{good, `{"offers":` + good + `}`} {
		s, _ := startFake(t, Options{OffersFile: write(text)})
		o := s.market.List(TensorDock)[0]
		if o.VRAMGB != 31 || o.Machine.GPUCount != 1 || o.ProviderID != "x" || o.Machine.DriverBuild != Duration(2*time.Minute) || o.facts(1, createRequest{}).Docker {
			t.Errorf("%+v", o)
		}
	}
	for _, bad := range []string{
		`{`, `[{"id":"a b","gpu_type":"L4","price_per_hour":1}]`, `[{"id":"nosuch-1","gpu_type":"L4","price_per_hour":1}]`,
		`[{"id":"vastai-1","gpu_type":"L4"}]`, `[{"id":"vastai-1","price_per_hour":1}]`,
		`[{"id":"vastai-1","gpu_type":"L4","price_per_hour":1},{"id":"vastai-1","gpu_type":"L4","price_per_hour":1}]`,
		`[{"id":"vastai-1","gpu_type":"L4","price_per_hour":1,"gpu_count":-1}]`,
		`[{"id":"vastai-1","gpu_type":"L4","price_per_hour":1,"machine":{"boot":"soon"}}]`,
	} {
		if s, err := Start(Options{OffersFile: write(bad)}); err == nil {
			t.Errorf("accepted: %s", bad)
			_ = s.Close()
		}
	}
	if _, err := Start(Options{OffersFile: "/nonexistent"}); err == nil {
		t.Error("a file that isn't there was accepted")
	}
}

func TestDeadSandboxesAreSwept(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dirs := []string{"shopper-sandbox-2147483646-dead", "shopper-sandbox-1-alive", "shopper-sandbox-x-other", "somebody-elses"}
	for _, dir := range dirs {
		if err := os.MkdirAll(filepath.Join(parent, dir, "m1"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	held, err := os.OpenFile(filepath.Join(parent, "shopper-sandbox-2147483645-namespace"), os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_ = held.Close()
	sweepWorkDirs(parent)
	entries, err := os.ReadDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	left := []string{}
	for _, entry := range entries {
		left = append(left, entry.Name())
	}
	want := []string{"shopper-sandbox-1-alive", "shopper-sandbox-2147483645-namespace", "shopper-sandbox-x-other", "somebody-elses"}
	if !slices.Equal(left, want) {
		t.Errorf("left %v, want %v", left, want)
	}
}

func TestFaultsFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "faults.json")
	for text, good := range map[string]bool{
		`[{"route":"machine boot","nth":1,"fault":"never_boots"}]`: true,
		`[{"route":"machine boot","nht":1,"fault":"never_boots"}]`: false,
		`{}`: false,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if rules, err := LoadFaults(path); (err == nil) != good || good && len(rules) != 1 {
			t.Errorf("%s: %v, %v", text, rules, err)
		}
	}
	if _, err := LoadFaults(path + ".none"); err == nil {
		t.Error("a file that isn't there was accepted")
	}
}

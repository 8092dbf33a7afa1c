package provider_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	ours "github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

func TestProviderNamesItself(t *testing.T) {
	t.Parallel()
	var resp provider.MetadataResponse
	ours.New("1.2.3").Metadata(t.Context(), provider.MetadataRequest{}, &resp)
	if resp.TypeName != "shopper" || resp.Version != "1.2.3" {
		t.Errorf("got %+v", resp)
	}
	if ours.Address != "cloud-gpu-shopper/shopper" {
		t.Errorf("address %q", ours.Address)
	}
}

// The schema is valid, and every attribute of every object has a description.
func TestSchemaIsDescribed(t *testing.T) {
	t.Parallel()
	c := newCore(t) // fails for a schema with diagnostics
	var look func(where string, attributes []*tfprotov6.SchemaAttribute)
	look = func(where string, attributes []*tfprotov6.SchemaAttribute) {
		for _, a := range attributes {
			if a.Description == "" && !strings.HasPrefix(where, "timeouts") && a.Name != "timeouts" && !strings.HasSuffix(where, ".timeouts") {
				t.Errorf("%s.%s has no description", where, a.Name)
			}
			if a.NestedType != nil {
				look(where+"."+a.Name, a.NestedType.Attributes)
			}
		}
	}
	look("provider", c.schema.Provider.Block.Attributes)
	kinds := map[string]map[string]*tfprotov6.Schema{
		"resource": c.schema.ResourceSchemas, "data source": c.schema.DataSourceSchemas,
		"ephemeral resource": c.schema.EphemeralResourceSchemas, "list": c.schema.ListResourceSchemas, "action": {},
	}
	for name, action := range c.schema.ActionSchemas {
		kinds["action"][name] = action.Schema
	}
	for kind, schemas := range kinds {
		if len(schemas) == 0 {
			t.Errorf("there is no %s", kind)
		}
		for name, schema := range schemas {
			look(name, schema.Block.Attributes)
			if schema.Block.Description == "" || len(schema.Block.BlockTypes) > 0 {
				t.Errorf("%s %s has no description, or has blocks", kind, name)
			}
		}
	}
}

// fakeShopper answers with an empty inventory and keeps the requests.
type fakeShopper struct {
	*httptest.Server
	mu      sync.Mutex
	headers []http.Header
}

func newFakeShopper(t *testing.T) *fakeShopper {
	t.Helper()
	f := &fakeShopper{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.headers = append(f.headers, r.Header.Clone())
		f.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"offers": []any{}, "count": 0})
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeShopper) last(t *testing.T) http.Header {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.headers) == 0 {
		t.Fatal("no request was sent")
	}
	return f.headers[len(f.headers)-1]
}

func (f *fakeShopper) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.headers)
}

func TestConfigureMakesNoRequest(t *testing.T) {
	t.Parallel()
	f := newFakeShopper(t)
	c := newCore(t)
	expect(t, c.configure(values{
		"url": f.URL, "token": "planted-token", "headers": values{"X-Team": "planted-header"}, "journal_directory": "",
	}))
	p := c.plan(sessionType, object{}, goodSession)
	expect(t, p.Diagnostics)
	if n := f.asked(); n > 0 {
		t.Fatalf("configuring and planning asked %d times", n)
	}
	_, diags := c.readData(offersType, values{})
	expect(t, diags)
	h := f.last(t)
	if h.Get("Authorization") != "Bearer planted-token" || h.Get("X-Team") != "planted-header" ||
		!strings.HasPrefix(h.Get("User-Agent"), "terraform-provider-shopper/test") {
		t.Errorf("asked with %v", h)
	}
}

// The environment sets what the configuration omits.
func TestEnvironment(t *testing.T) {
	f, other := newFakeShopper(t), newFakeShopper(t)
	t.Setenv("SHOPPER_URL", f.URL)
	t.Setenv("SHOPPER_TOKEN", "from-the-environment")
	c := newCore(t)
	expect(t, c.configure(values{}))
	_, diags := c.readData(offersType, values{})
	expect(t, diags)
	if got := f.last(t).Get("Authorization"); got != "Bearer from-the-environment" {
		t.Errorf("Authorization %q", got)
	}
	c = newCore(t)
	expect(t, c.configure(values{"url": other.URL, "token": "from-the-configuration"}))
	_, diags = c.readData(offersType, values{})
	expect(t, diags)
	if got := other.last(t).Get("Authorization"); got != "Bearer from-the-configuration" {
		t.Errorf("Authorization %q", got)
	}

	t.Setenv("SHOPPER_CONSUMER_ID", "no/slash")
	expect(t, newCore(t).configure(values{}), "ERROR: Invalid SHOPPER_CONSUMER_ID", "letters, digits")
	expect(t, newCore(t).configure(values{"consumer_id": "mine"}))
	t.Setenv("SHOPPER_CONSUMER_ID", "")
	t.Setenv("SHOPPER_URL", "shopper:8080")
	expect(t, newCore(t).configure(values{}), "ERROR: Invalid SHOPPER_URL", "http")
	expect(t, newCore(t).configure(values{"url": f.URL}))
	t.Setenv("SHOPPER_URL", f.URL)
	t.Setenv("SHOPPER_TOKEN", "planted\n")
	diags = newCore(t).configure(values{})
	expect(t, diags, "ERROR: Invalid SHOPPER_TOKEN", "white space")
	if strings.Contains(list(diags), "planted") {
		t.Errorf("the token is shown: %s", list(diags))
	}
	t.Setenv("SHOPPER_TOKEN", "")
	t.Setenv("SHOPPER_URL", "")
	t.Setenv("SHOPPER_SSH_PRIVATE_KEY", "planted, and no key")
	diags = newCore(t).configure(values{})
	expect(t, diags, "ERROR: Invalid SHOPPER_SSH_PRIVATE_KEY")
	if strings.Contains(list(diags), "planted") {
		t.Errorf("the key is shown: %s", list(diags))
	}
	private, _, _ := keys(t)
	expect(t, newCore(t).configure(values{"ssh": values{"private_key": private}}))
}

// The consumer, and credentials for machines without a known key, come from the environment too.
func TestEnvironmentOfARental(t *testing.T) {
	w := newWorld(t)
	private, _, public := keys(t)
	t.Setenv("SHOPPER_CONSUMER_ID", "team-a")
	t.Setenv("SHOPPER_SSH_PRIVATE_KEY", private)
	c := w.configured(t, nil)
	made := c.create(sessionType, values{"name": "test", "offer_id": a5000})
	if got := w.Ledger().Of("team-a"); len(got.Billing) != 1 {
		t.Errorf("rented as %v", w.Ledger())
	}
	m, err := w.machine()
	if err != nil {
		t.Fatal(err)
	}
	login := values{"host": m.Host(), "port": m.Port(), "user": m.User()}
	health := values{"base_url": "http://127.0.0.1:8000/v1", "ssh": login, "skip": []any{"health", "model", "completion"}}
	read, diags := c.readData(healthType, health)
	expect(t, diags)
	var healthy bool
	if err := get(t, read, "healthy").As(&healthy); err != nil || healthy {
		t.Errorf("a key that the machine doesn't know logs in (%v)", err)
	}
	authorize(t, filepath.Join(m.Root().Home(), ".ssh", "authorized_keys"), public)
	read, diags = c.readData(healthType, health)
	expect(t, diags)
	if err := get(t, read, "healthy").As(&healthy); err != nil || !healthy {
		t.Errorf("the environment's key doesn't log in (%v): %s", err, get(t, read, "checks"))
	}
	_, diags = c.destroy(sessionType, made)
	expect(t, diags)
}

func authorize(t *testing.T, file, key string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(key); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// No error is swallowed; the message says what failed and what to check.
func TestShopperCannotBeReached(t *testing.T) {
	t.Parallel()
	const nowhere = "http://127.0.0.1:1"
	c := newCore(t)
	expect(t, c.configure(values{"url": nowhere, "max_retries": 0, "journal_directory": t.TempDir()}))
	_, diags := c.readData(offersType, values{})
	expect(t, diags, "ERROR: Shopper can't be reached", nowhere, "connection refused", "Check")
	made, diags := c.apply(sessionType, c.plan(sessionType, object{}, goodSession))
	expect(t, diags, "ERROR: Shopper can't be reached", nowhere)
	if !made.state.IsNull() {
		t.Error("something is in state")
	}
	kept, diags := c.read(sessionType, object{state: filled(t, c.resource(sessionType), goodSession)})
	expect(t, diags, "WARNING: Shopper can't be reached", nowhere)
	if kept.state.IsNull() {
		t.Error("a session left state without proof")
	}
	_, diags = c.importID(sessionType, "0ca44cf5-0a1f-494e-85e4-3b94f3ee0f1f")
	expect(t, diags, "ERROR: Shopper can't be reached", nowhere)
}

// An apply waits for a service that is starting up, within its own timeout.
func TestShopperIsNotReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	w.SetNotReady(24 * time.Hour)
	begun := time.Now()
	made, diags := c.apply(sessionType, c.plan(sessionType, object{}, with(goodSession, values{"timeouts": values{"create": "2s"}})))
	expect(t, diags, "ERROR: Shopper is not ready", w.URL(), "not ready after")
	if took := time.Since(begun); took < time.Second || took > 20*time.Second {
		t.Errorf("it waited %s with a limit of two seconds", took)
	}
	if !made.state.IsNull() || len(w.Ledger().Rentals) > 0 {
		t.Error("something was rented")
	}
	w.SetNotReady(time.Minute) // a second of this test's
	made = c.create(sessionType, goodSession)
	_, diags = c.destroy(sessionType, made)
	expect(t, diags)
}

// The create timeout bounds everything, and what was rented by then is released.
func TestSessionTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	if err := w.SetFaults(sandbox.Rule{Route: sandbox.EventBoot, Fault: sandbox.NeverBoots}); err != nil {
		t.Fatal(err)
	}
	made, diags := c.apply(sessionType, c.plan(sessionType, object{}, values{
		"name": "test", "offer_id": a5000, "timeouts": values{"create": "10s"},
	}))
	expect(t, diags, "ERROR: Machine could not be used", "it was not running in time", "It has been released")
	if !made.state.IsNull() {
		t.Error("it is in state")
	}
}

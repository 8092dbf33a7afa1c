package provider_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// A deployment, queried in every way and reached through tunnels, and restarted.
func TestReachingADeployment(t *testing.T) { //nolint:tparallel // one deployment, which a restart would take from under the others
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	session := c.create(sessionType, values{"name": "test", "requirements": blueLobster})
	ssh := values{}
	for name, v := range members(t, get(t, session.state, "ssh")) {
		ssh[name] = v
	}
	made := c.create(deploymentType, values{
		"session_id": text(t, session.state, "id"), "ssh": ssh, "model": qwen, "container": values{"image": image},
	})
	server, key := get(t, made.state, "server"), text(t, made.state, "api_key")

	t.Run("tunnels", func(t *testing.T) { w.tunnels(t, c, ssh, key) })
	t.Run("health", func(t *testing.T) { w.healthFacts(t, c, ssh, server, key) })
	t.Run("endpoint", func(t *testing.T) { endpointTells(t, c, ssh, key) })
	t.Run("restart", func(t *testing.T) {
		arguments := values{"ssh": ssh, "server": server, "api_key": key, "model": qwen}
		progress, diags := c.invoke(restartType, arguments)
		expect(t, diags)
		if said := strings.Join(progress, "; "); !strings.Contains(said, "restarting the server") || !strings.HasSuffix(said, "The model has answered") {
			t.Errorf("said: %s", said)
		}
		if said := fmt.Sprint(progress); strings.Contains(said, key) {
			t.Error("the key is in the progress")
		}
		arguments["api_key"] = "sk-wrong"
		_, diags = c.invoke(restartType, arguments)
		if !failed(diags) || strings.Contains(list(diags), "sk-wrong") {
			t.Errorf("with a wrong key: %s", list(diags))
		}
		arguments["ssh"] = values{"host": "127.0.0.1", "port": 1, "user": "x", "private_key": ssh["private_key"]}
		_, diags = c.invoke(restartType, arguments)
		expect(t, diags, "Machine can't be reached")
	})
	if _, diags := c.destroy(deploymentType, made); failed(diags) {
		t.Error(list(diags))
	}
	if _, diags := c.destroy(sessionType, session); failed(diags) {
		t.Error(list(diags))
	}
}

// endpointTells checks the results for a server that is ready, and for one whose model doesn't complete.
func endpointTells(t *testing.T, c *core, ssh values, key string) {
	t.Helper()
	endpoint, diags := c.readData(endpointType, values{"ssh": ssh, "api_key": key}) // base_url is left out
	expect(t, diags)
	if !truth(t, endpoint, "ready") || !get(t, endpoint, "problem").IsNull() || text(t, endpoint, "message") != "The model answered." {
		t.Errorf("it is not ready: %s", endpoint)
	}
	for name, want := range map[string]string{"base_url": "http://127.0.0.1:8000/v1", "model": qwen, "vllm_version": "0.33.0"} {
		if got := text(t, endpoint, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if length, latency := number(t, endpoint, "context_length"), number(t, endpoint, "latency_seconds"); length != 32768 || latency <= 0 || latency > 60 {
		t.Errorf("a context of %v tokens, the first one after %v s", length, latency)
	}
	served := elements(t, endpoint, "models")
	if len(served) != 1 || text(t, served[0], "id") != qwen || text(t, served[0], "root") != qwen || number(t, served[0], "context_length") != 32768 {
		t.Errorf("served: %v", served)
	}
	// As an embedding model it has no answer, and what it serves is reported all the same.
	endpoint, diags = c.readData(endpointType, values{"ssh": ssh, "api_key": key, "completion": false})
	expect(t, diags)
	if truth(t, endpoint, "ready") || text(t, endpoint, "problem") != "unhealthy" || text(t, endpoint, "message") == "" ||
		!get(t, endpoint, "latency_seconds").IsNull() || text(t, endpoint, "model") != qwen {
		t.Errorf("as an embedding model: %s", endpoint)
	}
}

func (w *world) tunnels(t *testing.T, c *core, ssh values, key string) {
	t.Helper()
	var privates [][]byte
	var addresses []string
	for range 3 {
		tunnel, private, diags := c.open(tunnelType, values{"ssh": ssh})
		expect(t, diags)
		privates, addresses = append(privates, private), append(addresses, text(t, tunnel, "address"))
		if text(t, tunnel, "url") != "http://"+text(t, tunnel, "address") || text(t, tunnel, "host") != "127.0.0.1" {
			t.Errorf("tunnel is %s", tunnel)
		}
	}
	ask := func() {
		t.Helper()
		var asking sync.WaitGroup
		for _, address := range addresses {
			asking.Go(func() {
				if got, err := modelsThrough(t, "http://"+address, key); err != nil || !strings.Contains(got, qwen) {
					t.Errorf("%s: %v", got, err)
				}
			})
		}
		asking.Wait()
	}
	ask()
	m, err := w.machine()
	if err != nil {
		t.Fatal(err)
	}
	m.DropConnections() // they come back by themselves
	ask()
	for _, private := range privates {
		expect(t, c.close(tunnelType, private))
		expect(t, c.close(tunnelType, private)) // again: nothing to do
	}
	for _, address := range addresses {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			t.Errorf("%s is still open", address)
		}
	}
	// A machine that can't be logged in to is no error, which would stand in the way of a destroy.
	for _, to := range []values{
		{"host": "127.0.0.1", "port": 1, "user": "x", "private_key": ssh["private_key"]}, // nowhere
		{"host": "127.0.0.1", "user": "x"},                                               // without a key
	} {
		tunnel, private, diags := c.open(tunnelType, values{"ssh": to, "timeouts": values{"open": "1s"}})
		expect(t, diags, "WARNING: ", "disconnects its clients at once")
		if got, err := modelsThrough(t, text(t, tunnel, "url"), key); err == nil {
			t.Errorf("%v leads to %s", to, got)
		}
		expect(t, c.close(tunnelType, private))
	}
}

// A tunnel without a configured host key keeps to the one that it has seen.
func TestTunnelKeepsToItsMachine(t *testing.T) {
	t.Parallel()
	c := newCore(t)
	expect(t, c.configure(values{"journal_directory": ""}))
	for name, told := range map[string]bool{"told": true, "seen": false} {
		logins, machines := fleet(t, 1)
		if !told {
			delete(logins[0], "host_key")
		}
		tunnel, private, diags := c.open(tunnelType, values{"ssh": logins[0]})
		expect(t, diags, "WARNING: Nothing answers at 127.0.0.1:8000", "nothing listens at the address", "until a server listens")
		if err := machines[0].ChangeHostKey(); err != nil {
			t.Fatal(err)
		}
		machines[0].DropConnections()
		testkit.Eventually(t, name+": the tunnel to be given up", func() bool {
			conn, err := net.Dial("tcp", text(t, tunnel, "address"))
			if err == nil {
				_ = conn.Close()
			}
			return err != nil
		})
		expect(t, c.close(tunnelType, private))
	}
}

func (w *world) healthFacts(t *testing.T, c *core, ssh values, server tftypes.Value, key string) {
	t.Helper()
	check := func(arguments values) map[string]tftypes.Value {
		t.Helper()
		got, diags := c.readData(healthType, arguments)
		expect(t, diags)
		return checksOf(t, got)
	}
	all := check(values{"ssh": ssh, "server": server, "api_key": key}) // base_url is left out
	for name, figure := range map[string]string{
		"runtime": "state", "health": "requests_waiting", "model": "context_length", "completion": "latency_seconds",
	} {
		if text(t, all[name], "status") != "passed" || get(t, all[name], figure).IsNull() {
			t.Errorf("%s: %s", name, all[name])
		}
	}
	gpu := elements(t, all["gpus"], "devices")[0]
	if number(t, gpu, "temperature_c") == 0 || get(t, gpu, "memory_used_mib").IsNull() || get(t, all["health"], "kv_cache_usage").IsNull() {
		t.Errorf("figures are missing: %s %s", all["gpus"], all["health"])
	}
	for _, figure := range []string{"requests_succeeded", "prompt_tokens", "generation_tokens", "first_token_seconds"} {
		if number(t, all["health"], figure) <= 0 {
			t.Errorf("%s: %s", figure, all["health"])
		}
	}
	// Each check can be skipped, and then nothing is requested.
	for _, name := range []string{"gpus", "runtime", "health", "model", "completion"} {
		if left := check(values{"ssh": ssh, "server": server, "api_key": key, "skip": []any{name}}); text(t, left[name], "status") != "skipped" {
			t.Errorf("%s is not left out", name)
		}
	}
	nothing := check(values{
		"ssh":  values{"host": "127.0.0.1", "port": 1, "user": "x", "private_key": ssh["private_key"]},
		"skip": []any{"gpus", "runtime", "health", "model", "completion"},
	})
	if text(t, nothing["health"], "status") != "skipped" {
		t.Error("it was asked")
	}
	// A login that fails is reported by the first check; the others refer to it.
	lost := values{"host": "127.0.0.1", "port": 1, "user": "x", "private_key": ssh["private_key"]}
	for first, skip := range map[string][]any{"gpus": {}, "health": {"gpus", "runtime"}} {
		got, diags := c.readData(healthType, values{"ssh": lost, "server": server, "skip": skip})
		expect(t, diags)
		found := checksOf(t, got)
		for _, name := range []string{"gpus", "runtime", "health", "model", "completion"} {
			status, message := text(t, found[name], "status"), text(t, found[name], "message")
			if status == "failed" && (name == first) == (message == "Login to the machine failed: see "+first+".") {
				t.Errorf("the login fails, which %s is the first to report: %s: %s", first, name, message)
			}
		}
	}
	problems := func(arguments values, want string, names ...string) {
		t.Helper()
		found := check(arguments)
		for _, name := range names {
			if got := text(t, found[name], "problem"); got != want || text(t, found[name], "message") == "" {
				t.Errorf("%s: problem is %q, want %q: %s", name, got, want, text(t, found[name], "message"))
			}
		}
	}
	problems(values{"ssh": ssh, "api_key": "sk-wrong"}, "credentials", "model", "completion")
	problems(values{"ssh": ssh, "api_key": key, "base_url": "http://127.0.0.1:1/v1"}, "unreachable", "health", "model", "completion")
	problems(values{"base_url": "http://127.0.0.1:1/v1"}, "unreachable", "health")

	// What nvidia-smi doesn't report is null.
	m, err := w.machine()
	if err != nil {
		t.Fatal(err)
	}
	rental, err := w.rented()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Strike(rental.SessionID, sandbox.NotAvailable, nil); err != nil {
		t.Fatal(err)
	}
	all = check(values{"ssh": ssh, "api_key": key})
	if told := !get(t, elements(t, all["gpus"], "devices")[0], "temperature_c").IsNull(); told || text(t, all["gpus"], "status") != "passed" {
		t.Errorf("gpus: %s", all["gpus"])
	}

	// A machine that accepts connections and sends nothing, within the data source's own timeout.
	m.Unresponsive(true)
	defer m.Unresponsive(false)
	begun := time.Now()
	problems(values{"ssh": ssh, "server": server, "timeouts": values{"read": "2s"}}, "timeout", "gpus", "runtime", "health", "model", "completion")
	endpoint, diags := c.readData(endpointType, values{"ssh": ssh, "timeouts": values{"read": "2s"}})
	expect(t, diags)
	if truth(t, endpoint, "ready") || text(t, endpoint, "problem") != "timeout" {
		t.Errorf("endpoint: %s", endpoint)
	}
	if took := time.Since(begun); took > 40*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestArgumentsThatCanNotWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	for _, name := range []string{healthType, endpointType} {
		expect(t, c.validateData(name, values{}), "base_url")
		expect(t, c.validateData(name, values{"base_url": "ftp://x"}), "must begin with http")
		expect(t, c.validateData(name, values{"base_url": unknown}))
		expect(t, c.validateData(name, values{"ssh": unknown}))
		_, strange := testkit.SSHKey(t)
		// What may be caused by state or the shopper is no error, which would stand in the way of a destroy.
		for ssh, problem := range map[*values]string{
			{"host": "h", "user": "u"}:                           "credentials", // a key that is not known after an import
			{"host": "h/x", "user": "u", "private_key": strange}: "unhealthy",
		} {
			read, diags := c.readData(name, values{"ssh": *ssh})
			expect(t, diags)
			if name == healthType {
				read = gpuCheck(t, read)
			}
			if got := text(t, read, "problem"); got != problem || text(t, read, "message") == "" {
				t.Errorf("%s: problem %q, want %q: %s", name, got, problem, read)
			}
		}
	}
	expect(t, c.validateData(healthType, values{"base_url": "http://h", "skip": []any{"nothing"}}), "value must be one of")
	expect(t, c.validateData(healthType, values{"base_url": "http://h", "server": values{"runtime": "lxc", "id": "x"}}), `"container" "process"`)
}

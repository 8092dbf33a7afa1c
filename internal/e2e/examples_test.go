package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// example is a stack whose directory is one of the examples, with all others
// around it, in a world with the sandbox's own market, of machines as they are.
func example(t *testing.T, folder ...string) (*world, *stack) {
	t.Helper()
	return exampleOn(t, "", folder...)
}

// exampleOn is example with another kind of machines.
func exampleOn(t *testing.T, machines string, folder ...string) (*world, *stack) {
	t.Helper()
	w := newWorld(t, "-offers", "", "-machines", machines, "-speed", "60")
	s := w.example(t, "s", folder...)
	return w, s
}

// example is a stack of this name whose directory is one of the examples, with all
// others around it.
func (w *world) example(t *testing.T, name string, folder ...string) *stack {
	t.Helper()
	s := w.newStack(t, name)
	if err := os.CopyFS(filepath.Join(s.dir, "examples"), os.DirFS(filepath.Join("..", "..", "examples"))); err != nil {
		t.Fatal(err)
	}
	cliConfig := s.cliConfig()
	s.dir = filepath.Join(append([]string{s.dir, "examples"}, folder...)...)
	s.data = filepath.Join(s.dir, ".terraform")
	s.env = append(s.env, "SHOPPER_URL="+w.url)
	text, err := os.ReadFile(cliConfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.cliConfig(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// The reusable module's own tests.
func TestE2EExampleModule(t *testing.T) {
	t.Parallel()
	w, s := example(t, "modules", "vllm-service")
	says(t, s.must(t, 0, "test", "-no-color"), "5 passed, 0 failed")
	// The second replica is another machine, and the first one stays.
	if rented := len(w.ledger(t).Rentals); rented != 2 {
		t.Errorf("%d machines were rented, want 2:\n%s", rented, w.ledger(t))
	}
}

// applied applies an example, sees that nothing is left to do, looks, and destroys.
func (s *stack) applied(t *testing.T, look func(said string)) {
	t.Helper()
	s.must(t, 0, "get", "-no-color")
	said := s.apply(t)
	s.unchanged(t)
	look(said)
	s.destroy(t)
}

func TestE2EExampleOneMachine(t *testing.T) {
	t.Parallel()
	w, s := example(t, "one-machine")
	s.applied(t, func(said string) {
		says(t, said, `healthy = { "qwen-1" = true }`)
		if n := len(w.ledger(t).Billing); n != 1 {
			t.Errorf("%d machines bill, want 1", n)
		}
	})
}

func TestE2EExampleFleet(t *testing.T) {
	t.Parallel()
	_, s := example(t, "fleet-behind-gateway")
	s.applied(t, func(string) {
		config := s.must(t, 0, "output", "-raw", "-no-color", "gateway_config")
		says(t, config, "127.0.0.1:18001/v1", "127.0.0.1:18002/v1", `"model_name": "qwen"`, `"api_key": "sk-`)
		says(t, s.must(t, 0, "output", "-json", "tunnels"), "-L 127.0.0.1:18001:127.0.0.1:8000 ", "-L 127.0.0.1:18002:127.0.0.1:8000 ")
		// A tenth replica, whose name comes before the second one's, moves no port.
		says(t, s.must(t, 2, append(planArgs[:len(planArgs):len(planArgs)], "-var=replicas=10")...),
			"local_port = 18010", "16 to add, 0 to change, 0 to destroy")
		says(t, s.apply(t, "-var=replicas=1"), "2 destroyed")
	})
}

// What Prometheus is configured with leads to the public server's figures, with the authority that is in it and without a key.
func TestE2EExamplePrometheus(t *testing.T) {
	t.Parallel()
	_, s := example(t, "prometheus")
	port := fmt.Sprint(testkit.FreePort(t))
	s.env = append(s.env, "TF_VAR_port="+port)
	s.applied(t, func(said string) {
		says(t, said, "ssh -N -L 127.0.0.1:8000:127.0.0.1:8000")
		output := s.start(t, "output", "-raw", "-no-color", "prometheus_yml")
		output.wait(t)
		config := strings.ReplaceAll(output.out.String(), "\n      ", "\n") // the certificate is indented
		says(t, config, `- "127.0.0.1:8000"`, `"scheme": "https"`, `- "127.0.0.1:`+port+`"`)
		authority := x509.NewCertPool()
		if !authority.AppendCertsFromPEM([]byte(config)) {
			t.Fatalf("no authority in\n%s", config)
		}
		client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority, MinVersion: tls.VersionTLS12}}}
		defer client.CloseIdleConnections()
		answer, err := client.Get("https://127.0.0.1:" + port + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		if figures, err := vllm.ParseMetrics(answer.Body); err != nil || figures.RequestsSucceeded == nil || *figures.RequestsSucceeded < 1 {
			t.Errorf("%s: %+v, %v", answer.Status, figures, err)
		}
	})
}

// Another provider's data source reads /v1/models through the tunnel.
func TestE2EExampleTunnel(t *testing.T) {
	t.Parallel()
	_, s := example(t, "ssh-tunnel")
	s.env = append(s.env, fmt.Sprint("TF_VAR_port=", testkit.FreePort(t)))
	s.applied(t, func(said string) {
		says(t, said, `models = [ "Qwen/Qwen2.5-7B-Instruct", ]`)
	})
}

func TestE2EExampleOwnMachine(t *testing.T) {
	t.Parallel()
	w, s := exampleOn(t, "friendly", "own-machine") // has Docker
	machine := w.byScript(t, "bluelobster", func(o sandbox.Offer) bool { return o.VRAMGB >= 24 })
	s.env = append(s.env, "SHOPPER_URL=http://127.0.0.1:1", "SHOPPER_SSH_PRIVATE_KEY="+machine.Key,
		`TF_VAR_machine={ host = "`+machine.Host+`", port = `+strconv.Itoa(machine.Port)+`, user = "`+machine.User+`" }`)
	s.applied(t, func(said string) { says(t, said, "gpus = ") })
	w.ask(t, http.MethodDelete, "/api/v1/sessions/"+machine.ID, nil, nil)
}

func TestE2EExampleNoSecrets(t *testing.T) {
	t.Parallel()
	_, s := example(t, "no-secrets-in-state")
	own := s.newPair(t, "own")
	const key = "sk-notToBeFoundAnywhere"
	s.env = append(s.env, "SHOPPER_SSH_PRIVATE_KEY="+own.private, "TF_VAR_public_key="+own.public, "TF_VAR_api_key="+key)
	s.applied(t, func(said string) {
		state, err := os.ReadFile(s.stateFile())
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(s.dir, "secrets.plan")
		if code, told := s.run(t, "plan", "-input=false", "-no-color", "-out="+file, "-var=api_key_version=2"); code != 0 {
			t.Fatal(told)
		}
		for where, text := range map[string]string{"state": string(state), "what was said": said, "a plan": planText(t, file)} {
			for _, secret := range []string{key, "PRIVATE KEY"} {
				if strings.Contains(text, secret) {
					t.Errorf("%s holds %s", where, secret)
				}
			}
		}
	})
}

// rented is a machine that a script has rented, which keeps its key.
type rented struct {
	ID   string `json:"id"`
	Host string `json:"ssh_host"`
	Port int    `json:"ssh_port"`
	User string `json:"ssh_user"`
	Key  string `json:"-"`
}

// byScript rents a machine as a script does: the first offer of a cloud that fits.
func (w *world) byScript(t *testing.T, cloud string, fits func(sandbox.Offer) bool) rented {
	t.Helper()
	var inventory struct {
		Offers []sandbox.Offer `json:"offers"`
	}
	w.ask(t, http.MethodGet, "/api/v1/inventory?provider="+cloud, nil, &inventory)
	offer := slices.IndexFunc(inventory.Offers, fits)
	if offer < 0 {
		t.Fatalf("no offer fits: %v", inventory.Offers)
	}
	var answer struct {
		Session rented `json:"session"`
		Key     string `json:"ssh_private_key"`
	}
	w.ask(t, http.MethodPost, "/api/v1/sessions", map[string]any{
		"consumer_id": "my-script", "offer_id": inventory.Offers[offer].ID, "workload_type": "llm_vllm", "reservation_hours": 1,
	}, &answer)
	machine := answer.Session
	eventually(t, func() error {
		if status := w.status(t, machine.ID); status != "running" {
			return fmt.Errorf("it is %s", status)
		}
		return nil
	})
	w.ask(t, http.MethodGet, "/api/v1/sessions/"+machine.ID, nil, &machine)
	machine.Key = answer.Key
	return machine
}

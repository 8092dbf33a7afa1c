package provider_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// An update in place and a destroy let a client's request end, over TLS too, and wait no longer.
func TestDeploymentLetsRequestsEnd(t *testing.T) {
	t.Parallel()
	w, c, session := staged(t)
	wanted := onSession(t, session, values{"port": testkit.FreePort(t), "exposure": "public", "tls": values{}, "drain_timeout": "40s"})
	server := c.create(deploymentType, wanted)
	m := w.theMachine(t)
	hang := func(on bool) {
		t.Helper()
		if err := m.SetFacts(func(f *machinefs.Facts) { f.VLLM.Hang = on }); err != nil {
			t.Fatal(err)
		}
	}
	stop := map[string]func() (object, []*tfprotov6.Diagnostic){
		"update": func() (object, []*tfprotov6.Diagnostic) {
			return c.apply(deploymentType, c.plan(deploymentType, server, with(wanted, values{"args": []any{"--seed", "1"}})))
		},
		"destroy": func() (object, []*tfprotov6.Diagnostic) { return c.destroy(deploymentType, server) },
	}
	for _, how := range []string{"update", "destroy"} {
		hang(true)
		answered := make(chan error, 1)
		state := server.state
		go func() { answered <- asked(t, state) }()
		var log []byte
		var container struct{ ID string }
		engine(t, m, "GET", fmt.Sprintf("/containers/vllm-%.0f/json", number(t, state, "port")), nil, &container)
		logged := func(words string) func() bool {
			return func() bool {
				engine(t, m, "GET", "/containers/"+container.ID+"/logs?stdout=1&stderr=1", nil, &log)
				return bytes.Contains(log, []byte(words))
			}
		}
		testkit.Eventually(t, "a running request", func() bool {
			metrics, err := clientOf(t, state).Metrics(t.Context())
			return err == nil && *metrics.RequestsRunning == 1
		})
		type result struct {
			after object
			diags []*tfprotov6.Diagnostic
		}
		done := make(chan result, 1)
		go func() {
			after, diags := stop[how]()
			done <- result{after, diags}
		}()
		testkit.Eventually(t, "the server to drain", logged("draining in-flight requests count=1 timeout=40s"))
		hang(false)
		if err := <-answered; err != nil {
			t.Errorf("%s: the request did not end well: %v", how, err)
		}
		got := <-done
		expect(t, got.diags)
		server = got.after
	}
}

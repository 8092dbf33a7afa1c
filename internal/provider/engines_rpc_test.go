package provider_test

import (
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// A deployment on a rented machine whose engine is Podman, or a Docker that passes GPUs by CDI only: created, found
// unchanged, changed, and removed.
func TestDeploymentOnOtherEngines(t *testing.T) {
	t.Parallel()
	engines := map[string]struct {
		change func(*machinefs.Facts)
		policy string
	}{
		"Podman":          {func(f *machinefs.Facts) { f.Podman = "5.4.2" }, "always"},
		"Docker with CDI": {func(f *machinefs.Facts) { f.CDIOnly = true }, "unless-stopped"},
	}
	for name, test := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, c, session := staged(t)
			m := w.theMachine(t)
			if err := m.SetFacts(test.change); err != nil {
				t.Fatal(err)
			}
			wanted := onSession(t, session, nil)
			server := c.create(deploymentType, wanted)
			var found struct {
				HostConfig struct {
					RestartPolicy  struct{ Name string }
					DeviceRequests []struct{ Driver string }
				}
			}
			engine(t, m, "GET", "/containers/vllm-8000/json", nil, &found)
			host := found.HostConfig
			if host.RestartPolicy.Name != test.policy || len(host.DeviceRequests) != 1 || host.DeviceRequests[0].Driver != "cdi" {
				t.Errorf("made as %+v", host)
			}
			if seen, diags := c.read(deploymentType, server); len(diags) > 0 || !seen.state.Equal(server.state) {
				t.Errorf("a refresh changes something: %s", list(diags))
			}
			server = c.change(deploymentType, server, with(wanted, values{"max_model_len": 2048}))
			if got := number(t, server.state, "served_max_model_len"); got != 2048 {
				t.Errorf("serves %v tokens", got)
			}
			gone, diags := c.destroy(deploymentType, server)
			expect(t, diags)
			if claims, err := w.servers(); err != nil || len(claims) > 0 || !gone.state.IsNull() {
				t.Errorf("servers %v, %v", claims, err)
			}
		})
	}
}

// A machine without a container engine gets one if that is configured, and configuring it changes nothing about a running
// server.
func TestDeploymentInstallsAnEngine(t *testing.T) {
	t.Parallel()
	w, c, session := staged(t)
	m := w.theMachine(t)
	if err := m.SetFacts(func(f *machinefs.Facts) { f.Docker = false }); err != nil {
		t.Fatal(err)
	}
	wanted := onSession(t, session, nil)
	_, diags := c.apply(deploymentType, c.plan(deploymentType, object{}, wanted))
	expect(t, diags, "no Docker and no Podman", "container.install_engine = true", `runtime = "process"`)

	installs := inserted(wanted, "container", values{"install_engine": true})
	server := c.create(deploymentType, installs)
	if got := text(t, server.state, "server.runtime"); got != "container" {
		t.Errorf("runs as a %s", got)
	}
	for _, config := range []values{wanted, inserted(wanted, "container", values{"install_engine": false})} {
		if p := c.plan(deploymentType, server, config); len(p.Diagnostics) > 0 || !get(t, p.value, "id").IsKnown() {
			t.Errorf("another server is planned: %s", list(p.Diagnostics))
		}
	}
	_, diags = c.destroy(deploymentType, server)
	expect(t, diags)
}

// With auto, a deployment uses what works on the machine, and state says which that was.
func TestDeploymentAuto(t *testing.T) {
	t.Parallel()
	w, c, session := staged(t)
	m := w.theMachine(t)
	if err := m.SetFacts(func(f *machinefs.Facts) { f.VLLM.Installed = "0.33.0" }); err != nil {
		t.Fatal(err)
	}
	wanted := onSession(t, session, values{"runtime": "auto", "process": values{}})
	for _, test := range []struct {
		runtime string
		change  func(*machinefs.Facts)
	}{
		{"container", func(*machinefs.Facts) {}},
		{"process", func(f *machinefs.Facts) { f.Docker = false }},
		{"process", func(f *machinefs.Facts) { f.Docker, f.NoGPURuntime = true, true }},
		{"process", func(f *machinefs.Facts) { f.NoGPURuntime, f.NoBridge = false, true }},
	} {
		if err := m.SetFacts(test.change); err != nil {
			t.Fatal(err)
		}
		server := c.create(deploymentType, wanted)
		if got := text(t, server.state, "server.runtime"); got != test.runtime {
			t.Errorf("runs as a %s, want a %s", got, test.runtime)
		}
		_, diags := c.destroy(deploymentType, server)
		expect(t, diags)
	}
}

package provider_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// adapter makes a folder with a LoRA adapter.
func adapter(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "adapter_config.json"), []byte(`{"r": 8}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return folder
}

// serves checks which adapters a server serves, and that state says the same.
func (c *core) serves(ssh values, state tftypes.Value, want values) {
	t := c.t
	t.Helper()
	endpoint, diags := c.readData(endpointType, values{"ssh": ssh, "api_key": text(t, state, "api_key")})
	expect(t, diags)
	served, told := values{}, values{}
	for _, model := range elements(t, endpoint, "models") {
		if id := text(t, model, "id"); id != qwen {
			served[id] = text(t, model, "root")
		}
	}
	for name := range members(t, get(t, state, "lora_adapters")) {
		told[name] = text(t, state, "lora_adapters."+name)
	}
	if !maps.Equal(served, want) || !maps.Equal(told, want) {
		t.Errorf("it serves %v, and state says %v; want %v", served, told, want)
	}
}

// LoRA adapters are loaded and unloaded without a restart if the server allows that, and state lists those that it serves:
// after a change, after one that failed, and after a restart, which has those of the start.
func TestAdaptersAreChangedInPlace(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]struct {
		offer string
		how   values
	}{
		"container": {docked, values{"container": values{"image": image}}},
		"process":   {vast, values{"container": nil, "process": values{}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.configured(t, nil)
			session := c.create(sessionType, values{"name": "test", "offer_id": run.offer})
			t.Cleanup(func() { w.releaseAll(t, c, session) })
			one, two := adapter(t), adapter(t)
			arguments := func(adapters values) values {
				return onSession(t, session, with(run.how, values{
					"lora_adapters": adapters, "env": values{"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}, "on_failure": "keep",
				}))
			}
			server := c.create(deploymentType, arguments(values{"a": one}))
			c.serves(login(t, session), server.state, values{"a": one})
			id := text(t, server.state, "id")
			change := func(adapters values) {
				t.Helper()
				p := c.plan(deploymentType, server, arguments(adapters))
				if id := get(t, p.value, "id"); !id.IsKnown() {
					t.Errorf("%v: the plan restarts the server", adapters)
				}
				changed, diags := c.apply(deploymentType, p)
				expect(t, diags)
				server = changed
				c.serves(login(t, session), server.state, adapters)
				read, diags := c.read(deploymentType, server)
				expect(t, diags)
				if !read.state.Equal(server.state) {
					t.Errorf("%v: a refresh finds a difference", adapters)
				}
			}
			change(values{"a": one, "b": one})
			change(values{"b": two})
			change(values{})
			change(values{"b": two})
			if text(t, server.state, "id") != id {
				t.Error("the server is another one")
			}

			failed, diags := c.apply(deploymentType, c.plan(deploymentType, server, arguments(values{"b": two, "c": "/nowhere", "d": one})))
			expect(t, diags, "ERROR: LoRA adapters were not changed", "No adapter found for /nowhere", "now serves the adapters b, d")
			c.serves(login(t, session), failed.state, values{"b": two, "d": one})
			server = failed
			change(values{"b": two})

			_, diags = c.invoke(restartType, values{
				"ssh": login(t, session), "server": get(t, server.state, "server"), "api_key": text(t, server.state, "api_key"), "model": qwen,
			})
			expect(t, diags)
			server, diags = c.read(deploymentType, server)
			expect(t, diags)
			c.serves(login(t, session), server.state, values{"a": one}) // those of its command line
			change(values{"b": two})

			// So has the old server once it has replaced a failed one.
			broken := with(arguments(values{"b": "/nowhere"}), values{"max_model_len": 4096, "on_failure": "rollback"})
			server, diags = c.apply(deploymentType, c.plan(deploymentType, server, broken))
			expect(t, diags, "ERROR: ", "/nowhere")
			c.serves(login(t, session), server.state, values{"a": one})
		})
	}
}

// Everything else requires a restart.
func TestAdaptersThatTakeARestart(t *testing.T) {
	t.Parallel()
	_, c, session := staged(t)
	one := adapter(t)
	open := values{"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
	for _, test := range []struct {
		name        string
		was, change values
	}{
		{"not allowed", values{"lora_adapters": values{}}, values{"lora_adapters": values{"a": one}}},
		{"allowed from now on", values{"lora_adapters": values{}}, values{"lora_adapters": values{"a": one}, "env": open}},
		{"LoRA was off", values{"env": open}, values{"lora_adapters": values{"a": one}, "env": open}},
		{
			"something else besides",
			values{"lora_adapters": values{}, "env": open},
			values{"lora_adapters": values{"a": one}, "env": open, "max_model_len": 4096},
		},
		{"not known", values{"lora_adapters": values{}, "env": open}, values{"lora_adapters": values{"a": unknown}, "env": open}},
	} {
		server := c.create(deploymentType, onSession(t, session, test.was))
		p := c.plan(deploymentType, server, onSession(t, session, test.change))
		if get(t, p.value, "id").IsKnown() {
			t.Errorf("%s: the plan keeps the server", test.name)
		}
		_, diags := c.destroy(deploymentType, server)
		expect(t, diags)
	}
}

// A server whose adapters were changed while it ran, and that state has lost: an import reports which of its start's
// adapters it still serves, and a deployment that adopts it loads the missing ones.
func TestAdaptersOfAServerThatIsTakenOver(t *testing.T) {
	t.Parallel()
	w, c, session := staged(t)
	loggedIn := w.configured(t, values{"ssh": values{"private_key": text(t, session.state, "ssh.private_key")}})
	one := adapter(t)
	arguments := func(adapters values) values {
		return onSession(t, session, values{
			"lora_adapters": adapters, "env": values{"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}, "api_key": "sk-taken-over-0123456789",
		})
	}
	server := c.create(deploymentType, arguments(values{"a": one}))
	id := text(t, server.state, "id")
	server = c.change(deploymentType, server, arguments(values{"b": one}))
	c.serves(login(t, session), server.state, values{"b": one})

	imported, diags := loggedIn.importID(deploymentType, text(t, session.state, "id")+"/vllm-8000")
	expect(t, diags)
	if adapters := members(t, get(t, imported.state, "lora_adapters")); len(adapters) > 0 {
		t.Errorf("the import says that it serves %v", adapters)
	}
	imported = loggedIn.change(deploymentType, imported, arguments(values{"b": one}))
	c.serves(login(t, session), imported.state, values{"b": one})

	lost := one + ".lost"
	if err := os.Rename(one, lost); err != nil {
		t.Fatal(err)
	}
	failed, diags := c.apply(deploymentType, c.plan(deploymentType, object{}, arguments(values{"a": one})))
	expect(t, diags, "ERROR: LoRA adapters were not changed", "The server keeps running", "terraform untaint")
	if failed.state.IsNull() {
		t.Error("a server whose adapter can't be loaded isn't in state")
	}
	if err := os.Rename(lost, one); err != nil {
		t.Fatal(err)
	}
	adopted := c.create(deploymentType, arguments(values{"a": one}))
	if got := text(t, adopted.state, "id"); got != id || text(t, imported.state, "id") != id {
		t.Errorf("the server was started again: %s, %s, %s", id, text(t, imported.state, "id"), got)
	}
	endpoint, diags := c.readData(endpointType, values{"ssh": login(t, session), "api_key": text(t, adopted.state, "api_key")})
	expect(t, diags)
	if served := get(t, endpoint, "models").String(); !strings.Contains(served, `"id":tftypes.String<"a">`) {
		t.Errorf("it serves %s", served)
	}
	read, diags := c.read(deploymentType, adopted)
	expect(t, diags)
	if !read.state.Equal(adopted.state) {
		t.Error("a refresh finds a difference")
	}
	_, diags = c.destroy(deploymentType, read)
	expect(t, diags)
}

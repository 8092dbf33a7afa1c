package provider_test

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// A deployment is imported with what its machine stores. The plan after that changes nothing but a secret that the machine
// doesn't return, and restarts nothing for a secret that the server has.
func TestDeploymentImport(t *testing.T) { //nolint:tparallel // the rows share a machine
	t.Parallel()
	w, c, session := staged(t)
	loggedIn := w.configured(t, values{"ssh": values{"private_key": get(t, get(t, session.state, "ssh"), "private_key")}})
	place := values{"ssh": login(t, session, "private_key", "host_key")}
	const key, token = "sk-import-0123456789abcdef", "hf_plantedTokenAbcdefgh1234567890"
	for _, test := range []struct {
		name      string
		arguments values
		differs   []string // what the plan after the import adds to state
	}{
		{"a key that the provider made", values{}, nil},
		{"everything", values{
			"model": qwen, "served_model_name": "chat", "max_model_len": 8192, "gpu_memory_utilization": 0.75, "args": []any{"--seed", "1"},
			"env": values{"NOTE": "mine"}, "tool_call_parser": "hermes", "enable_prefix_caching": false, "trust_remote_code": true,
			"drain_timeout": "2s", "on_failure": "keep", "preflight": values{"ignore": []any{"disk"}}, "tls": values{}, "port": 8007,
			"container": values{"image": image, "shm_size": "1g"}, "timeouts": values{"create": "30m"},
		}, nil},
		{"keys in state", values{"api_key": key, "hf_token": token}, []string{"api_key", "hf_token"}},
		{"write-only keys", values{"api_key_wo": key, "api_key_wo_version": 3, "hf_token_wo": token, "hf_token_wo_version": 1}, nil},
		{"a process", values{"process": values{}, "container": nil}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			made := c.create(deploymentType, onSession(t, session, test.arguments))
			defer func() {
				_, diags := c.destroy(deploymentType, made)
				expect(t, diags)
			}()
			name := text(t, get(t, made.state, "server"), "name")
			imported, diags := loggedIn.importIdentity(deploymentType, values{
				"session_id": get(t, session.state, "id"), "name": name, "directory": directoryOf(test.arguments),
			})
			expect(t, diags)
			for _, attribute := range []string{
				"id", "server", "base_url", "ca_certificate", "gpus", "host_key", "image_digest", "started_at", "vllm_version",
				"served_max_model_len",
			} {
				if was, is := get(t, made.state, attribute), get(t, imported.state, attribute); !was.Equal(is) {
					t.Errorf("%s is %s after the import, and was %s", attribute, is, was)
				}
			}
			p := loggedIn.plan(deploymentType, imported, onSession(t, session, with(test.arguments, place)))
			expect(t, p.Diagnostics)
			var differs []string
			for attribute, value := range members(t, p.value) {
				if !value.Equal(get(t, imported.state, attribute)) {
					differs = append(differs, attribute)
				}
			}
			if slices.Sort(differs); !slices.Equal(differs, test.differs) {
				t.Errorf("the plan changes %q, want %q:\n%s", differs, test.differs, imported.state)
			}
			if len(test.differs) == 0 {
				return
			}
			kept := loggedIn.change(deploymentType, imported, onSession(t, session, with(test.arguments, place)))
			if !get(t, kept.state, "id").Equal(get(t, made.state, "id")) {
				t.Error("the server was started again")
			}
			other := with(test.arguments, with(place, values{"api_key": "sk-another-0123456789abcdef"}))
			if p := loggedIn.plan(deploymentType, imported, onSession(t, session, other)); get(t, p.value, "id").IsKnown() {
				t.Error("another key doesn't restart the server")
			}
		})
	}
}

func directoryOf(arguments values) any {
	process, _ := arguments["process"].(values)
	return process["directory"]
}

// What an import can't take over is an error that says what is wrong.
func TestDeploymentImportRefused(t *testing.T) {
	t.Parallel()
	w, c, session := staged(t)
	id := text(t, session.state, "id")
	loggedIn := w.configured(t, values{"ssh": values{"private_key": get(t, get(t, session.state, "ssh"), "private_key")}})
	m := w.theMachine(t)
	engine(t, m, "POST", "/images/create?fromImage=vllm/vllm-openai&tag=v0.33.0", nil, nil)
	engine(t, m, "POST", "/containers/create?name=theirs", values{"Image": "vllm/vllm-openai:v0.33.0"}, nil)
	ssh := get(t, session.state, "ssh")
	var port big.Float
	if err := get(t, ssh, "port").As(&port); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, id string
		from     *core
		want     string
	}{
		{"no name", id, loggedIn, "SESSION_ID/NAME"},
		{"no such port", "root@127.0.0.1:70000/vllm-8000", loggedIn, "no port"},
		{"no such session", "0ca44cf5-0a1f-494e-85e4-3b94f3ee0f1f/vllm-8000", loggedIn, "Could not read session"},
		{"no such server", id + "/vllm-8000", loggedIn, "no container or process"},
		{"somebody else's container", id + "/theirs", loggedIn, "no container or process"},
		{"no key", fmt.Sprintf("root@%s:%s/vllm-8000", text(t, ssh, "host"), port.String()), c, "Could not log in"},
	} {
		_, diags := test.from.importID(deploymentType, test.id)
		if !failed(diags) || !strings.Contains(list(diags), test.want) {
			t.Errorf("%s: %s", test.name, list(diags))
		}
	}
}

package provider_test

import (
	"encoding/pem"
	"maps"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"golang.org/x/crypto/ssh"
)

// with is a copy of arguments with others added; nil removes one.
func with(arguments, others values) values {
	all := maps.Clone(arguments)
	maps.Copy(all, others)
	return all
}

// keys are a private key in OpenSSH's form, the same one with a passphrase, and its public key.
func keys(t *testing.T) (private, encrypted, public string) {
	t.Helper()
	private, public = sshKey(t)
	key, err := ssh.ParseRawPrivateKey([]byte(private))
	if err != nil {
		t.Fatal(err)
	}
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	return private, string(pem.EncodeToMemory(locked)), public
}

var (
	goodSession    = values{"name": "test", "requirements": values{"gpu_count": 1}}
	goodDeployment = values{
		"ssh": values{"host": "192.0.2.1", "user": "ubuntu"}, "model": qwen, "container": values{"image": image},
	}
)

// inserted is a copy of arguments with something added to a nested one.
func inserted(arguments values, name string, others values) values {
	nested, _ := arguments[name].(values)
	return with(arguments, values{name: with(nested, others)})
}

// What is wrong without asking anybody is refused before anything is planned, and the message says what would be right.
func TestInputRefusedWhenValidated(t *testing.T) {
	t.Parallel()
	_, encrypted, _ := keys(t)
	needs := func(name string, value any) values { return inserted(goodSession, "requirements", values{name: value}) }
	server := func(name string, value any) values { return with(goodDeployment, values{name: value}) }
	box := func(name string, value any) values { return inserted(goodDeployment, "container", values{name: value}) }
	login := func(name string, value any) values { return inserted(goodDeployment, "ssh", values{name: value}) }
	tests := []struct {
		name, typ string
		arguments values
		want      []string
	}{
		{"hours", sessionType, with(goodSession, values{"reservation_hours": 745}), []string{"reservation_hours", "between 1 and 744", "745"}},
		{"no hours", sessionType, with(goodSession, values{"reservation_hours": 0}), []string{"between 1 and 744"}},
		{"offer and requirements", sessionType, with(goodSession, values{"offer_id": a5000}), []string{"Both offer_id and requirements"}},
		{"neither", sessionType, with(goodSession, values{"requirements": nil}), []string{"Neither offer_id nor requirements"}},
		{"slash in name", sessionType, with(goodSession, values{"name": "a/b"}), []string{"name", "letters, digits"}},
		{"empty name", sessionType, with(goodSession, values{"name": ""}), []string{"name", "letters, digits"}},
		{"name and prefix", sessionType, with(goodSession, values{"name_prefix": "a-"}), []string{"Both name and name_prefix"}},
		{"no name", sessionType, with(goodSession, values{"name": nil}), []string{"Neither name nor name_prefix"}},
		{"slash in prefix", sessionType, with(goodSession, values{"name": nil, "name_prefix": "a/"}), []string{"name_prefix", "1 to 51 letters"}},
		{
			"machines in use", sessionType, with(goodSession, values{"name": nil, "name_prefix": "a-", "on_conflict": "replace"}),
			[]string{"on_conflict", "none is released"},
		},
		{"offer with a path", sessionType, values{"name": "x", "offer_id": "../sessions"}, []string{"offer_id"}},
		{"empty offer", sessionType, values{"name": "x", "offer_id": ""}, []string{"offer_id"}},
		{"workload", sessionType, with(goodSession, values{"workload_type": "games"}), []string{"workload_type", "llm_vllm"}},
		{"conflict", sessionType, with(goodSession, values{"on_conflict": "ignore"}), []string{"on_conflict", `"error" "replace"`}},
		{"attempts", sessionType, with(goodSession, values{"max_attempts": 0}), []string{"between 1 and 20"}},
		{"patience", sessionType, with(goodSession, values{"ssh_timeout": "90s"}), []string{"whole number of 1m"}},
		{"disk", sessionType, with(goodSession, values{"disk_gb": -5}), []string{"between 1 and 16384"}},
		{"empty command", sessionType, with(goodSession, values{"on_start_cmd": ""}), []string{"must not be empty"}},
		{"timeout", sessionType, with(goodSession, values{"timeouts": values{"create": "soon"}}), []string{"timeouts", "soon"}},
		{"no time", sessionType, with(goodSession, values{"timeouts": values{"delete": "0s"}}), []string{"timeouts.delete", "less than a second"}},
		{"less than no time", sessionType, with(goodSession, values{"timeouts": values{"create": "-45m"}}), []string{"timeouts.create", "-45m"}},
		{"no key", sessionType, with(goodSession, values{"retain_private_key": false}), []string{"Missing authorized_keys"}},
		{"no GPUs", sessionType, needs("gpu_count", 0), []string{"between 1 and 64"}},
		{"memory", sessionType, needs("min_vram_gb", 4096), []string{"between 1 and 1024"}},
		{"free", sessionType, needs("max_price_per_hour", 0), []string{"at least 0.0001"}},
		{"reliability", sessionType, needs("min_reliability", 99.5), []string{"between 0.000000 and 1.000000"}},
		{"cloud", sessionType, needs("clouds", []any{"aws", unknown}), []string{`"vastai" "tensordock" "bluelobster"`, "aws"}},
		{"cloud of offers", offersType, values{"clouds": []any{"aws"}}, []string{`"vastai" "tensordock" "bluelobster"`}},
		{"cloud of sessions", sessionsType, values{"clouds": []any{"aws"}}, []string{`"vastai" "tensordock" "bluelobster"`}},
		{"status of sessions", sessionsType, values{"statuses": []any{"ended"}}, []string{`"running"`, `"ended"`}},
		{"no types", sessionType, needs("gpu_types", []any{}), []string{"at least 1"}},
		{"an empty type", sessionType, needs("gpu_types", []any{""}), []string{"must not be empty"}},

		{"image without tag", deploymentType, box("image", "vllm/vllm-openai"), []string{"container.image", "tag"}},
		{"latest", deploymentType, box("image", "vllm/vllm-openai:latest"), []string{"container.image", "latest"}},
		{"empty image", deploymentType, box("image", ""), []string{"container.image"}},
		{"image with a space", deploymentType, box("image", "vllm: v1"), []string{"container.image"}},
		{"container name", deploymentType, box("name", "-rf"), []string{"container.name", "beginning with a letter or digit"}},
		{"pull policy", deploymentType, box("pull_policy", "sometimes"), []string{`"missing" "always" "never"`}},
		{"shared memory", deploymentType, box("shm_size", "16"), []string{"16g"}},
		{"shared memory's unit", deploymentType, box("shm_size", "16 parsecs"), []string{"16g"}},
		{"model", deploymentType, server("model", ""), []string{"model: is empty"}},
		{"model's page", deploymentType, server("model", "https://huggingface.co/"+qwen), []string{"model: is a web address", qwen}},
		{"words in one", deploymentType, server("args", []any{"--enforce-eager --max-loras 4"}), []string{`"--enforce-eager", "--max-loras", "4"`}},
		{"cache", deploymentType, box("cache", "../x"), []string{`container: cache "../x"`}},
		{"process", deploymentType, server("process", values{"version": "latest"}), []string{"process.version must be a release"}},
		{"key in args", deploymentType, server("args", []any{"--api-key", "sk-planted"}), []string{"args", "api_key"}},
		{"key in args with =", deploymentType, server("args", []any{"--api-key=sk-planted"}), []string{"args", "api_key"}},
		{"port in args", deploymentType, server("args", []any{"--port", "80"}), []string{"args", "port"}},
		{"key in env", deploymentType, server("env", values{"VLLM_API_KEY": "sk-planted"}), []string{"env", "api_key"}},
		{"token in env", deploymentType, server("env", values{"HF_TOKEN": "hf_planted"}), []string{"env", "hf_token"}},
		{"length", deploymentType, server("max_model_len", 0), []string{"max_model_len", "at least 1"}},
		{"memory share", deploymentType, server("gpu_memory_utilization", 1.5), []string{"between 0.050000 and 1.000000"}},
		{"dtype", deploymentType, server("dtype", "int3"), []string{"dtype", `"bfloat16"`}},
		{"port", deploymentType, server("port", 70000), []string{"between 1 and 65535"}},
		{"runtime", deploymentType, server("runtime", "lxc"), []string{"runtime", `"container"`}},
		{"empty revision", deploymentType, server("revision", ""), []string{"must not be empty"}},
		{"no registry credential", deploymentType, box("registry_auth", values{"username": "u"}), []string{"container.registry_auth", "password_wo"}},
		{
			"two registry credentials", deploymentType, box("registry_auth", values{"username": "u", "password": "p", "identity_token_wo": "t"}),
			[]string{"container.registry_auth", "password"},
		},
		{"password of nobody", deploymentType, box("registry_auth", values{"password_wo": "p"}), []string{"registry_auth.username"}},
		{"two keys", deploymentType, with(goodDeployment, values{"api_key": "a", "api_key_wo": "b", "api_key_wo_version": 1}), []string{"api_key"}},
		{"no version", deploymentType, server("api_key_wo", "b"), []string{"api_key_wo_version"}},
		{"no PEM", deploymentType, login("private_key", "my key"), []string{"ssh.private_key"}},
		{"passphrase", deploymentType, login("private_key", encrypted), []string{"ssh.private_key", "passphrase"}},
		{"empty key", deploymentType, login("private_key", ""), []string{"ssh.private_key"}},
		{"host key", deploymentType, login("host_key", "SHA256:abc"), []string{"ssh.host_key"}},
		{"empty host", deploymentType, login("host", ""), []string{"ssh.host", "must not be empty"}},
		{"host is a URL", deploymentType, login("host", "ssh://192.0.2.1"), []string{"ssh.host", "a URL"}},
		{"host with user", deploymentType, login("host", "me@192.0.2.1"), []string{"ssh.host", "set the user in user"}},
		{"host with port", deploymentType, login("host", "192.0.2.1:22"), []string{"ssh.host", "set the port in port"}},
		{"host with a space", deploymentType, login("host", "my machine"), []string{"ssh.host", "neither a name nor an address"}},
		{"jump host", deploymentType, login("bastion", values{"host": "me@192.0.2.1", "user": "me"}), []string{"ssh.bastion.host"}},
		{"empty user", deploymentType, login("user", ""), []string{"ssh.user", "must not be empty"}},
		{"ssh port", deploymentType, login("port", 0), []string{"between 1 and 65535"}},

		{"offers' order", offersType, values{"sort_by": "beauty"}, []string{"sort_by", `"price"`}},
		{"offers' number", offersType, values{"limit": 0}, []string{"at least 1"}},
		{"endpoint", endpointType, values{"base_url": "127.0.0.1:8000"}, []string{"base_url", "http"}},
		{"health's checks", healthType, values{"base_url": "http://127.0.0.1:8000", "skip": []any{"all"}}, []string{"skip", `"gpus"`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCore(t)
			check := c.validate
			if _, ok := c.schema.ResourceSchemas[test.typ]; !ok {
				check = c.validateData
			}
			diags := check(test.typ, test.arguments)
			if !failed(diags) {
				t.Errorf("it is let through: %s", list(diags))
			}
			said := list(diags)
			for _, want := range test.want {
				if !strings.Contains(said, want) {
					t.Errorf("want %q in\n%s", want, said)
				}
			}
			if strings.Contains(said, "planted") {
				t.Errorf("a secret is shown:\n%s", said)
			}
			for _, d := range diags {
				summary(t, d)
			}
		})
	}
}

// summary checks a diagnostic's form: a summary of a few words, and a detail.
func summary(t *testing.T, d *tfprotov6.Diagnostic) {
	t.Helper()
	if d.Summary == "" || strings.ToUpper(d.Summary[:1]) != d.Summary[:1] || strings.HasSuffix(d.Summary, ".") || d.Detail == "" {
		t.Errorf("summary %q, detail %q", d.Summary, d.Detail)
	}
}

func TestInputIsLetThrough(t *testing.T) {
	t.Parallel()
	private, _, public := keys(t)
	tests := []struct {
		name, typ string
		arguments values
	}{
		{"session", sessionType, goodSession},
		{"offer", sessionType, values{"name": "x", "offer_id": a5000}},
		{"prefix", sessionType, values{"name_prefix": "x-", "offer_id": a5000}},
		{"name or prefix unknown", sessionType, values{"name_prefix": unknown, "offer_id": a5000, "on_conflict": unknown}},
		{"offer or requirements unknown", sessionType, values{"name": "x", "offer_id": unknown}},
		{"requirements unknown", sessionType, values{"name": unknown, "requirements": unknown, "reservation_hours": unknown}},
		{"requirement unknown", sessionType, values{"name": "x", "requirements": values{
			"gpu_types": unknown, "clouds": []any{unknown, "vastai"}, "max_price_per_hour": unknown, "gpu_count": unknown,
		}}},
		{"deployment", deploymentType, goodDeployment},
		{"address", deploymentType, inserted(goodDeployment, "ssh", values{"host": "fe80::1%eth0"})},
		{"address in brackets", deploymentType, inserted(goodDeployment, "ssh", values{"host": "[2001:db8::1]"})},
		{"name", deploymentType, inserted(goodDeployment, "ssh", values{"host": "ssh5.vast.ai"})},
		{"JSON in args", deploymentType, with(goodDeployment, values{
			"args": []any{`--speculative-config={"method": "ngram", "n": 3}`, "--override-generation-config", `{"top_k": 1}`},
		})},
		{"times", sessionType, with(goodSession, values{"timeouts": values{"create": "1h30m", "delete": unknown}})},
		{"login", deploymentType, inserted(goodDeployment, "ssh", values{"port": 2222, "private_key": private, "host_key": public})},
		{"digest", deploymentType, inserted(goodDeployment, "container", values{"image": "r.example:5000/vllm@sha256:" + strings.Repeat("a", 64)})},
		{"hostile", deploymentType, with(goodDeployment, values{"model": "$(touch x); `id` ' \"", "args": []any{"--seed", "$(id)"}})},
		{"registry", deploymentType, inserted(goodDeployment, "container", values{"registry_auth": values{"username": "u", "password_wo": unknown}})},
		{"keys", deploymentType, with(goodDeployment, values{"api_key": "sk-1", "hf_token_wo": "hf", "hf_token_wo_version": 1})},
		{"all unknown", deploymentType, values{
			"ssh": unknown, "model": unknown, "container": unknown, "args": unknown, "env": unknown, "port": unknown, "api_key": unknown,
			"session_id": unknown, "max_model_len": unknown, "gpu_memory_utilization": unknown, "trust_remote_code": unknown,
		}},
		{"parts unknown", deploymentType, values{
			"ssh": values{"host": unknown, "user": unknown, "port": unknown, "private_key": unknown, "host_key": unknown}, "model": qwen,
			"container": values{"image": unknown, "name": unknown}, "args": []any{unknown}, "env": values{"A": unknown},
		}},
		{"endpoint", endpointType, values{"base_url": unknown, "ssh": unknown, "api_key": unknown}},
		{"health", healthType, values{"base_url": unknown, "ssh": values{"host": unknown, "user": unknown}, "server": unknown, "skip": unknown}},
		{"offers", offersType, values{"gpu_types": unknown, "clouds": []any{unknown}, "sort_by": unknown, "limit": unknown}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCore(t)
			check := c.validate
			if _, ok := c.schema.ResourceSchemas[test.typ]; !ok {
				check = c.validateData
			}
			expect(t, check(test.typ, test.arguments))
		})
	}
}

// What can't be refused for certain, and one message for one mistake.
func TestInputWarnings(t *testing.T) {
	t.Parallel()
	c := newCore(t)
	session := func(needs any) values { return values{"name": "x", "requirements": needs} }
	expect(t, c.validate(sessionType, session(values{"clouds": []any{"tensordock"}, "min_cuda_version": 12.8})),
		"WARNING: Requirements that no offer may meet: x", "only vastai", "Nothing is rented")
	expect(t, c.validate(sessionType, session(values{})), "WARNING: Requirements are empty: x", "misspelled")
	expect(t, c.validate(sessionType, session(values{"min_vram_gb": unknown})))
	expect(t, c.validate(deploymentType, with(goodDeployment, values{"lora_adapters": values{"a": unknown}})))
	expect(t, c.validate(deploymentType, with(goodDeployment, values{"lora_adapters": values{"a": ""}})), "lora_adapters", "needs a name")
	for name, wrong := range map[string]any{"port": 70000, "dtype": "int3", "max_model_len": 0, "model": "", "pipeline_parallel_size": -1} {
		if diags := c.validate(deploymentType, with(goodDeployment, values{name: wrong})); len(diags) != 1 {
			t.Errorf("%s: %s", name, list(diags))
		}
	}
}

// Flags are compared with those of the release that will run, if the plan knows which one that is.
func TestArgsAreComparedWithTheRelease(t *testing.T) {
	t.Parallel()
	c := newCore(t)
	misspelled := values{"args": []any{"--enable-lorra", unknown, "--max-num-seqs=4"}}
	container := func(image string) values {
		return with(misspelled, values{"container": values{"image": image}})
	}
	process := with(misspelled, values{"container": nil, "process": values{"version": "0.19.1"}})
	old := with(goodDeployment, values{"container": values{"image": "vllm/vllm-openai:v0.10.2"}, "drain_timeout": "1m"})
	expect(t, c.plan(deploymentType, object{}, old).Diagnostics, "WARNING: vLLM 0.10.2 does not drain", "--shutdown-timeout")
	expect(t, c.plan(deploymentType, object{}, with(old, values{"drain_timeout": "0s"})).Diagnostics)
	for name, test := range map[string]struct {
		change values
		want   string // "" for no warning
	}{
		"image":                 {container("vllm/vllm-openai:v0.32.0"), "unknown to vLLM 0.32.0"},
		"newer image":           {container("registry.example:5000/vllm/vllm-openai:v0.33.1-cu129"), "unknown to vLLM 0.33.1"},
		"process":               {process, "unknown to vLLM 0.19.1"},
		"both, of one release":  {with(process, values{"container": values{"image": "vllm/vllm-openai:v0.19.1"}}), "unknown to vLLM 0.19.1"},
		"both, of two":          {with(process, values{"container": values{"image": "vllm/vllm-openai:v0.32.0"}}), ""},
		"an image of one's own": {container("registry.example/serving:1.2.3"), ""},
		"an old image":          {container("vllm/vllm-openai:v0.10.2"), ""},
		"unknown container":     {with(misspelled, values{"container": unknown}), ""},
		"flags that are known":  {with(container("vllm/vllm-openai:v0.32.0"), values{"args": []any{"--enforce-eager"}}), ""},
	} {
		diags := c.plan(deploymentType, object{}, with(goodDeployment, test.change)).Diagnostics
		if test.want == "" {
			expect(t, diags)
			continue
		}
		expect(t, diags, "WARNING: Flag may be "+test.want, "Did you mean --enable-lora?")
		if len(diags) != 1 {
			t.Errorf("%s: %s", name, list(diags))
		}
	}
}

// Names that the release doesn't have are reported with those that it has.
func TestValuesAreComparedWithTheRelease(t *testing.T) {
	t.Parallel()
	c := newCore(t)
	for attribute, want := range map[string]string{"tool_call_parser": "hermes", "reasoning_parser": "qwen3", "kv_cache_dtype": "fp8_e5m2"} {
		config := func(release, value string) values {
			return with(goodDeployment, values{attribute: value, "container": values{"image": "vllm/vllm-openai:v" + release}})
		}
		expect(t, c.plan(deploymentType, object{}, config("0.32.0", "frob")).Diagnostics,
			"WARNING: "+attribute+" may be unknown to vLLM 0.32.0", `"frob"`, want)
		for _, release := range []string{"0.32.0", "0.10.2"} {
			value := want
			if release == "0.10.2" {
				value = "frob" // nobody knows
			}
			expect(t, c.plan(deploymentType, object{}, config(release, value)).Diagnostics)
		}
	}
}

// Every single attribute may be unknown in a plan, for a new resource and for an existing one.
func TestPlanWithUnknowns(t *testing.T) {
	t.Parallel()
	c := newCore(t)
	if diags := c.configure(values{"url": unknown, "journal_directory": t.TempDir()}); len(diags) > 0 {
		t.Fatal(list(diags))
	}
	for name, good := range map[string]values{sessionType: goodSession, deploymentType: goodDeployment} {
		for _, attribute := range c.schema.ResourceSchemas[name].Block.Attributes {
			if !attribute.Required && !attribute.Optional || attribute.Name == "timeouts" {
				continue
			}
			arguments := with(good, values{attribute.Name: unknown})
			if attribute.Name == "offer_id" {
				delete(arguments, "requirements")
			}
			for what, prior := range map[string]object{"create": {}, "update": {state: filled(t, c.resource(name), good)}} {
				p := c.plan(name, prior, arguments)
				if failed(p.Diagnostics) {
					t.Errorf("%s %s with unknown %s: %s", what, name, attribute.Name, list(p.Diagnostics))
					continue
				}
				if v := get(t, p.value, attribute.Name); !attribute.WriteOnly && v.IsKnown() {
					t.Errorf("%s %s: the plan knows %s: %s", what, name, attribute.Name, v)
				}
			}
		}
	}
}

// filled is a state in which every omitted argument has some value.
func filled(t *testing.T, typ tftypes.Type, arguments values) tftypes.Value {
	t.Helper()
	fill := func(typ tftypes.Type) any {
		switch {
		case typ.Is(tftypes.String):
			return "2026-01-02T03:04:05Z"
		case typ.Is(tftypes.Number):
			return 1
		}
		return nil
	}
	all := values{}
	for name, attribute := range typ.(tftypes.Object).AttributeTypes { //nolint:forcetypeassert // every resource is an object
		all[name] = fill(attribute)
	}
	delete(all, "api_key_wo")
	delete(all, "hf_token_wo")
	return value(t, typ, with(all, arguments), "")
}

func TestProviderInput(t *testing.T) {
	t.Parallel()
	private, encrypted, _ := keys(t)
	tests := []struct {
		name      string
		arguments values
		want      []string
	}{
		{"nothing", values{}, nil},
		{"url without scheme", values{"url": "localhost:8080"}, []string{"url", "http:// or https://"}},
		{"url without host", values{"url": "http://"}, []string{"url", "host"}},
		{"url with credentials", values{"url": "http://me:planted@example.com"}, []string{"url", "credentials"}},
		{"url with query", values{"url": "http://example.com/?a=1"}, []string{"url", "query"}},
		{"empty url", values{"url": ""}, []string{"url"}},
		{"path prefix", values{"url": "https://example.com/shopper"}, nil},
		{"no CA", values{"ca_certificate": "not PEM"}, []string{"ca_certificate", "PEM"}},
		{"half a certificate", values{"client_certificate": "x"}, []string{"client_key"}},
		{"bad certificate", values{"client_certificate": "x", "client_key": "planted"}, []string{"client_certificate", "PEM"}},
		{"empty token", values{"token": ""}, []string{"token", "must not be empty"}},
		{"token with its file's end", values{"token": "planted\n"}, []string{"token", "trimspace"}},
		{"token of two lines", values{"token": "planted\nplanted"}, []string{"token", "HTTP header"}},
		{"header", values{"headers": values{"X Bad": "planted"}}, []string{"HTTP header"}},
		{"header's value", values{"headers": values{"X-Good": "planted\r\nX-Evil: 1"}}, []string{"eader"}},
		{"consumer", values{"consumer_id": "a/b"}, []string{"consumer_id", "letters, digits"}},
		{"timeout", values{"request_timeout": "30"}, []string{"duration"}},
		{"no timeout", values{"request_timeout": "0s"}, []string{"between 1s and 5m0s"}},
		{"retries", values{"max_retries": 100}, []string{"between 0 and 20"}},
		{"budget", values{"budget": values{"max_price_per_hour": 0}}, []string{"at least 0.0001"}},
		{"key", values{"ssh": values{"private_key": "planted"}}, []string{"private_key"}},
		{"locked key", values{"ssh": values{"private_key": encrypted}}, []string{"private_key", "passphrase"}},
		{"good key", values{"ssh": values{"private_key": private}}, nil},
		{"no agent", values{"ssh": values{"agent": true}}, []string{"No SSH agent", "SSH_AUTH_SOCK"}},
		{"everything unknown", values{
			"url": unknown, "token": unknown, "headers": unknown, "ca_certificate": unknown, "client_certificate": unknown,
			"client_key": unknown, "consumer_id": unknown, "journal_directory": unknown, "request_timeout": unknown,
			"max_retries": unknown, "budget": unknown, "ssh": unknown,
		}, nil},
		{"parts unknown", values{
			"headers": values{"A": unknown}, "budget": values{"max_price_per_hour": unknown},
			"ssh": values{"private_key": unknown, "agent": unknown},
		}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			diags := newCore(t).configure(test.arguments)
			expectAll(t, diags, test.want...)
			if said := list(diags); strings.Contains(said, "planted") {
				t.Errorf("a secret is shown:\n%s", said)
			}
		})
	}
}

// expectAll is expect in any order.
func expectAll(t *testing.T, diags []*tfprotov6.Diagnostic, want ...string) {
	t.Helper()
	said := list(diags)
	if len(want) == 0 && len(diags) > 0 {
		t.Errorf("unexpected:\n%s", said)
	}
	if len(want) > 0 && !failed(diags) {
		t.Errorf("it is let through:\n%s", said)
	}
	for _, part := range want {
		if !strings.Contains(said, part) {
			t.Errorf("want %q in\n%s", part, said)
		}
	}
}

// With unknown provider settings a plan succeeds, and does nothing that needs the shopper.
func TestUnknownSettingsAreNamed(t *testing.T) {
	t.Parallel()
	c := newCore(t)
	expect(t, c.configure(values{"url": unknown, "token": unknown}))
	p := c.plan(sessionType, object{}, goodSession)
	expect(t, p.Diagnostics)
	_, diags := c.apply(sessionType, p)
	expect(t, diags, "Provider settings are unknown", "url, token")
	_, diags = c.readData(offersType, values{})
	expect(t, diags, "Provider settings are unknown", "url, token", "-target")
}

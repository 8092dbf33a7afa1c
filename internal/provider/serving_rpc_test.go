package provider_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"github.com/hashicorp/terraform-plugin-log/tflogtest"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// staged is a world with a session in it, and what to configure a server with.
func staged(t *testing.T) (w *world, c *core, session object) {
	t.Helper()
	w = newWorld(t)
	c = w.configured(t, nil)
	session = c.create(sessionType, goodSession)
	t.Cleanup(func() { w.releaseAll(t, c, session) })
	return w, c, session
}

// releaseAll releases a session, also after a failure.
func (w *world) releaseAll(t *testing.T, c *core, session object) {
	t.Helper()
	_, diags := c.under(context.WithoutCancel(t.Context())).destroy(sessionType, session)
	expect(t, diags)
}

// change plans and applies an update, and fails the test for any error.
func (c *core) change(name string, prior object, arguments values) object {
	c.t.Helper()
	p := c.plan(name, prior, arguments)
	if len(p.replaced()) > 0 {
		c.t.Fatalf("replaced for %v", p.replaced())
	}
	made, diags := c.apply(name, p)
	if failed(diags) {
		c.t.Fatalf("updating: %s", list(diags))
	}
	return made
}

func (w *world) theMachine(t *testing.T) *machine.Machine {
	t.Helper()
	m, err := w.machine()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// asked requests an answer as a client without SSH would.
func asked(t *testing.T, state tftypes.Value) error {
	t.Helper()
	_, err := clientOf(t, state).Probe(t.Context(), text(t, state, "model"), true)
	return err
}

// clientOf is a client without SSH.
func clientOf(t *testing.T, state tftypes.Value) *vllm.Client {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	if ca := text(t, state, "ca_certificate"); ca != "" {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(ca))
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return vllm.NewClient(transport, strings.TrimSuffix(text(t, state, "base_url"), "/v1"), text(t, state, "api_key"))
}

// A public server answers at the machine's own address, over TLS with a
// certificate that is verified; a plan says what stays open.
func TestDeploymentPublic(t *testing.T) {
	t.Parallel()
	_, c, session := staged(t)
	port := testkit.FreePort(t)
	open := onSession(t, session, values{"port": port, "exposure": "public"})
	p := c.plan(deploymentType, object{}, open)
	expect(t, p.Diagnostics, "WARNING: Routes stay open to everyone", "vLLM 0.33.0 requires", "only below /v1, /v2, /inference, /cohere",
		"/invocations", "/scale_elastic_ep", "/metrics", "unencrypted")
	old := with(inserted(open, "container", values{"image": "vllm/vllm-openai:v0.19.1"}), values{"env": values{"VLLM_SERVER_DEV_MODE": "1"}})
	expect(t, c.plan(deploymentType, object{}, old).Diagnostics, "vLLM 0.19.1 requires the API key only below /v1",
		"/inference/v1/generate", "/update_weights")
	server, diags := c.apply(deploymentType, p)
	expect(t, diags)
	if got, want := text(t, server.state, "base_url"), fmt.Sprintf("http://127.0.0.1:%d/v1", port); got != want {
		t.Errorf("base_url %s, want %s", got, want)
	}
	if err := asked(t, server.state); err != nil {
		t.Error(err)
	}

	secured := with(open, values{"tls": values{}})
	server = c.change(deploymentType, server, secured)
	if got := text(t, server.state, "base_url"); !strings.HasPrefix(got, "https://") {
		t.Errorf("base_url %s", got)
	}
	if err := asked(t, server.state); err != nil {
		t.Error(err)
	}
	if p := c.plan(deploymentType, server, secured); len(p.Diagnostics) > 0 || !p.value.Equal(server.state) {
		t.Errorf("a second plan changes something: %s", list(p.Diagnostics))
	}
	// A server that fails is removed, and the previous one answers again, over TLS.
	before := text(t, server.state, "ca_certificate")
	back, diags := c.apply(deploymentType, c.plan(deploymentType, server, with(secured, values{"max_model_len": 200000})))
	expect(t, diags, "ERROR: ", "32768", "old server is running again and has answered")
	if text(t, back.state, "ca_certificate") != before {
		t.Error("the certificate in state isn't the running server's")
	}
	if err := asked(t, back.state); err != nil {
		t.Error(err)
	}
	private := c.change(deploymentType, back, onSession(t, session, values{"port": port}))
	if err := asked(t, private.state); err == nil {
		t.Error("a private server answers from outside")
	}
}

// On Vast.ai only SSH is reachable, which is reported before anything starts.
func TestDeploymentPublicOnVast(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *sandbox.Options) {
		for i := range o.Offers {
			o.Offers[i].Machine.VLLM.Installed = "0.33.0"
		}
	})
	c := w.configured(t, nil)
	session := c.create(sessionType, values{"name": "test", "offer_id": vast})
	defer tidy(t, c, session)
	public := onSession(t, session, values{"exposure": "public", "container": nil, "process": values{}})
	before := len(w.theMachine(t).CommandLog())
	made, diags := c.apply(deploymentType, c.plan(deploymentType, object{}, public))
	expect(t, diags, "ERROR: Only SSH is reachable", "Vast.ai", "Nothing was started")
	if !made.state.IsNull() || len(w.theMachine(t).CommandLog()) > before {
		t.Errorf("something was done on the machine: %q", w.theMachine(t).CommandLog())
	}
	// A running server isn't touched for it either.
	private := c.create(deploymentType, with(public, values{"exposure": nil}))
	before = len(w.theMachine(t).CommandLog())
	kept, diags := c.apply(deploymentType, c.plan(deploymentType, private, public))
	expect(t, diags, "ERROR: Only SSH is reachable", "Vast.ai")
	if !kept.state.Equal(private.state) || len(w.theMachine(t).CommandLog()) > before || w.serves(1)(nil) != nil {
		t.Errorf("something was done on the machine: %q", w.theMachine(t).CommandLog()[before:])
	}
	by := with(public, values{"session_id": nil, "ssh": with(login(t, session), values{"host": "ssh5.vast.ai"})})
	expect(t, c.plan(deploymentType, object{}, by).Diagnostics, "WARNING: Only SSH is reachable", "Nothing will be started")
}

// Models that don't complete are verified by the call that fits them; each kind is named when the other's call is sent.
func TestDeploymentReadyWithoutCompletion(t *testing.T) {
	t.Parallel()
	inBothRuntimes(t, func(t *testing.T, w *world, c *core, _ object, wanted values) {
		t.Helper()
		proved := values{"ready": values{"completion": false}}
		for model, call := range map[string]string{
			"BAAI/bge-m3": "embedding", "internlm/internlm2-1_8b-reward": "pooling", "BAAI/bge-reranker-v2-m3": "pooling",
		} {
			wire := &tripwire{words: []string{"never"}}
			logged := c.under(tflogtest.RootLogger(c.ctx, wire))
			server, diags := logged.apply(deploymentType, c.plan(deploymentType, object{}, with(with(wanted, proved), values{"model": model})))
			if failed(diags) {
				t.Errorf("%s: %s", model, list(diags))
				continue
			}
			if !strings.Contains(wire.text(), "("+call+")") {
				t.Errorf("%s isn't proved by %s:\n%s", model, call, wire.text())
			}
			if seen, more := c.read(deploymentType, server); len(more) > 0 || !seen.state.Equal(server.state) {
				t.Errorf("%s: a refresh changes something: %s", model, list(more))
			}
			_, diags = c.destroy(deploymentType, server)
			expect(t, diags)
		}
		_, diags := c.apply(deploymentType, c.plan(deploymentType, object{}, with(wanted, values{"model": "BAAI/bge-m3"})))
		expect(t, diags, "ERROR: Model did not answer", "doesn't complete text", "ready = { completion = false }", "has been removed")
		_, diags = c.apply(deploymentType, c.plan(deploymentType, object{}, with(wanted, proved)))
		expect(t, diags, "ERROR: Model did not answer", "neither embeds nor pools", "ready = { completion = true }", "has been removed")
		if err := w.nothingServes(nil); err != nil {
			t.Error(err)
		}
	})
}

// What only an apply would find otherwise is refused by validate, with its limit.
func TestDeploymentValidates(t *testing.T) {
	t.Parallel()
	c := newCore(t)
	base := values{"ssh": values{"host": "h", "user": "u"}, "model": qwen, "container": values{"image": image}}
	expect(t, c.validate(deploymentType, base))
	expect(t, c.validate(deploymentType, with(base, values{"container": unknown, "process": unknown, "tls": unknown, "runtime": unknown})))
	expect(t, c.validate(deploymentType, with(base, values{"tls": values{"certificate": unknown}})))
	certificate, key := testkit.Certificate(t, "h")
	expect(t, c.validate(deploymentType, with(base, values{"tls": values{"certificate": certificate, "private_key": key}})))
	_, other := testkit.Certificate(t, "h")
	for name, test := range map[string]struct {
		change values
		want   []string
	}{
		"no image":        {values{"container": nil, "runtime": "container"}, []string{"Image is missing"}},
		"gpus":            {inserted(base, "container", values{"gpus": "two; rm"}), []string{"Invalid container", "two; rm"}},
		"user":            {inserted(base, "container", values{"user": "a b"}), []string{"Invalid container", "USER:GROUP"}},
		"cache":           {inserted(base, "container", values{"cache": "/a/../b"}), []string{"Invalid container", "absolute path"}},
		"directory":       {values{"process": values{"directory": "here"}}, []string{"Invalid process", "absolute path"}},
		"version":         {values{"process": values{"version": "latest"}}, []string{"Invalid process", "0.33.0"}},
		"install":         {values{"process": values{"install": "always"}}, []string{"missing"}},
		"exposure":        {values{"exposure": "open"}, []string{"private"}},
		"ready":           {values{"ready": values{"timeout": "20"}}, []string{"duration"}},
		"drain":           {values{"drain_timeout": "-1s"}, []string{"at least zero"}},
		"no key":          {values{"tls": values{"certificate": certificate}}, []string{"Private key is missing"}},
		"no certificate":  {values{"tls": values{"private_key": key}}, []string{"Certificate is missing"}},
		"another's key":   {values{"tls": values{"certificate": certificate, "private_key": other}}, []string{"don't belong together"}},
		"both keys":       {values{"tls": values{"certificate": certificate, "private_key": key, "private_key_wo": key}}, []string{"private_key"}},
		"key, no version": {values{"tls": values{"certificate": certificate, "private_key_wo": key}}, []string{"private_key_wo_version"}},
		"encrypted key": {
			values{"tls": values{"certificate": certificate, "private_key": "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"}},
			[]string{"passphrase"},
		},
		"bastion": {
			values{"ssh": values{"host": "h", "user": "u", "bastion": values{"host": "b", "user": "u", "port": 70000}}}, []string{"65535"},
		},
	} {
		diags := c.validate(deploymentType, with(base, test.change))
		expect(t, diags, append([]string{"ERROR: "}, test.want...)...)
		if strings.Contains(list(diags), strings.Split(key, "\n")[1]) {
			t.Errorf("%s: a key is in the error", name)
		}
	}
}

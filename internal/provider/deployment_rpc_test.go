package provider_test

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// login is a session's ssh as a deployment's argument, without the named parts.
func login(t *testing.T, session object, without ...string) values {
	t.Helper()
	all := values{}
	for name, v := range members(t, get(t, session.state, "ssh")) {
		all[name] = v
	}
	for _, name := range without {
		delete(all, name)
	}
	return all
}

// onSession are the arguments of a deployment on a session.
func onSession(t *testing.T, session object, others values) values {
	t.Helper()
	return with(values{
		"session_id": get(t, session.state, "id"), "ssh": login(t, session), "model": qwen, "container": values{"image": image},
	}, others)
}

// tidy destroys what is left of a session at the end of a test.
func tidy(t *testing.T, c *core, session object) {
	t.Helper()
	left, diags := c.destroy(sessionType, session)
	expect(t, diags)
	if !left.state.IsNull() {
		t.Error("the session is still in state")
	}
}

// A machine that doesn't answer proves nothing; a session that has ended does.
func TestDeploymentMachineThatIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	session := c.create(sessionType, goodSession)
	server := c.create(deploymentType, onSession(t, session, values{"timeouts": values{"read": "20s", "delete": "3s"}}))
	m, err := w.machine()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.StopListening(); err != nil {
		t.Fatal(err)
	}
	m.DropConnections()
	kept, diags := c.read(deploymentType, server)
	expect(t, diags, "WARNING: Machine can't be reached")
	if !kept.state.Equal(server.state) {
		t.Error("the refresh changed the state")
	}
	// Nobody can be asked about a machine that isn't rented.
	all := members(t, server.state)
	all["session_id"] = value(t, all["session_id"].Type(), nil, "")
	own := object{value(t, server.state.Type(), fields(all), ""), server.private}
	kept, diags = c.read(deploymentType, own)
	expect(t, diags, "WARNING: Machine can't be reached")
	if !kept.state.Equal(own.state) {
		t.Error("the refresh changed the state of a server on a machine of one's own")
	}
	kept, diags = c.destroy(deploymentType, own)
	expect(t, diags, "ERROR: ", "Server may still be running", "state rm")
	if kept.state.IsNull() {
		t.Error("a server on a machine of one's own left state without proof")
	}
	w.releaseByHand(t)
	gone, diags := c.read(deploymentType, server)
	expect(t, diags, "WARNING: Machine is gone", text(t, session.state, "id"))
	if failed(diags) || !gone.state.IsNull() {
		t.Error("the server of a machine that is gone is still in state")
	}
	gone, diags = c.destroy(deploymentType, server)
	expect(t, diags, "WARNING: Machine is gone")
	if failed(diags) || !gone.state.IsNull() {
		t.Error("the server of a machine that is gone can't be destroyed")
	}
	tidy(t, c, session)
}

// A rented machine that refuses the login doesn't keep its session from being released, and a later deployment takes over a
// server that is left on it.
func TestDeploymentOnMachineThatCannotBeLoggedInTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	session := c.create(sessionType, goodSession)
	server := c.create(deploymentType, onSession(t, session, values{"timeouts": values{"delete": "3s"}}))
	m, err := w.machine()
	if err != nil {
		t.Fatal(err)
	}
	// A fault that the user can fix doesn't remove it from state.
	all := members(t, server.state)
	keyless := members(t, all["ssh"])
	keyless["private_key"] = value(t, keyless["private_key"].Type(), nil, "")
	all["ssh"] = value(t, all["ssh"].Type(), fields(keyless), "")
	left, diags := c.destroy(deploymentType, object{value(t, server.state.Type(), fields(all), ""), server.private})
	expect(t, diags, "ERROR: ", "Server may still be running", "stays in state")
	if left.state.IsNull() {
		t.Error("without a key it left state")
	}
	if err := m.StopListening(); err != nil {
		t.Fatal(err)
	}
	m.DropConnections()
	left, diags = c.destroy(deploymentType, server)
	expect(t, diags, "WARNING: Server may still be running", text(t, session.state, "id"), "Until then the session costs money")
	if failed(diags) || !left.state.IsNull() {
		t.Error("it holds up the release of its session")
	}
	if err := m.ResumeListening(); err != nil {
		t.Fatal(err)
	}
	other := c.create(deploymentType, onSession(t, session, values{"max_model_len": 4096}))
	var containers []struct{ ID string }
	engine(t, m, "GET", "/containers/json?all=1", nil, &containers)
	if len(containers) != 1 || containers[0].ID != text(t, other.state, "id") {
		t.Errorf("on the machine are %v", containers)
	}
	_, diags = c.destroy(deploymentType, other)
	expect(t, diags)
	tidy(t, c, session)
}

// The key seen at first contact is kept and required from then on, also if the configuration has none.
func TestDeploymentTrustsTheFirstHostKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	session := c.create(sessionType, goodSession)
	server := c.create(deploymentType, onSession(t, session, values{"ssh": login(t, session, "host_key")}))
	same, diags := c.read(deploymentType, server)
	expect(t, diags)
	if !same.state.Equal(server.state) {
		t.Error("a refresh that found nothing new changed the state")
	}
	if err := w.Strike(text(t, session.state, "id"), sandbox.ChangeHostKey, nil); err != nil {
		t.Fatal(err)
	}
	kept, diags := c.read(deploymentType, same)
	expect(t, diags, "WARNING: Host key has changed")
	if !kept.state.Equal(server.state) {
		t.Error("the refresh changed the state")
	}
	m, err := w.machine()
	if err != nil {
		t.Fatal(err)
	}
	change := onSession(t, session, values{"ssh": login(t, session, "host_key"), "max_model_len": 4096})
	kept, diags = c.apply(deploymentType, c.plan(deploymentType, server, change))
	expect(t, diags, "ERROR: Host key has changed", "another machine answers", "intercepted", "Nothing was sent to it", "setting ssh.host_key to",
		regexp.QuoteMeta(m.HostKey()))
	if !kept.state.Equal(server.state) {
		t.Error("the update changed the state")
	}
	gone, diags := c.destroy(deploymentType, server)
	expect(t, diags, "WARNING: Host key has changed", "that removes the server too")
	if failed(diags) || !gone.state.IsNull() {
		t.Error("another host key holds up the release of the session")
	}
	accepted := with(login(t, session), values{"host_key": m.HostKey()})
	server = c.change(deploymentType, server, with(change, values{"ssh": accepted}))
	if got := text(t, server.state, "host_key"); got != m.HostKey() {
		t.Errorf("accepted, and pinned is %q", got)
	}
	_, diags = c.destroy(deploymentType, server)
	expect(t, diags)
	tidy(t, c, session)
}

// Changes that need no new server leave it alone. A new address of the same session is no other machine.
func TestDeploymentPlans(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	session := c.create(sessionType, goodSession)
	base := onSession(t, session, values{"port": 8123})
	server := c.create(deploymentType, base)
	away := with(base, values{"session_id": nil})
	nowhere := server
	all := members(t, server.state)
	all["session_id"] = value(t, all["session_id"].Type(), nil, "")
	nowhere.state = value(t, server.state.Type(), fields(all), "")
	died, odd := server, server
	all = members(t, server.state)
	all["status"] = value(t, all["status"].Type(), "exited", "")
	died.state = value(t, server.state.Type(), fields(all), "")
	all["status"] = value(t, all["status"].Type(), "unknown", "")
	odd.state = value(t, server.state.Type(), fields(all), "")
	moved := values{"ssh": with(login(t, session), values{"host": "192.0.2.9"})}
	tests := []struct {
		name      string
		prior     object
		arguments values
		restarts  bool
		replaces  bool
	}{
		{"nothing", server, base, false, false},
		{"one that died", died, base, true, false},
		{"one in a state that nobody knows", odd, base, false, false},
		{"timeouts", server, with(base, values{"timeouts": values{"read": "1m"}}), false, false},
		{"min_vram_gib", server, with(base, values{"min_vram_gib": 8}), false, false},
		{"drain_timeout", server, with(base, values{"drain_timeout": "5m"}), false, false},
		{"on_failure", server, with(base, values{"on_failure": "keep"}), false, false},
		{"pull_policy", server, inserted(base, "container", values{"pull_policy": "always"}), false, false},
		{"another address", server, with(base, moved), false, false},
		{"an unknown address", server, with(base, values{"ssh": unknown}), false, false},
		{"the provider's key instead", server, with(base, values{"ssh": login(t, session, "private_key")}), false, false},
		{"model", server, with(base, values{"model": "Qwen/Qwen2.5-0.5B-Instruct"}), true, false},
		{"unknown model", server, with(base, values{"model": unknown}), true, false},
		{"image", server, inserted(base, "container", values{"image": "vllm/vllm-openai:v0.32.0"}), true, false},
		{"unknown container", server, with(base, values{"container": unknown}), true, false},
		{"args", server, with(base, values{"args": []any{"--seed", "1"}}), true, false},
		{"env", server, with(base, values{"env": values{"A": "b"}}), true, false},
		{"port", server, with(base, values{"port": 8124}), true, false},
		{"key", server, with(base, values{"api_key": "sk-another"}), true, false},
		{"written key", server, with(base, values{"api_key_wo": "sk-another", "api_key_wo_version": 1}), true, false},
		{"session", server, with(base, values{"session_id": "another"}), false, true},
		{"unknown session", server, with(base, values{"session_id": unknown}), false, true},
		{"the same machine", nowhere, away, false, false},
		{"another machine", nowhere, with(away, moved), false, true},
		{"an unknown machine", nowhere, with(away, values{"ssh": unknown}), false, true},
	}
	for _, test := range tests {
		p := c.plan(deploymentType, test.prior, test.arguments)
		if failed(p.Diagnostics) {
			t.Errorf("%s: %s", test.name, list(p.Diagnostics))
			continue
		}
		if restarts := !get(t, p.value, "id").IsKnown(); restarts != test.restarts {
			t.Errorf("%s: another server: %v, want %v", test.name, restarts, test.restarts)
		}
		if replaces := len(p.replaced()) > 0; replaces != test.replaces {
			t.Errorf("%s: replaced for %v", test.name, p.replaced())
		}
		if test.name == "nothing" && !p.value.Equal(test.prior.state) {
			t.Error("a plan for nothing changes something")
		}
	}
	_, diags := c.apply(deploymentType, c.plan(deploymentType, object{}, with(base, values{"min_vram_gib": 100, "port": 8125})))
	expect(t, diags, "ERROR: Machine can't run this deployment", "min_vram_gib asks for GPUs of 100 GiB")
	tidy(t, c, session)
}

// The same session at a new address is the same machine: the server continues, and only its address changes. A different
// session is a different machine.
func TestDeploymentFollowsItsSession(t *testing.T) {
	t.Parallel()
	w, c, session := staged(t)
	wanted := onSession(t, session, nil)
	server := c.create(deploymentType, wanted)
	if err := w.Strike(text(t, session.state, "id"), sandbox.ChangeAddress, nil); err != nil {
		t.Fatal(err)
	}
	moved, diags := c.read(sessionType, session)
	if failed(diags) || get(t, moved.state, "ssh.port").Equal(get(t, session.state, "ssh.port")) {
		t.Fatalf("the session has no new address: %s", list(diags))
	}
	after := c.change(deploymentType, server, onSession(t, moved, nil))
	if text(t, after.state, "id") != text(t, server.state, "id") || text(t, after.state, "started_at") != text(t, server.state, "started_at") {
		t.Error("the server was started again")
	}
	if text(t, after.state, "tunnel_command") == text(t, server.state, "tunnel_command") {
		t.Error("tunnel_command leads to the old address")
	}
	if seen, diags := c.read(deploymentType, after); len(diags) > 0 || !seen.state.Equal(after.state) {
		t.Errorf("a refresh changes something: %s", list(diags))
	}
	if err := answersOver(t, moved, after); err != nil {
		t.Error(err)
	}
	// Changes that don't concern vLLM reach state, and not the server.
	quiet := c.change(deploymentType, after, onSession(t, moved, values{
		"on_failure": "keep", "ready": values{"timeout": "10m"}, "timeouts": values{"update": "50m"},
		"container": values{"image": image, "pull_policy": "always", "registry_auth": values{"username": "u", "password": "p"}},
	}))
	if text(t, quiet.state, "id") != text(t, server.state, "id") || w.serves(1)(nil) != nil {
		t.Error("the server was started again")
	}
	another := with(onSession(t, moved, nil), values{"session_id": "another"})
	if p := c.plan(deploymentType, quiet, another); len(p.replaced()) == 0 {
		t.Error("another session replaces nothing")
	}
}

// When a server was started is a time in UTC, in RFC 3339.
func TestDeploymentStartedInUTC(t *testing.T) {
	t.Parallel()
	inBothRuntimes(t, func(t *testing.T, _ *world, c *core, _ object, wanted values) {
		t.Helper()
		begun := time.Now().Add(-2 * time.Second)
		server := c.create(deploymentType, wanted)
		said := text(t, server.state, "started_at")
		at, err := time.Parse(time.RFC3339, said)
		if err != nil || !strings.HasSuffix(said, "Z") || at.Before(begun) || at.After(time.Now()) {
			t.Errorf("started_at %q, %v", said, err)
		}
	})
}

// fields turns an object's members into arguments.
func fields[V any](members map[string]V) values {
	all := values{}
	for name, v := range members {
		all[name] = v
	}
	return all
}

// A cancel ends what is under way, releases what was made by then, and is reported as a cancel.
func TestCancelLeavesNothing(t *testing.T) {
	t.Parallel()
	t.Run("session", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		c := w.configured(t, nil)
		if err := w.SetFaults(sandbox.Rule{Route: sandbox.EventBoot, Fault: sandbox.BootsLate}); err != nil {
			t.Fatal(err)
		}
		made, diags := c.canceled(sessionType, goodSession, func() bool { return len(w.Ledger().Billing) > 0 })
		expect(t, diags, "ERROR: Interrupted", "released")
		if !made.state.IsNull() {
			t.Error("it is in state")
		}
	})
	t.Run("deployment", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, func(o *sandbox.Options) {
			for i := range o.Offers {
				o.Offers[i].Machine.VLLM.Load *= 1000
			}
		})
		c := w.configured(t, nil)
		session := c.create(sessionType, goodSession)
		made, diags := c.canceled(deploymentType, onSession(t, session, nil), func() bool {
			m, err := w.machine()
			return err == nil && slices.ContainsFunc(m.CommandLog(), func(line string) bool { return strings.Contains(line, "serve "+qwen) })
		})
		expect(t, diags, "ERROR: Interrupted during the phase (start|load)", "The operation was"+
			" canceled", text(t, session.state, "id"), "still rented")
		if !made.state.IsNull() {
			t.Error("it is in state")
		}
		if err := w.nothingServes(nil); err != nil {
			t.Error(err)
		}
		tidy(t, c, session)
	})
}

// canceled creates a resource and cancels that as soon as a condition holds.
func (c *core) canceled(name string, arguments values, when func() bool) (object, []*tfprotov6.Diagnostic) {
	c.t.Helper()
	p := c.plan(name, object{}, arguments)
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		testkit.Eventually(c.t, "something to cancel", when)
		cancel()
	}()
	made, diags := c.under(ctx).apply(name, p)
	<-watched
	return made, diags
}

// The key goes through the SSH connection. It is in no command line on the machine, and in no result of a check.
func TestHealthKeyIsOnNoCommandLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	session := c.create(sessionType, goodSession)
	const key, wrong = "sk-planted-api-key-4711", "sk-planted-and-wrong"
	server := c.create(deploymentType, onSession(t, session, values{"api_key": key}))
	for _, presented := range []string{key, wrong} {
		for _, name := range []string{healthType, endpointType} {
			arguments := values{"base_url": text(t, server.state, "base_url"), "ssh": login(t, session), "api_key": presented}
			read, diags := c.readData(name, arguments)
			expect(t, diags)
			all := members(t, read)
			delete(all, "api_key")
			for attribute, v := range all {
				if strings.Contains(v.String(), "planted") {
					t.Errorf("%s.%s contains the key: %s", name, attribute, v)
				}
			}
		}
	}
	m, err := w.machine()
	if err != nil {
		t.Fatal(err)
	}
	served := false
	for _, line := range m.CommandLog() {
		served = served || strings.Contains(line, "serve "+qwen)
		if strings.Contains(line, "planted") {
			t.Errorf("a command line: %s", line)
		}
	}
	if !served {
		t.Error("the server's own command line was not recorded")
	}
	tidy(t, c, session)
}

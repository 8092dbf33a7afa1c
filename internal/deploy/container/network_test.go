package container

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

// A server's port is published where the server is to listen, and what is read back of its container is that again.
func TestPublishedPort(t *testing.T) {
	t.Parallel()
	port := network.MustParsePort("8123/tcp")
	for listen, want := range map[string]struct{ published, read string }{
		"127.0.0.1": {"127.0.0.1", "127.0.0.1"},
		"localhost": {"127.0.0.1", "127.0.0.1"},
		"::1":       {"::1", "::1"},
		"0.0.0.0":   {"", "0.0.0.0"},
		"::":        {"", "0.0.0.0"}, // both families
	} {
		e := &Engine{options: Options{Image: "i:1"}}
		arguments := []string{"serve", "m", "--host", listen, "--port", "8123", "--dtype", "half"}
		config, host, err := e.settings(deploy.Wanted{Port: 8123, Listen: listen, Arguments: arguments})
		if err != nil {
			t.Fatal(err)
		}
		bindings := host.PortBindings[port]
		if _, exposed := config.ExposedPorts[port]; !exposed || len(bindings) != 1 || bindings[0].HostPort != "8123" {
			t.Fatalf("%s: exposed %v, published %v", listen, config.ExposedPorts, host.PortBindings)
		}
		if at := bindings[0].HostIP; (want.published == "") == at.IsValid() || (at.IsValid() && at.String() != want.published) {
			t.Errorf("%s is published at %q, want %q", listen, at, want.published)
		}
		if inside := config.Cmd[3]; inside != "0.0.0.0" || arguments[3] != listen {
			t.Errorf("%s listens on %q in the container", listen, inside)
		}
		status := describe(deploy.Ref{}, container.InspectResponse{Config: config, HostConfig: host})
		if status.Port != 8123 || status.Listen != want.read || status.Arguments[3] != want.read {
			t.Errorf("%s is read as %+v", listen, status)
		}
	}
}

// What others made of a container is read as it is, and so is a container of the machine's own network.
func TestReadAddress(t *testing.T) {
	t.Parallel()
	port := network.MustParsePort("8000/tcp")
	loopback, all := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("0.0.0.0")
	for name, test := range map[string]struct {
		bindings network.PortMap
		want     []string
		port     int
	}{
		"the machine's network": {nil, []string{"--host", "0.0.0.0", "--port", "8000"}, 8000},
		"another port":          {network.PortMap{port: {{HostIP: loopback, HostPort: "9000"}}}, []string{"--host", "127.0.0.1", "--port", "9000"}, 9000},
		"also outside": {
			network.PortMap{port: {{HostIP: loopback, HostPort: "8000"}, {HostIP: all, HostPort: "8000"}}},
			[]string{"--host", "0.0.0.0", "--port", "8000"},
			8000,
		},
		"a port of the engine's choice": {network.PortMap{port: {{}}}, []string{"--host", "0.0.0.0", "--port", ""}, 0},
	} {
		config := &container.Config{Entrypoint: []string{"vllm"}, Cmd: []string{"--host", "0.0.0.0", "--port", "8000"}}
		status := describe(deploy.Ref{}, container.InspectResponse{Config: config, HostConfig: &container.HostConfig{PortBindings: test.bindings}})
		if !slices.Equal(status.Arguments, test.want) || status.Port != test.port {
			t.Errorf("%s: %q, port %d", name, status.Arguments, status.Port)
		}
	}
}

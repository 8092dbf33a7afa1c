package container

import (
	"context"
	"net/netip"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// insideAddress is where a server listens within its container, whose loopback no published port leads to.
const insideAddress = "0.0.0.0"

// publish describes a server's port, which has one number on the machine and in the container. Unless the server is to listen
// on loopback, it is published on all addresses of the machine.
func publish(listen string, port int) (network.PortSet, network.PortMap) {
	inside := tcp(port)
	address, err := netip.ParseAddr(listen)
	if err != nil { // localhost
		address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if address.IsUnspecified() {
		address = netip.Addr{} // of both families
	}
	return network.PortSet{inside: {}}, network.PortMap{inside: {{HostIP: address, HostPort: strconv.Itoa(port)}}}
}

// published returns a server's arguments with the address and port at which its machine publishes it. A container that somebody
// made with the machine's own network publishes nothing: its address is the server's.
func published(arguments []string, on *container.HostConfig) []string {
	port := vllm.ParseCommandLine(arguments).Port
	if on == nil || len(on.PortBindings[tcp(port)]) == 0 {
		return arguments
	}
	bindings := on.PortBindings[tcp(port)]
	widest := slices.IndexFunc(bindings, func(b network.PortBinding) bool { return !b.HostIP.IsLoopback() })
	binding := bindings[max(widest, 0)]
	listen := insideAddress
	if binding.HostIP.IsValid() {
		listen = binding.HostIP.String()
	}
	return withFlag(withFlag(arguments, "--host", listen), "--port", binding.HostPort)
}

func tcp(port int) network.Port {
	named, _ := network.PortFrom(uint16(port), network.TCP)
	return named
}

// withFlag replaces the value of a flag that is given.
func withFlag(arguments []string, flag, value string) []string {
	arguments = slices.Clone(arguments)
	if at := slices.Index(arguments, flag); at >= 0 && at+1 < len(arguments) {
		arguments[at+1] = value
	}
	return arguments
}

// HasNetwork tells whether containers can be published. With its bridge turned off (dockerd --bridge none) Docker starts
// them all the same, without a network.
func (e *Engine) HasNetwork(ctx context.Context) (bool, error) {
	if e.facts.Name == podman { // whose default network is made when it is needed
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_, err := e.api.NetworkInspect(ctx, network.NetworkBridge, client.NetworkInspectOptions{})
	if isNotFound(err) {
		return false, nil
	}
	return err == nil, failed(ctx, "look for the bridge network", err)
}

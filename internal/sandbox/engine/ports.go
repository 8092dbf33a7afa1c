package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/moby/moby/api/types/network"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// publishedPort forwards connections from a port of the machine to a container.
type publishedPort struct {
	inner    network.Port
	outer    int
	ip       netip.Addr
	listener net.Listener
	open     context.Context //nolint:containedctx // ends when the port is unpublished
	shut     context.CancelFunc
}

// hostPort reads a host port. The stand-in doesn't choose one, as the real engine does for 0.
func hostPort(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err == nil && n == 0 {
		err = strconv.ErrRange
	}
	return int(n), err
}

// publish opens a container's host ports. As in the real engine, ports that the
// container doesn't expose aren't published.
func (e *Engine) publish(c *container) ([]*publishedPort, error) {
	if c.host.NetworkMode.IsHost() || e.facts().NoBridge {
		return nil, nil
	}
	var ports []*publishedPort
	for inner, bindings := range c.host.PortBindings {
		if _, exposed := c.config.ExposedPorts[inner]; !exposed {
			continue
		}
		for _, binding := range bindings {
			port, _ := hostPort(binding.HostPort) // checkHostConfig has read it
			ip := binding.HostIP
			if !ip.IsValid() {
				ip = netip.IPv4Unspecified()
			}
			p, err := e.publishOne(c, inner, ip, port)
			if err != nil {
				e.unpublish(ports)
				return nil, err
			}
			ports = append(ports, p)
		}
	}
	return ports, nil
}

// inspectNetwork answers for the bridge, the only network that containers have.
func (e *Engine) inspectNetwork(w http.ResponseWriter, req *http.Request) error {
	name := req.PathValue("name")
	if name != network.NetworkBridge || e.facts().NoBridge {
		return refusal(http.StatusNotFound, "network %s not found", name)
	}
	return writeJSON(w, http.StatusOK, network.Inspect{Network: network.Network{Name: name, Driver: name, Scope: "local"}})
}

func (e *Engine) publishOne(c *container, inner network.Port, ip netip.Addr, port int) (*publishedPort, error) {
	endpoint := fmt.Sprintf("driver failed programming external connectivity on endpoint %s (%s)", c.plainName(), c.id)
	if !e.reserve(c, port) {
		return nil, refusal(http.StatusInternalServerError, "failed to set up container networking: %s: Bind for %s:%d failed: port is already allocated", endpoint, ip, port)
	}
	listen := e.cfg.Root.Listen
	if ip.IsUnspecified() {
		listen = e.cfg.Root.ListenAll
	}
	listener, err := listen(port)
	if err != nil {
		e.giveBack(port)
		if errors.Is(err, machinefs.ErrAddressInUse) {
			return nil, refusal(http.StatusInternalServerError, "failed to set up container networking: %s: failed to bind host port for %s:%d:%s:%d/tcp: address already in use", endpoint, ip, port, c.address, inner.Num())
		}
		return nil, err
	}
	p := &publishedPort{inner: inner, outer: port, ip: ip, listener: listener}
	p.open, p.shut = context.WithCancel(e.life)
	own := machinefs.Root(c.dir)
	accepting := e.background(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if !e.background(func() { p.forward(own, conn) }) {
				_ = conn.Close()
			}
		}
	})
	if !accepting {
		e.unpublish([]*publishedPort{p})
		return nil, errors.New("the engine is shutting down")
	}
	return p, nil
}

// reserve takes a host port for a container; false = another container has it.
func (e *Engine) reserve(c *container, port int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.reserved[port] != "" {
		return false
	}
	e.reserved[port] = c.id
	return true
}

func (e *Engine) giveBack(port int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.reserved, port)
}

func (e *Engine) unpublish(ports []*publishedPort) {
	for _, p := range ports {
		_ = p.listener.Close()
		p.shut()
		e.giveBack(p.outer)
	}
}

// forward does what docker-proxy does: the connection has been accepted, and is closed if
// nothing listens in the container.
func (p *publishedPort) forward(own machinefs.Root, outside net.Conn) {
	defer outside.Close()
	inside, err := own.Dial(p.open, int(p.inner.Num()))
	if err != nil {
		return
	}
	defer inside.Close()
	defer context.AfterFunc(p.open, func() { _, _ = outside.Close(), inside.Close() })()
	machinefs.Join(outside, inside)
}

// portMap is what inspect shows as Ports. The caller holds c.mu.
func (c *container) portMap() network.PortMap {
	ports := network.PortMap{}
	for port := range c.config.ExposedPorts {
		ports[port] = nil
	}
	for _, p := range c.ports {
		ports[p.inner] = append(ports[p.inner], network.PortBinding{HostIP: p.ip, HostPort: strconv.Itoa(p.outer)})
	}
	return ports
}

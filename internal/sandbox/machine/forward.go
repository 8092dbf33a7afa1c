package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

const forwardDialTime = 20 * time.Second

// forward serves `ssh -L` and `ssh -W`: a connection from the machine. It reaches only the
// machine's loopback and Options.Routes.
func (c *connection) forward(channel ssh.NewChannel) {
	var target struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(channel.ExtraData(), &target); err != nil || target.Port > 65535 {
		_ = channel.Reject(ssh.ConnectionFailed, "malformed request")
		return
	}
	address := net.JoinHostPort(target.Host, strconv.Itoa(int(target.Port)))
	ctx, cancel := context.WithTimeout(c.machine.ctx, forwardDialTime)
	defer cancel()
	switch {
	case slices.Contains(c.machine.routes, address):
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		c.bridge(channel, conn, err)
	case isLoopback(target.Host):
		conn, err := c.machine.root.Dial(ctx, int(target.Port))
		c.bridge(channel, conn, err)
	default:
		_ = channel.Reject(ssh.Prohibited,
			fmt.Sprintf("a machine in the sandbox has no way to the outside, not to %s either", address))
	}
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip.IsLoopback() || ip.IsUnspecified()
}

// forwardSocket forwards to the one unix socket of a machine, the container engine's, by
// its real path or the sandbox's.
func (c *connection) forwardSocket(channel ssh.NewChannel) {
	var target struct {
		Path     string
		Reserved string
		Unused   uint32
	}
	if err := ssh.Unmarshal(channel.ExtraData(), &target); err != nil {
		_ = channel.Reject(ssh.ConnectionFailed, "malformed request")
		return
	}
	socket := c.machine.root.DockerSocket()
	if target.Path != socket && target.Path != "/var/run/docker.sock" && target.Path != "/run/docker.sock" {
		_ = channel.Reject(ssh.Prohibited,
			"the container engine's is the one socket of a machine in the sandbox, not "+target.Path)
		return
	}
	facts := c.machine.Facts()
	if !facts.Docker || facts.DockerNeedsRoot && facts.User != "root" {
		_ = channel.Reject(ssh.ConnectionFailed, "open failed")
		return
	}
	ctx, cancel := context.WithTimeout(c.machine.ctx, forwardDialTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	c.bridge(channel, conn, err)
}

// bridge joins a channel to a connection, or rejects it if dialing failed.
func (c *connection) bridge(request ssh.NewChannel, conn net.Conn, dialErr error) {
	if dialErr != nil {
		reason := "connect failed"
		if errors.Is(dialErr, syscall.ECONNREFUSED) {
			reason = "Connection refused"
		}
		_ = request.Reject(ssh.ConnectionFailed, reason)
		return
	}
	defer conn.Close()
	channel, requests, err := request.Accept()
	if err != nil {
		return
	}
	defer channel.Close()
	stop := context.AfterFunc(c.machine.ctx, func() { _ = conn.Close() })
	defer stop()
	var work sync.WaitGroup
	work.Go(func() {
		ssh.DiscardRequests(requests) // ends with the channel
		_ = conn.Close()
	})
	machinefs.Join(conn, channel)
	_ = channel.Close()
	work.Wait()
}

package tool

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// dockerVersion is the command line's own version, which the engine's may differ from.
const dockerVersion = "27.5.1"

const dockerNotRunning = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"

// docker is as much of Docker's command line as connecting to the engine takes.
func docker(c *call) int {
	args := strings.Join(c.args, " ")
	switch {
	case args == "--version":
		c.printf("Docker version %s, build 9f9e405\n", dockerVersion)
		return 0
	case c.deniedDocker():
		return c.failf(1, "permission denied while trying to connect to the Docker daemon socket at "+
			"unix:///var/run/docker.sock: dial unix /var/run/docker.sock: connect: permission denied")
	case args == "system dial-stdio":
		return dialStdio(c)
	case args == "version":
		conn, err := c.dialDocker()
		if err != nil {
			return c.failf(1, dockerNotRunning)
		}
		_ = conn.Close()
		c.printf("Client:\n Version: %s\n", dockerVersion)
		return 0
	}
	return c.failf(1, "docker %s: not part of a sandbox machine, which has `docker system dial-stdio` and `docker version`: "+
		"use the Engine API", args)
}

// deniedDocker reports whether the user is outside the group that may use Docker.
func (c *call) deniedDocker() bool {
	return c.facts.DockerNeedsRoot && c.user() != "root"
}

func (c *call) dialDocker() (net.Conn, error) {
	return new(net.Dialer).DialContext(context.Background(), "unix", c.root.DockerSocket())
}

// dialStdio makes standard input and output a connection to the engine. The end
// of either direction is passed on by itself, as a hijacked stream needs it.
func dialStdio(c *call) int {
	conn, err := c.dialDocker()
	if err != nil {
		return c.failf(1, dockerNotRunning)
	}
	defer conn.Close()
	go machinefs.PassOn(conn, c.stdin) // ends with the process
	if _, err := io.Copy(c.stdout, conn); err != nil && !errors.Is(err, io.EOF) {
		return c.failf(1, "copying from the Docker daemon: %v", err)
	}
	return 0
}

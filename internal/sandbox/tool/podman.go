package tool

import "strings"

const podmanNotRunning = "Error: unable to connect to Podman socket: dial unix /run/podman/podman.sock: connect: no such file or directory"

// podman is as much of Podman's command line as connecting to its API takes.
func podman(c *call) int {
	args := c.args
	switch {
	case len(args) == 1 && (args[0] == "--version" || args[0] == "-v"):
		c.printf("podman version %s\n", c.facts.Podman)
		return 0
	case len(args) == 2 && args[0] == "system" && args[1] == "dial-stdio":
		if c.deniedDocker() { // a user's own Podman has another socket, which doesn't exist
			return c.failf(125, podmanNotRunning)
		}
		return dialStdio(c)
	}
	return c.failf(125, "podman %s: not part of a sandbox machine, which has `podman system dial-stdio`: use the API", strings.Join(args, " "))
}

// nvidiaCTK lists the devices of the container device interface, or gives Docker its runtime.
func nvidiaCTK(c *call) int {
	switch args := strings.Join(c.args, " "); args {
	case "cdi list":
	case "runtime configure --runtime=docker":
		return configureRuntime(c)
	default:
		return c.failf(1, "nvidia-ctk %s: not part of a sandbox machine, which has `cdi list` and `runtime configure --runtime=docker`", args)
	}
	if c.facts.NoGPURuntime {
		return c.failf(0, "INFO[0000] Found 0 CDI devices")
	}
	_ = c.failf(0, "INFO[0000] Found %d CDI devices", len(c.facts.GPUs)+1)
	for i := range c.facts.GPUs {
		c.printf("nvidia.com/gpu=%d\n", i)
	}
	c.printf("nvidia.com/gpu=all\n")
	return 0
}

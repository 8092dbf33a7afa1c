package tool

// outOfReach are programs that would change the computer instead of the machine: a
// machine's commands run with the rights of the sandbox's user.
var outOfReach = []string{
	"apt", "snap", "yum", "dnf",
	"service", "reboot", "shutdown", "poweroff", "halt",
	"modprobe", "rmmod", "mount", "umount", "su",
}

func refuse(c *call) int {
	return c.failf(1, "%s: not part of a sandbox machine: it would change the computer that the sandbox runs on", c.name)
}

package tool

// outOfReach are programs that would change the computer the sandbox runs on
// rather than the machine it plays: commands on a machine run with the tester's
// own rights.
var outOfReach = []string{
	"apt", "snap", "yum", "dnf",
	"service", "reboot", "shutdown", "poweroff", "halt",
	"modprobe", "rmmod", "mount", "umount", "su",
}

func refuse(c *call) int {
	return c.failf(1, "%s: not part of a sandbox machine: it would change the computer that the sandbox runs on", c.name)
}

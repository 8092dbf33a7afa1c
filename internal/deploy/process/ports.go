package process

import (
	"context"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// OpenPort is a port that a server has open on all the machine's addresses besides its own, and why: what the machine's firewall
// said when it was to close it, "" where the server is public and the port was left alone.
type OpenPort struct {
	Number int
	Why    string
}

// Ports looks at the ports that a server opened besides its own. Those of one that listens on loopback are closed in the machine's
// firewall as soon as they are opened, and here once more; open are those that nevertheless stay open, closed the others. Of
// releases that are not known to open any it says nothing.
func (h *Host) Ports(ctx context.Context, ref deploy.Ref) (open []OpenPort, closed []int, err error) {
	output, err := h.run(ctx, "look at the ports of the server "+ref.Name, launcherScript, "ports", ref.Directory)
	open, closed = parsePorts(output, ref.Port)
	return open, closed, err
}

// portsFile says what is to become of such ports; it is there where there may be some.
func portsFile(release, listen string) []file {
	address, err := netip.ParseAddr(listen)
	switch {
	case !vllm.OpensPort(release):
		return nil
	case listen == "" || listen == "localhost" || err == nil && address.IsLoopback():
		return []file{{"ports", "close\n"}}
	}
	return []file{{"ports", "leave\n"}}
}

// parsePorts reads what the launcher says of ports, but for the server's own. One that is open for one of IPv4 and IPv6 is open.
func parsePorts(output string, own int) (open []OpenPort, closed []int) {
	for line := range strings.Lines(output) {
		fields := strings.SplitN(strings.TrimSpace(line), " ", 3)
		if len(fields) < 2 {
			continue
		}
		port, err := strconv.Atoi(fields[1])
		switch {
		case err != nil || port == own:
		case fields[0] == "closed" && !slices.Contains(closed, port):
			closed = append(closed, port)
		case fields[0] == "open":
			open = append(open, OpenPort{port, strings.Join(fields[2:], "")})
		}
	}
	isOpen := func(port int) bool {
		return slices.ContainsFunc(open, func(o OpenPort) bool { return o.Number == port })
	}
	return open, slices.DeleteFunc(closed, isOpen)
}

// parseLeft reads which rules may be left of a server that has ended, and says so; "" for none.
func parseLeft(output, directory string) string {
	var rules []string
	for line := range strings.Lines(output) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "left" {
			rules = append(rules, fmt.Sprintf("a rule of %s for port %s that could not be deleted", fields[1], fields[2]))
		}
	}
	if len(rules) == 0 {
		return ""
	}
	return fmt.Sprintf("%s (its comment is shopper:%s)", strings.Join(rules, " and "), path.Base(directory))
}

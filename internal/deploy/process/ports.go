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

// Ports implements [deploy.Runtime]. If the server listens on loopback, the launcher closes its other ports in the machine's
// firewall as soon as they open; Ports makes it try again. It returns none for a release that is not known to open any.
func (h *Host) Ports(ctx context.Context, ref deploy.Ref) (open []deploy.OpenPort, closed []int, err error) {
	output, err := h.run(ctx, "look at the ports of the server "+ref.Name, launcherScript, "ports", ref.Directory)
	open, closed = parsePorts(output, ref.Port)
	return open, closed, err
}

// portsFile is the file that has the launcher close those ports or leave them open, if the release may open any.
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

// parsePorts parses the launcher's output, without the server's own port. A port that is open for IPv4 or IPv6 is open.
func parsePorts(output string, own int) (open []deploy.OpenPort, closed []int) {
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
			open = append(open, deploy.OpenPort{Number: port, Why: strings.Join(fields[2:], "")})
		}
	}
	return open, slices.DeleteFunc(closed, func(port int) bool {
		return slices.ContainsFunc(open, func(o deploy.OpenPort) bool { return o.Number == port })
	})
}

// parseLeft describes the firewall rules that may be left of a server that has ended; "" for none.
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

package tool

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ss lists the ports on which sshd, and processes on the machine's loopback, listen. It has
// -l -t -n -p -H and a filter `sport = :PORT`.
func ss(c *call) int {
	order, problem := parseSS(c.args)
	if problem != "" {
		return c.failf(255, "ss: %s", problem)
	}
	ports, err := c.root.Ports()
	if err != nil {
		return c.failf(1, "ss: %v", err)
	}
	slices.Sort(ports)
	if !order.noHeader {
		c.printf("%-6s %-6s %-6s %18s %18s %s\n",
			"State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port", "Process")
	}
	c.printSocket(order, "0.0.0.0", 22, "")
	for _, port := range slices.Compact(ports) {
		if owner, listening := c.owner(port); listening {
			c.printSocket(order, "127.0.0.1", port, owner)
		}
	}
	return 0
}

type ssOrder struct {
	noHeader, processes bool
	port                int // 0 = all
}

var sportFilter = regexp.MustCompile(`^\(?\s*sport\s*(?:=|==|eq)\s*:?(\d+)\s*\)?$`)

func parseSS(args []string) (order ssOrder, problem string) {
	known := []string{"-l --listening", "-t --tcp", "-n --numeric", "-p --processes", "-H --no-header", "-a", "-4", "-6", "-e", "-O"}
	filter, bad := getopt(args, known, func(name, _ string) {
		order.processes = order.processes || name == "-p"
		order.noHeader = order.noHeader || name == "-H"
	}, func(string) bool { return false })
	if bad != nil {
		return order, bad.gnu()
	}
	if len(filter) > 0 {
		text := strings.TrimSpace(strings.Join(filter, " "))
		match := sportFilter.FindStringSubmatch(text)
		if match == nil {
			return order, fmt.Sprintf("bison bellows (while parsing filter): \"syntax error!\" Sorry. (%s)", text)
		}
		order.port, _ = strconv.Atoi(match[1])
	}
	return order, ""
}

func (c *call) printSocket(order ssOrder, address string, port int, owner string) {
	if order.port != 0 && order.port != port {
		return
	}
	if !order.processes {
		owner = ""
	}
	line := fmt.Sprintf("LISTEN 0      128    %18s %18s %s", address+":"+strconv.Itoa(port), "0.0.0.0:*", owner)
	c.printf("%s\n", strings.TrimRight(line, " "))
}

// owner returns the process that listens on a port, in ss's notation. Nothing listens on a
// socket that a killed process left behind.
func (c *call) owner(port int) (owner string, listening bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := c.root.Dial(ctx, port)
	if err != nil {
		return "", false
	}
	defer conn.Close()
	pid := peerPID(conn)
	if pid == 0 {
		return "", true
	}
	name := "docker-proxy" // a published port is the engine's, which is in the sandbox's own process
	if slices.Contains(c.root.Processes(), pid) {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		name = strings.TrimSpace(string(comm))
	}
	return fmt.Sprintf("users:((%q,pid=%d,fd=7))", name, pid), true
}

package tool

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	recorded "github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// iptables, which is also ip6tables, records rules for TCP ports in the chain INPUT: no packet is filtered, and the
// computer's firewall isn't touched. It has -I, -C, -D and -S. In containers it refuses.
func iptables(c *call) int {
	order, complaint := parseIptables(c.name, c.args)
	words := recorded.Iptables(c.name, "")
	if complaint == nil && (c.user() != "root" || c.facts.Container) {
		complaint = &words.Refused
	}
	if complaint != nil {
		return c.failf(complaint.Exit, "%s", complaint.Says)
	}
	if order.command == "-S" {
		rules, err := c.root.Rules(c.name)
		if err != nil {
			return c.failf(1, "%s: %v", c.name, err)
		}
		c.printf("%s\n", strings.Join(append([]string{words.Policy}, rules...), "\n"))
		return 0
	}
	err := c.root.ChangeRules(c.name, order.change)
	if errors.Is(err, errNoSuchRule) {
		return c.failf(words.NoSuchRule.Exit, "%s", words.NoSuchRule.Says)
	}
	if err != nil {
		return c.failf(1, "%s: %v", c.name, err)
	}
	return 0
}

var errNoSuchRule = errors.New("no such rule")

// iptablesOrder is a parsed command line.
type iptablesOrder struct{ command, rule string }

func (o iptablesOrder) change(rules []string) ([]string, error) {
	at := slices.Index(rules, o.rule)
	switch {
	case o.command == "-I":
		return slices.Insert(rules, 0, o.rule), nil
	case at < 0:
		return nil, errNoSuchRule
	case o.command == "-D":
		return slices.Delete(rules, at, at+1), nil
	}
	return rules, nil
}

func parseIptables(program string, args []string) (order iptablesOrder, complaint *recorded.Complaint) {
	parts := map[string]string{}
	not := ""
	for len(args) > 0 {
		var option, value string
		option, value, args = nextOption(args)
		switch option {
		case "-w":
		case "!":
			not = "! "
			continue
		case "-I", "-C", "-D", "-S":
			order.command = option
			parts["chain"] = value
		case "-i":
			parts["in"] = " " + not + "-i " + value
		case "-p", "-m", "-j":
			parts[option] = value
		case "--dport":
			if port, err := strconv.Atoi(value); err != nil || port < 0 || port > 65535 {
				return order, new(recorded.Iptables(program, value).BadPort)
			}
			parts["port"] = value
		case "--comment":
			parts["comment"] = ` -m comment --comment "` + value + `"`
		default:
			return order, new(recorded.Iptables(program, option).UnknownOption)
		}
		not = ""
	}
	order.rule = strings.NewReplacer("{in}", parts["in"], "{port}", parts["port"], "{comment}", parts["comment"], "{target}", parts["-j"]).
		Replace(recorded.Iptables(program, "").Rule)
	whole := parts["chain"] == "INPUT" && (order.command == "-S" || parts["-p"] == "tcp" && parts["port"] != "" && parts["-j"] == "DROP")
	if !whole {
		return order, &recorded.Complaint{Exit: 2, Says: program + ": not part of a sandbox machine, which has DROP for TCP ports in INPUT"}
	}
	return order, nil
}

// nextOption returns the next option and its value. That of -w is optional, and "!" has none.
func nextOption(args []string) (option, value string, rest []string) {
	option, rest = args[0], args[1:]
	if option == "!" || len(rest) == 0 {
		return option, "", rest
	}
	if _, err := strconv.Atoi(rest[0]); option == "-w" && err != nil {
		return option, "", rest
	}
	return option, rest[0], rest[1:]
}

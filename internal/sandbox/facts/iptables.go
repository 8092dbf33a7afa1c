package facts

import "strings"

// A Firewall is what iptables and ip6tables print.
type Firewall struct {
	Recorded string `json:"recorded"`
	Source   string `json:"source"`
	Version  string `json:"version"`
	// Refused is for users who may not change the rules, including root in most containers.
	Refused       Complaint `json:"refused"`
	NoSuchRule    Complaint `json:"no_such_rule"`
	BadPort       Complaint `json:"bad_port"`
	UnknownOption Complaint `json:"unknown_option"`
	// Policy and Rule are lines of -S: of the chain INPUT itself, and of a rule about a TCP port.
	Policy string `json:"policy"`
	Rule   string `json:"rule"`
}

// A Complaint is an exit code and what is written to standard error.
type Complaint struct {
	Exit int    `json:"exit"`
	Says string `json:"says"`
}

// Iptables returns what "iptables" or "ip6tables" prints; word is the wrong word of a command line.
func Iptables(program, word string) Firewall {
	var f Firewall
	_ = load("iptables.json", &f) // TestDataIsRead
	fill := strings.NewReplacer("{program}", program, "{version}", f.Version, "{word}", word)
	for _, c := range []*Complaint{&f.Refused, &f.NoSuchRule, &f.BadPort, &f.UnknownOption} {
		c.Says = fill.Replace(c.Says)
	}
	return f
}

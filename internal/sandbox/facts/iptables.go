package facts

import "strings"

// A Firewall is what iptables says; its ip6tables says the same under its own name.
type Firewall struct {
	Recorded string `json:"recorded"`
	Source   string `json:"source"`
	Version  string `json:"version"`
	// Refused is the answer to whoever may not change the rules, root in most containers included.
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

// Iptables returns the words of "iptables" or "ip6tables"; word is the one that is complained of.
func Iptables(program, word string) Firewall {
	var f Firewall
	_ = load("iptables.json", &f) // TestDataIsRead
	fill := strings.NewReplacer("{program}", program, "{version}", f.Version, "{word}", word)
	for _, c := range []*Complaint{&f.Refused, &f.NoSuchRule, &f.BadPort, &f.UnknownOption} {
		c.Says = fill.Replace(c.Says)
	}
	return f
}

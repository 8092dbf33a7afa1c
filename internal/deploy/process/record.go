package process

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// record is the file beside a server that describes it without its secrets.
type record struct {
	deploy.Wanted

	Program string
	// Names are the names of all variables, those of secrets included: they are read from the running process's environment.
	Names []string
}

// newRecord is the content of a record, one line.
func newRecord(wanted deploy.Wanted, program string) (string, error) {
	r := record{Wanted: wanted, Program: program, Names: slices.Sorted(maps.Keys(wanted.Environment))}
	r.Environment = maps.Clone(wanted.Environment)
	delete(r.Environment, vllm.EnvAPIKey)
	delete(r.Environment, vllm.EnvHFToken)
	data, err := json.Marshal(r)
	return string(data) + "\n", err
}

// variablePrefix is what the launcher prefixes the names of a server's variables with.
const variablePrefix = "SERVER_"

// encodeEnvironment encodes variables for the launcher, one per line with its value escaped. Longer names come first, and the
// launcher removes the prefix in reverse order: A leaves SERVER_A before the variable of that name needs it.
func encodeEnvironment(variables map[string]string) string {
	var text strings.Builder
	names := slices.SortedFunc(maps.Keys(variables), func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	for _, name := range names {
		text.WriteString(name + "=" + escape(variables[name]) + "\n")
	}
	return text.String()
}

// escape escapes a text for printf's %b: all but letters, digits and a few harmless characters. The result is one line.
func escape(content string) string {
	var text strings.Builder
	for i := range len(content) {
		b := content[i]
		if b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("_-./: ", b) >= 0 {
			text.WriteByte(b)
			continue
		}
		fmt.Fprintf(&text, `\0%03o`, b)
	}
	return text.String()
}

var identityPattern = regexp.MustCompile(`^([1-9][0-9]{0,9}) ([0-9]{1,20})\s*$`)

// parseIdentity turns "PID STARTTIME" into an ID, "" for anything else.
func parseIdentity(line string) string {
	found := identityPattern.FindStringSubmatch(line)
	if found == nil {
		return ""
	}
	return found[1] + "-" + found[2]
}

// observed is what the launcher reports about one server.
type observed struct {
	directory string
	id        string
	state     deploy.State
	exitCode  int
	restarts  int
	quick     int
	settled   bool
	started   time.Time
	record    record
}

// parseStatus parses the launcher's output. It ignores lines that it doesn't know.
func parseStatus(output string) observed {
	facts := deploy.Facts(output)
	o := observed{
		id: parseIdentity(facts["identity"]), state: deploy.State(facts["state"]), exitCode: number(facts["exit"], 0),
		restarts: number(facts["restarts"], 0), quick: number(facts["restarts"], 1), settled: facts["settled"] != "",
	}
	if seconds, err := strconv.ParseInt(facts["started"], 10, 64); err == nil && seconds > 0 {
		o.started = time.Unix(seconds, 0).UTC()
	}
	if err := json.Unmarshal([]byte(facts["record"]), &o.record); err != nil {
		o.record = record{}
	}
	return o
}

// parseList parses the status of several servers.
func parseList(base, output string) []observed {
	var list []observed
	for _, part := range strings.Split("\n"+output, "\nserver ")[1:] {
		name, rest, _ := strings.Cut(part, "\n")
		if !namePattern.MatchString(name) || len(list) == maxServers {
			continue
		}
		o := parseStatus(rest)
		o.directory = base + "/servers/" + name
		list = append(list, o)
	}
	return list
}

// number is a field of a text as a number, 0 if it is none.
func number(text string, index int) int {
	fields := strings.Fields(text)
	if index >= len(fields) {
		return 0
	}
	value, err := strconv.Atoi(fields[index])
	if err != nil {
		return 0
	}
	return value
}

const (
	// maxServers is how many servers of one machine are looked at.
	maxServers = 50
	// A server is in a restart loop after this many restarts, each less than a minute after the start before it.
	loopRestarts = 3
)

// status converts what was observed.
func (o observed) status(ref deploy.Ref) deploy.Status {
	ref.Name, ref.Owner = o.record.Name, o.record.Owner
	ref.Port, ref.Listen = o.record.Port, o.record.Listen
	ref.Runtime = deploy.Process
	s := deploy.Status{
		Ref: ref, ExitCode: o.exitCode, RestartCount: o.restarts, RestartLoop: o.quick >= loopRestarts,
		StartedAt: o.started, Arguments: o.record.Arguments, Environment: o.record.Environment,
		SpecHash: o.record.Hash, APIKeyPrint: o.record.APIKeyPrint, HFTokenPrint: o.record.HFTokenPrint,
		RestartsItself: o.settled, Note: o.record.Note, HeldBefore: o.record.HeldBefore, State: o.state,
	}
	known := []deploy.State{deploy.Running, deploy.Restarting, deploy.Orphaned, deploy.Exited, deploy.Gone}
	if !slices.Contains(known, o.state) {
		s.State = deploy.Unknown
	}
	return s
}

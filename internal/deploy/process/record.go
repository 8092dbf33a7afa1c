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

// record is what is kept beside a server, to recognize it later: the server without its secrets. Names are the names of all
// variables, secrets included, by which they are found again in the environment of the running process.
type record struct {
	deploy.Wanted

	Program string
	Names   []string
}

func newRecord(wanted deploy.Wanted, program string) record {
	r := record{Wanted: wanted, Program: program, Names: slices.Sorted(maps.Keys(wanted.Environment))}
	r.Environment = maps.Clone(wanted.Environment)
	delete(r.Environment, vllm.EnvAPIKey)
	delete(r.Environment, vllm.EnvHFToken)
	return r
}

// text is the record in one line.
func (r record) text() (string, error) {
	data, err := json.Marshal(r)
	return string(data) + "\n", err
}

// variablePrefix is what the launcher keeps a server's variables under.
const variablePrefix = "SERVER_"

// encodeEnvironment writes variables for the launcher: one a line, values escaped for printf's %b, in which nothing but letters,
// digits and a few harmless signs stands for itself. The launcher gives them back their names from the last to the first, so
// that one whose own name has the prefix comes after the one whose place it takes.
func encodeEnvironment(variables map[string]string) string {
	var text strings.Builder
	names := slices.SortedFunc(maps.Keys(variables), func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	for _, name := range names {
		text.WriteString(name + "=" + escape(variables[name]) + "\n")
	}
	return text.String()
}

// escape writes a text for printf's %b, in one line.
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

// parseIdentity reads "PID STARTTIME" into an id.
func parseIdentity(line string) (string, bool) {
	found := identityPattern.FindStringSubmatch(line)
	if found == nil {
		return "", false
	}
	return found[1] + "-" + found[2], true
}

// observed are the launcher's facts about one server.
type observed struct {
	directory string
	id        string
	state     string
	exitCode  int
	restarts  int
	quick     int
	settled   bool
	started   time.Time
	record    record
}

// parseStatus reads what the launcher prints. Lines that it doesn't know are left out.
func parseStatus(output string) observed {
	var o observed
	for line := range strings.Lines(output) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		switch key {
		case "identity":
			if id, ok := parseIdentity(value); ok {
				o.id = id
			}
		case "state":
			o.state = value
		case "exit":
			o.exitCode = number(value, 0)
		case "restarts":
			o.restarts, o.quick = number(value, 0), number(value, 1)
		case "settled":
			o.settled = true
		case "started":
			if seconds, err := strconv.ParseInt(value, 10, 64); err == nil && seconds > 0 {
				o.started = time.Unix(seconds, 0).UTC()
			}
		case "record":
			if err := json.Unmarshal([]byte(value), &o.record); err != nil {
				o.record = record{}
			}
		}
	}
	return o
}

// parseList reads the status of several servers.
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
	// maxServers bounds how many servers of one machine are looked at.
	maxServers = 50
	// A server that was started again this often, each time to end within a minute, is in a restart loop.
	loopRestarts = 3
)

// status puts facts into the shared form.
func (o observed) status(ref deploy.Ref) deploy.Status {
	ref.Name, ref.Owner = o.record.Name, o.record.Owner
	ref.Port, ref.Listen = o.record.Port, o.record.Listen
	ref.Runtime = deploy.Process
	s := deploy.Status{
		Ref: ref, ExitCode: o.exitCode, RestartCount: o.restarts, RestartLoop: o.quick >= loopRestarts,
		StartedAt: o.started, Arguments: o.record.Arguments, Environment: o.record.Environment,
		SpecHash: o.record.Hash, APIKeyPrint: o.record.APIKeyPrint, HFTokenPrint: o.record.HFTokenPrint,
		RestartsItself: o.settled, Note: o.record.Note, HeldBefore: o.record.HeldBefore, State: deploy.Unknown,
	}
	known := []deploy.State{deploy.Running, deploy.Restarting, deploy.Orphaned, deploy.Exited, deploy.Gone}
	if state := deploy.State(o.state); slices.Contains(known, state) {
		s.State = state
	}
	return s
}

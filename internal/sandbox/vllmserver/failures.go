package vllmserver

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// stage is the part of a start in which a failure occurs.
type stage string

const (
	stageWhole     stage = ""          // as it was recorded, from the first line on
	stageContainer stage = "container" // the container engine reports it, vLLM never runs
	stageBind      stage = "bind"      // the API server binds its port
	stageConfig    stage = "config"    // the API server reads the model's configuration
	stageEngine    stage = "engine"    // the engine's processes start
	stageDevice    stage = "device"    // the engine opens the GPUs
	stageWeights   stage = "weights"   // the engine loads the weights
	stageCache     stage = "cache"     // the engine sizes the KV cache
	stageEnd       stage = "end"       // the API server begins to serve
)

// Failure is a way for a start to fail, for machinefs.VLLM.Fail.
type Failure struct {
	// Name is the row's name, such as "out_of_memory".
	Name string
	// Message is the line that says what was wrong, as it appears in the log.
	Message string
	// Container is true for a failure that a container engine reports instead of starting
	// the container. A server without an engine prints it and exits.
	Container bool
}

// Failures returns the failures that have their own names, in a fixed order. The figures
// in their messages are examples. [FindFailure] also finds recordings.
func Failures() []Failure {
	rows := append(slices.Clone(named().Rows), unrecorded().Failures...)
	failures := make([]Failure, 0, len(rows))
	for _, row := range rows {
		failures = append(failures, row.failure())
	}
	return failures
}

// FindFailure returns the failure with a name of Failures, or of a recording, such as
// "truncated-weights".
func FindFailure(name string) (Failure, bool) {
	row, ok := findRow(name)
	return row.failure(), ok
}

// row is a failure: a recording in which some words are replaced, or lines that could not
// be recorded.
type row struct {
	Name  string   `json:"name"`
	At    stage    `json:"at"`
	Lines []string `json:"lines"`
	// Values are example values, by their names in Lines or Words.
	Values map[string]string `json:"values"`

	Recording string `json:"recording"`
	// Words are the recording's words that values replace, by name.
	Words map[string]string `json:"words"`
}

// named are the rows that are recordings, and the words that differ between runs in
// recordings without a row.
var named = sync.OnceValue(func() (all struct {
	About string                       `json:"about"`
	Rows  []row                        `json:"rows"`
	Words map[string]map[string]string `json:"words"`
},
) {
	_ = facts.Decode(facts.Named(), &all) // TestPatternsOfTheFailureTable shows that it can be read
	return all
})

// unrecordedFacts is what could not be recorded: lines that a start prints on GPUs, failures
// for Failures, and others.
type unrecordedFacts struct {
	LoopbackOnly struct {
		Since string `json:"since"` // the first release that listens nowhere else
	} `json:"loopback_only"`
	Start []struct {
		Before   string `json:"before"`
		After    string `json:"after"`
		Line     string `json:"line"`
		Compiled bool   `json:"compiled"` // not with --enforce-eager
	} `json:"start"`
	Failures []row `json:"failures"`
	Refusals []row `json:"refusals"`
}

var unrecorded = sync.OnceValue(func() unrecordedFacts {
	var all unrecordedFacts
	_ = json.Unmarshal(facts.Unrecorded(), &all) // a part of the program
	return all
})

func findRow(name string) (row, bool) {
	all := unrecorded()
	for _, rows := range [][]row{named().Rows, all.Failures, all.Refusals} {
		for _, r := range rows {
			if r.Name == name {
				return r, true
			}
		}
	}
	words := named().Words[name]
	return row{Name: name, Recording: name, Words: words, Values: words}, slices.Contains(facts.Failures(), name)
}

func (r row) failure() Failure {
	f := Failure{Name: r.Name, Container: r.At == stageContainer}
	text := r.Lines
	if r.Recording != "" {
		if run, ok := facts.Failure(DefaultVersion, r.Recording); ok {
			text = causeOf(run)
		}
	}
	if text = r.fill(text, nil); len(text) > 0 {
		f.Message = text[len(text)-1]
		if i := slices.IndexFunc(text, func(l string) bool { return isCause.MatchString(l) }); i >= 0 {
			f.Message = text[i]
		}
		if f.Container {
			f.Message = strings.Join(text, "\n")
		}
	}
	return f
}

var (
	// isCause matches a line with the cause of a failure.
	isCause = regexp.MustCompile(`^(?:  Value error, |OSError: You are|[\w.]+(?:Error|Exception): )`)
	// exception matches the first of a traceback's last lines.
	exception = regexp.MustCompile(`^(?:\([^)]*\) )?(?:ERROR [^\]]*\] )?([\w.]+(?:Error|Exception): .*)`)
	// consequence matches lines of the processes above the failing one.
	consequence = regexp.MustCompile(`Engine core initialization failed|WorkerProc initialization failed|1 validation error for`)
)

// causeOf is the line of a recorded failure with its cause.
func causeOf(run facts.Run) []string {
	lines := strings.Split(strings.TrimSuffix(run.Log, "\n"), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "  Value error, ") {
			return lines[i : i+1]
		}
		if m := exception.FindStringSubmatch(line); len(m) == 2 && !consequence.MatchString(m[1]) {
			return m[1:]
		}
	}
	return lines[len(lines)-1:] // argparse's
}

// fill replaces the row's words by values, or by its examples if there are none.
func (r row) fill(lines []string, values map[string]string) []string {
	var pairs []string
	for name, example := range r.Values {
		word, ok := r.Words[name]
		if !ok {
			word = "{" + name + "}"
		}
		if value, given := values[name]; given {
			example = value
		}
		pairs = append(pairs, word, example)
	}
	for name, value := range values {
		if _, done := r.Values[name]; !done {
			pairs = append(pairs, "{"+name+"}", value)
		}
	}
	replacer := strings.NewReplacer(pairs...)
	filled := make([]string, 0, len(lines))
	for _, line := range lines {
		filled = append(filled, replacer.Replace(line))
	}
	return filled
}

// startError is a start that failed: what its processes print, and its exit code.
type startError struct {
	lines []line
	exit  int
}

func (e *startError) Error() string { return "the start failed" }

// templates are the recordings with the tracebacks of failures that were not recorded.
var templates = map[stage]string{
	stageBind: "port-taken", stageConfig: "too-long", stageEnd: "port-taken",
	stageDevice: "context-too-long-for-kv", stageWeights: "context-too-long-for-kv", stageCache: "context-too-long-for-kv",
}

// fail is the failure of a row, with values (name, value, …) for its words. It has the lines
// from the failure on.
func (r *run) fail(name string, values ...string) error {
	found, ok := findRow(name)
	if !ok {
		return fmt.Errorf("RuntimeError: the sandbox knows no failure named %q", name)
	}
	given := map[string]string{}
	for i := 0; i+1 < len(values); i += 2 {
		given[values[i]] = values[i+1]
	}
	run, _ := facts.Failure(r.place.version, cmp.Or(found.Recording, templates[found.At]))
	lines := tail(r.read(run))
	if found.Recording == "" {
		lines = replaceCause(lines, causeOf(run)[0], found.Lines)
	}
	return &startError{lines: found.fillLines(lines, given), exit: run.Exit}
}

// whole is a recorded failure from its first line on.
func (r *run) whole(recording string) *startError {
	rec, _ := facts.Failure(r.place.version, recording)
	return &startError{lines: r.read(rec), exit: rec.Exit}
}

func (r row) fillLines(lines []line, values map[string]string) []line {
	for i := range lines {
		lines[i].text = r.fill([]string{lines[i].text}, values)[0]
	}
	return lines
}

// tail are the lines of a failed start from its failure on.
func tail(lines []line) []line {
	for i, line := range lines {
		if strings.HasPrefix(line.text, "Traceback ") || strings.Contains(line.text, ") ERROR ") || strings.HasPrefix(line.text, "usage: ") {
			return slices.Clone(lines[i:])
		}
	}
	return lines
}

// replaceCause replaces the last lines of tracebacks, and keeps their prefixes.
func replaceCause(lines []line, cause string, with []string) []line {
	var out []line
	for i, l := range lines {
		switch prefix, rest, found := strings.Cut(l.text, cause); {
		case found && rest == "":
			for _, text := range strings.Split(strings.Join(with, "\n"), "\n") {
				out = append(out, line{prefix + text, l.at})
			}
		case i+1 < len(lines) && consequence.MatchString(l.text) && lines[i+1].text == cause: // pydantic's heading
		case strings.HasPrefix(l.text, "    For further information visit https://errors.pydantic.dev/"):
		default:
			out = append(out, l)
		}
	}
	return out
}

// Package facts has what is known of real programs, clouds, GPUs and models, in files
// that README.md describes. Each recorded release of vLLM has a folder. The files are
// part of the program, and tests show that they can be read: no function returns an
// error.
package facts

import (
	"bytes"
	"embed"
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"
)

//go:embed vllm clouds engines nvidia.json models.json iptables.json
var files embed.FS

// A Flag is an option of `vllm serve`, or its positional argument.
type Flag struct {
	// Spellings are in argparse's order; the positional argument has no dashes.
	Spellings []string `json:"flags"`
	// Takes is "value", "switch", "switch with --no-", or argparse's action.
	Takes string `json:"takes"`
	// Nargs is nil for one value, 0 for none, "?" for at most one, "+" for several.
	Nargs any `json:"nargs"`
	// Choices are the values that are accepted; nil for all.
	Choices []any `json:"choices"`
	// Default is the default if JSON can express it (a number is a json.Number), else
	// Python's repr of it.
	Default any `json:"default"`
}

// A Run is one run of vLLM, from its start to its end.
type Run struct {
	Argv []string `json:"argv"`
	// Env are the variables that were set, or unset if nil.
	Env map[string]*string `json:"env"`
	// Exit is the exit code.
	Exit int `json:"exit"`
	// Seconds is how long the start took, to ready or to its failure.
	Seconds float64 `json:"seconds"`
	// Log is standard output and standard error together.
	Log string `json:"-"`
	// Release is the release that was recorded.
	Release string `json:"-"`
}

// An Exchange is a request to a server and its answer. The server serves `demo`;
// its API key is [Key].
type Exchange struct {
	Request struct {
		Method string `json:"method"`
		Path   string `json:"path"`
		// Body is a string as it was sent, or a value that was sent as JSON.
		Body json.RawMessage `json:"body"`
		// Key is "right", "wrong" or "none".
		Key     string            `json:"key"`
		Headers map[string]string `json:"headers"`
	} `json:"request"`
	Answer struct {
		// Status is 0 where no answer came.
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
		Body    json.RawMessage   `json:"body"`
	} `json:"answer"`
}

// Key is the API key of every recorded server.
const Key = "sk-recorded-0123456789"

// Releases are the recorded releases of vLLM, oldest first.
func Releases() []string {
	entries, _ := files.ReadDir("vllm")
	var releases []string
	for _, entry := range entries {
		if entry.IsDir() {
			releases = append(releases, entry.Name())
		}
	}
	slices.SortFunc(releases, Compare)
	return releases
}

// Flags are the options of a release's `vllm serve`.
func Flags(release string) []Flag { return read[[]Flag](release, "flags.json") }

// Exchanges are the requests to a server of the release, with its answers.
func Exchanges(release string) []Exchange { return read[[]Exchange](release, "http.json") }

// Runs are the names of servers of [Ended] that were sent requests.
func Runs(release string) []string {
	return slices.DeleteFunc(names(release, "runs", ".http.json"), func(name string) bool { return len(Asked(release, name)) == 0 })
}

// names are the files in a folder of a release, which may not exist, without their suffix.
func names(release, folder, suffix string) []string {
	var found []string
	entries, _ := files.ReadDir(path.Join("vllm", release, folder))
	for _, entry := range entries {
		if name, ok := strings.CutSuffix(entry.Name(), suffix); ok {
			found = append(found, name)
		}
	}
	return found
}

// Asked are the requests to such a server, all without a key, with its answers. Most
// bodies were cut off after 4,000 characters.
func Asked(release, name string) []Exchange {
	var exchanges []Exchange
	for _, e := range read[[]struct {
		Request []json.RawMessage `json:"request"` // method, path, body
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
	}](release, path.Join("runs", name+".http.json")) {
		if len(e.Request) != 3 {
			continue
		}
		var x Exchange
		_ = json.Unmarshal(e.Request[0], &x.Request.Method) // recorded JSON
		_ = json.Unmarshal(e.Request[1], &x.Request.Path)
		x.Request.Body, x.Request.Key = e.Request[2], "none"
		x.Answer.Status, x.Answer.Headers, x.Answer.Body = e.Status, e.Headers, json.RawMessage(e.Body)
		if !json.Valid(x.Answer.Body) {
			x.Answer.Body, _ = json.Marshal(e.Body) // a string
		}
		exchanges = append(exchanges, x)
	}
	return exchanges
}

// Start is a start that succeeded, and its end after SIGTERM.
func Start(release string, eager bool) Run {
	name := "serve"
	if eager {
		name = "serve-eager"
	}
	start, _ := run(release, name)
	return start
}

// Ready is the line that ends a successful start.
const Ready = "Application startup complete."

// Failures are the names of the failed starts of all releases.
func Failures() []string {
	var all []string
	for _, release := range Releases() {
		all = append(all, names(release, "failures", ".log")...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Failure is a start that failed, by its name.
func Failure(release, name string) (Run, bool) { return run(release, path.Join("failures", name)) }

// Ended is a server that was disturbed after its start, such as "engine-killed-ready".
func Ended(release, name string) (Run, bool) { return run(release, path.Join("runs", name)) }

// Processes is the process tree of a server that is ready, as ps prints it, and its
// sockets.
func Processes(release string) string {
	_, data := find(release, "processes.txt")
	return string(data)
}

// Unrecorded is the file of messages that need a GPU or the Hugging Face hub, and could
// not be recorded.
func Unrecorded() []byte {
	data, _ := files.ReadFile("vllm/unrecorded.json")
	return data
}

// Named is the file of the words in recorded failures that differ between runs.
func Named() []byte {
	data, _ := files.ReadFile("vllm/named.json")
	return data
}

func run(release, name string) (Run, bool) {
	from, log := find(release, name+".log")
	if from == "" {
		return Run{}, false
	}
	r := Run{Exit: 1, Seconds: 10, Log: string(log), Release: from} // where only the log was kept
	if data, err := files.ReadFile(path.Join("vllm", from, name+".json")); err == nil {
		_ = json.Unmarshal(data, &r)
	}
	return r, true
}

func read[T any](release, name string) T {
	var value T
	_, data := find(release, name)
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // 5.0 is not 5: it is the default of a float
	_ = decoder.Decode(&value)
	return value
}

// find reads a file of the release, else of the nearest older release that has it, else
// of the oldest.
func find(release, name string) (from string, data []byte) {
	for _, recorded := range Releases() {
		if from != "" && Compare(recorded, release) > 0 {
			break
		}
		if found, err := files.ReadFile(path.Join("vllm", recorded, name)); err == nil {
			from, data = recorded, found
		}
	}
	return from, data
}

// Compare orders releases such as "0.19.1" and "v0.8.5.post1" by their first three
// numbers.
func Compare(a, b string) int { return slices.Compare(Numbers(a), Numbers(b)) }

// Numbers are the first three numbers of a version.
func Numbers(version string) []int {
	n := make([]int, 3)
	for i, field := range strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3) {
		if end := strings.IndexFunc(field, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
			field = field[:end]
		}
		n[i], _ = strconv.Atoi(field)
	}
	return n
}

package vllmserver_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// The contract: the stand-in writes and answers what was recorded of real
// servers. A release more, or a recording made anew, says here what changed.

var (
	figures   = regexp.MustCompile(`\d[\d.,:]*`)
	arguments = regexp.MustCompile(`non-default args: \{.*\}`)
)

// shapes are lines without what differs from run to run: figures, and the order
// in which the arguments are listed.
func shapes(log string) []string {
	var lines []string
	for line := range strings.Lines(log) {
		line = arguments.ReplaceAllString(strings.TrimSuffix(line, "\n"), "non-default args")
		lines = append(lines, figures.ReplaceAllString(line, "0"))
	}
	return lines
}

// played runs the stand-in as a recording was made.
func played(t *testing.T, release string, run facts.Run, change ...func(*machinefs.Facts)) *server {
	t.Helper()
	env := []string{vllmserver.VersionEnv + "=" + release}
	for name, value := range run.Env {
		if value != nil && strings.HasPrefix(name, "VLLM_API") {
			env = append(env, name+"="+*value)
		}
	}
	return launch(t, newMachine(t, change...), env, run.Argv...)
}

// TestStartsArePlayed: every line of a recorded start, in its order; what stands
// between them is a GPU's.
func TestStartsArePlayed(t *testing.T) {
	t.Parallel()
	for _, release := range facts.Releases() {
		for _, eager := range []bool{false, true} {
			start := facts.Start(release, eager)
			s := played(t, start.Release, start)
			s.eventually("the start", func() bool { return s.ended() || strings.Contains(s.log.String(), facts.Ready) })
			recorded, _, _ := strings.Cut(start.Log, facts.Ready)
			recorded = recorded[:strings.LastIndexByte(recorded, '\n')]
			recorded = strings.ReplaceAll(recorded, "CPU KV cache size", "GPU KV cache size")
			got := shapes(s.log.String())
			for _, want := range shapes(recorded) {
				if strings.Contains(want, "Explicitly set (") { // a GPU's memory is measured
					continue
				}
				at := slices.Index(got, want)
				if at < 0 {
					t.Fatalf("%s: not played, or too early: %q\n%s", release, want, s.log)
				}
				got = got[at+1:]
			}
		}
	}
}

// TestRecordedFailuresArePlayed: each by its name, whole, with its exit code.
func TestRecordedFailuresArePlayed(t *testing.T) {
	t.Parallel()
	for _, name := range facts.Failures() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run, _ := facts.Failure(vllmserver.DefaultVersion, name)
			if len(run.Argv) == 0 { // only the log was kept
				run.Argv = []string{"serve", testModel}
			}
			s := played(t, run.Release, run, func(f *machinefs.Facts) { f.VLLM.Fail = name })
			if code := s.wait(); code != run.Exit {
				t.Errorf("exit code %d, want %d", code, run.Exit)
			}
			got, want := shapes(s.log.String()), shapes(strings.ReplaceAll(run.Log, "CPU KV cache size", "GPU KV cache size"))
			// The two streams of the recording were one.
			if slices.Sort(got); !slices.Equal(got, sorted(want)) {
				t.Errorf("played:\n%s\nrecorded:\n%s", s.log, run.Log)
			}
		})
	}
}

func sorted(lines []string) []string {
	slices.Sort(lines)
	return lines
}

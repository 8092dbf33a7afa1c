package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// event is a line of go test -json (go doc test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output and build-fail
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// failure is a failed test, or another thing that went wrong.
type failure struct {
	round, pkg, test string
	output           string
}

// name is the test's with its package and its round.
func (f failure) name() string {
	name := strings.TrimPrefix(f.pkg+" ", " ") + f.test
	if f.round != "" {
		name += " [" + f.round + "]"
	}
	return name
}

// String is the failure with all that it printed.
func (f failure) String() string {
	return f.name() + "\n" + strings.TrimRight(f.output, "\n") + "\n"
}

// tally adds up the results of all rounds. Subtests count, as with go test -v.
type tally struct {
	passed, failed, skipped int
	failures                []failure
	seen                    io.Writer // takes a line about each failure as it is added; nil for none
	times                   []timed
	reasons                 map[string]int // why tests were skipped, and how many for that reason
}

// timed is how long a test took, without its parallel subtests, which are listed themselves.
type timed struct {
	test    string // with its package's last element and its round
	seconds float64
}

// key names a test within a round, or with test "" a package.
type key struct{ pkg, test string }

// maxOutput is how many bytes are kept of one test's output: its end.
const maxOutput = 64 << 10

// reader reads one round.
type reader struct {
	tally  *tally
	round  string
	screen io.Writer
	output map[key]string
	counts map[string]int // tests that ended, by package
	failed map[string]bool
	builds map[string]string
}

// read takes the output of go test -json and shows one line per package. What comes after the end of ctx is discarded: those
// tests didn't fail, they were interrupted.
func (t *tally) read(ctx context.Context, round string, stream io.Reader, screen io.Writer) error {
	r := &reader{
		tally: t, round: round, screen: screen,
		output: map[key]string{}, counts: map[string]int{}, failed: map[string]bool{}, builds: map[string]string{},
	}
	lines := bufio.NewReader(stream)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 && ctx.Err() == nil {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				r.take(e)
			} else {
				fmt.Fprintf(screen, "%s", line) // not a test's
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading go test: %w", err)
		}
	}
}

func (r *reader) take(e event) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "output":
		r.output[k] = tail(r.output[k] + e.Output)
	case "build-output":
		r.builds[e.ImportPath] = tail(r.builds[e.ImportPath] + e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e)
		} else {
			r.endTest(e)
		}
		delete(r.output, k)
	}
}

func (r *reader) endTest(e event) {
	output := r.output[key{e.Package, e.Test}]
	r.counts[e.Package]++
	r.tally.times = append(r.tally.times, timed{fmt.Sprintf("%s.%s [%s]", path.Base(e.Package), e.Test, r.round), e.Elapsed})
	switch e.Action {
	case "pass":
		r.tally.passed++
	case "fail":
		r.failed[e.Package] = true
		r.tally.add(failure{round: r.round, pkg: e.Package, test: e.Test, output: output})
	case "skip":
		reason, ok := reasonIn(output)
		if !ok {
			r.failed[e.Package] = true
			output = "skipped without a message that starts with \"SKIPPED: \"\n" + output
			r.tally.add(failure{round: r.round, pkg: e.Package, test: e.Test, output: output})
			return
		}
		r.tally.skip(reason)
	}
}

func (r *reader) endPackage(e event) {
	if e.Action == "fail" && !r.failed[e.Package] {
		// No test of it failed: it does not build, or TestMain failed, or it was ended.
		output := r.output[key{e.Package, ""}]
		for name, test := range r.output {
			if name.pkg == e.Package && name.test != "" {
				output += test
			}
		}
		r.tally.add(failure{round: r.round, pkg: e.Package, output: output + r.builds[e.FailedBuild]})
	}
	if r.counts[e.Package] == 0 && e.Action != "fail" {
		return // it has no tests for this round
	}
	fmt.Fprintf(r.screen, "%-4s %s  %d tests  %.1fs\n", e.Action, e.Package, r.counts[e.Package], e.Elapsed)
}

// add counts failures.
func (t *tally) add(failures ...failure) {
	if t.seen != nil {
		for _, f := range failures {
			fmt.Fprintln(t.seen, "FAIL", f.name())
		}
	}
	t.failed += len(failures)
	t.failures = append(t.failures, failures...)
}

func (t *tally) skip(reason string) {
	t.skipped++
	if t.reasons == nil {
		t.reasons = map[string]int{}
	}
	t.reasons[reason]++
}

// counts is the last line of a run.
func (t *tally) counts() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", t.passed, t.failed, t.skipped)
}

// slowest lists up to n tests, the slowest first.
func (t *tally) slowest(n int) string {
	slices.SortFunc(t.times, func(a, b timed) int { return cmp.Compare(b.seconds, a.seconds) })
	var list strings.Builder
	for _, test := range t.times[:min(n, len(t.times))] {
		fmt.Fprintf(&list, "%6.1fs %s\n", test.seconds, test.test)
	}
	return list.String()
}

// skips lists why tests were skipped, the most frequent reason first.
func (t *tally) skips() string {
	if len(t.reasons) == 0 {
		return "skipped nothing"
	}
	reasons := slices.SortedFunc(maps.Keys(t.reasons), func(a, b string) int {
		return cmp.Or(cmp.Compare(t.reasons[b], t.reasons[a]), strings.Compare(a, b))
	})
	for i, reason := range reasons {
		reasons[i] = fmt.Sprintf("%d because: %s", t.reasons[reason], reason)
	}
	return "skipped " + strings.Join(reasons, "; ")
}

// skipMessage matches a skip's reason: ours, or that of terraform-plugin-testing for a CLI that is too old.
var skipMessage = regexp.MustCompile(`(?m)SKIPPED: *(\S.*)$|(Terraform CLI version .* (?:is below|is above|is between|is not) .*)$`)

func reasonIn(output string) (string, bool) {
	match := skipMessage.FindStringSubmatch(output)
	if match == nil {
		return "", false
	}
	return strings.TrimSpace(match[1] + match[2]), true
}

func tail(text string) string {
	if len(text) > maxOutput {
		return "[…]" + text[len(text)-maxOutput:]
	}
	return text
}

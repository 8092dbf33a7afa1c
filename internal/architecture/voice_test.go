package architecture

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// textsFile is where TestVoice writes all texts, to be read as one:
//
//	go test ./internal/architecture -run 'TestVoice$' -args -texts=$PWD/texts.txt
var textsFile = flag.String("texts", "", "write every text that users and developers read to this `file`")

// unwritten are the phrases of the table "Words" in CONTRIBUTING.md that can be
// found mechanically, with what to write instead.
var unwritten = []struct {
	pattern *regexp.Regexp
	write   string
}{
	{regexp.MustCompile(`\bof (?:its|their) own\b`), "unique, separate, its own"},
	{regexp.MustCompile(`(?i)\b(?:told|tells?|telling)\b`), "reports, says, logs, returns"},
	{regexp.MustCompile("\\b(?:status|state|it) (?:still )?reads? [\"`]"), "the status is"},
	{regexp.MustCompile(`\btime (?:has )?(?:ran|run|runs) out\b`), "timed out"},
	{regexp.MustCompile(`(?i)\bnothing proves\b`), "could not be verified"},
	{regexp.MustCompile(`(?i)\b(?:lets?|letting) go\b`), "release, stop, unlock"},
	{regexp.MustCompile(`(?i)\b(?:gives?|given|giving|gave) (?:\w+ )?back\b`), "release, return"},
	{regexp.MustCompile(`\b(?:is|are) exited\b`), "the container exited"},
	{regexp.MustCompile(`(?i)\bon this side\b`), "on your computer"},
	{regexp.MustCompile(`\b\d+ gigs\b`), "GiB"},
	{regexp.MustCompile(`(?i)\b(?:behaviour|colour|honour|favour|catalogue|artefact|licence|whilst|amongst|centre)s?\b` +
		`|\b\w+(?:[cbdv]ell|nall)(?:ed|ing)\b`), "American spelling"},
}

// unspoken complains about a text that uses such a phrase.
func unspoken(t voiced) []string {
	var complaints []string
	for _, u := range unwritten {
		if found := u.pattern.FindString(t.text); found != "" {
			complaints = append(complaints, fmt.Sprintf("%s: %q is not the field's word; write: %s", t.place, found, u.write))
		}
	}
	return complaints
}

// longest is how many words a sentence has at most when users meet it in a
// message or a description. Below 25 is what to aim at.
const longest = 40

// sentenceEnd splits a text into sentences. Marks within names and numbers
// (v0.32.0, vllm.service) have no space behind them.
var sentenceEnd = regexp.MustCompile(`[.!?:;)]["'` + "`" + `)]*(?:\s|$)`)

// windy complains about a sentence that is too long.
func windy(t voiced) []string {
	var complaints []string
	for sentence := range strings.SplitSeq(sentenceEnd.ReplaceAllString(t.text, "\n"), "\n") {
		if n := len(strings.Fields(sentence)); n > longest {
			complaints = append(complaints, fmt.Sprintf("%s: a sentence has %d words, more than %d: %s", t.place, n, longest, sentence))
		}
	}
	return complaints
}

func TestVoice(t *testing.T) {
	t.Parallel()
	texts := collect(t)
	for _, text := range texts {
		complain(t, unspoken(text))
		if strings.HasSuffix(strings.SplitN(text.place, ":", 2)[0], ".go") {
			complain(t, windy(text))
		}
	}
	if *textsFile == "" {
		return
	}
	var b strings.Builder
	file := ""
	for _, text := range texts {
		if of, _, _ := strings.Cut(text.place, ":"); of != file {
			file = of
			fmt.Fprintf(&b, "\n==== %s\n", file)
		}
		_, line, _ := strings.Cut(text.place, ":")
		fmt.Fprintf(&b, "%s [%s] %s\n", line, text.kind, text.text)
	}
	if err := os.WriteFile(*textsFile, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestVoiceRulesCanFail(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		check func(voiced) []string
		text  string
		want  string
	}{
		{"good", unspoken, "The status is \"stopped\". It is reported. Own keys are unique.", ""},
		{"own", unspoken, "a directory of " + "its own", "its own"},
		{"told", unspoken, "It is " + "told.", "reports"},
		{"status", unspoken, "its status " + "reads \"stopped\"", "status is"},
		{"British", unspoken, "the run was cance" + "lled", "American"},
		{"excellent", unspoken, "an excellent cell; telling" + "s", ""},
		{"short", windy, strings.Repeat("one two. ", longest), ""},
		{"long", windy, strings.Repeat("one ", longest+1), "more than 40"},
		{"a dot in a name", windy, strings.Repeat("v1.2 ", longest+1), "more than 40"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			expect(t, test.check(voiced{place: "x.go:1", text: test.text}), test.want)
		})
	}
}

// The collection misses no kind of text.
func TestVoiceIsCollected(t *testing.T) {
	t.Parallel()
	texts := collect(t)
	for _, want := range []struct{ file, kind, words string }{
		{"README.md", prose, "vLLM"},
		{"CONTRIBUTING.md", prose, "One word, one meaning"},
		{"templates/guides/money.md.tmpl", prose, "journal"},
		{"examples/quickstart/main.tf", comment, ""},
		{"examples/modules/vllm-service/variables.tf", "description", ""},
		{"internal/rental/errors.go", comment, "released"},
		{"internal/rental/errors.go", "Sprintf", "released"},
		{"internal/sandbox/cmd/main.go", "", "sandbox"},
		{"internal/deploy/process/launcher.sh", comment, ""},
		{"schema shopper_gpu_session", "resource", "machine"},
		{"schema shopper_gpu_session.ssh.private_key", "resource", ""},
		{"schema shopper_extend_session", "action", ""},
		{"schema estimate_vram", "function", ""},
	} {
		if !slices.ContainsFunc(texts, func(t voiced) bool {
			return strings.HasPrefix(t.place+":", want.file+":") && strings.Contains(t.kind, want.kind) && strings.Contains(t.text, want.words)
		}) {
			t.Errorf("no text of %s, kind %q, with %q was collected", want.file, want.kind, want.words)
		}
	}
}

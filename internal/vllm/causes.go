package vllm

import (
	"regexp"
	"slices"
)

// A Cause of failure, as a documentation page describes it: "…" stands for words from a log.
type Cause struct{ Cause, WayOut string }

// Part is a group of causes on one subject.
type Part struct {
	Title  string
	Causes []Cause
}

// Causes lists all causes that [Diagnose] and [ExplainKilled] know, each once, in the order in which Diagnose looks for them.
func Causes() []Part {
	known := []Part{
		{Title: "GPU memory"},
		{Title: "The model"},
		{Title: "Weights and adapters"},
		{Title: "The machine"},
		{Title: "What a start compiles"},
		{Title: "Flags and variables"},
		{Title: "Everything else"},
	}
	for i, about := range [][]rule{memoryRules, modelRules, weightRules, machineRules, buildRules, flagRules, genericRules} {
		for _, r := range about {
			known[i].add(r.describe())
		}
	}
	last := &known[len(known)-1]
	for _, by := range []Kill{KilledByKernel, KilledPerhaps, KilledByOther} {
		last.add(ExplainKilled(by, ""))
	}
	return known
}

func (p *Part) add(cause, wayOut string) {
	if c := (Cause{General(cause), General(wayOut)}); !slices.Contains(p.Causes, c) {
		p.Causes = append(p.Causes, c)
	}
}

func (r rule) describe() (cause, wayOut string) {
	if r.explain != nil {
		return r.explain("")
	}
	return r.cause, r.wayOut
}

var groupPattern = regexp.MustCompile(`\$\{\d\}\.?`)

// General replaces each group of a rule's template, and a period after it, by "…".
func General(template string) string { return groupPattern.ReplaceAllString(template, "…") }

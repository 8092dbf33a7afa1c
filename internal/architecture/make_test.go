package architecture

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	makeRule   = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)
	makePhony  = regexp.MustCompile(`(?m)^\.PHONY: (.*)$`)
	makeCalled = regexp.MustCompile("(?m)(?:`|\\brun:? |&& |^\\s*)make ([a-z][a-z -]*)")
)

// targets complains about a target that is declared phony and has no rule: make does nothing for it, and succeeds.
func targets(makefile string) (rules, complaints []string) {
	for _, rule := range makeRule.FindAllStringSubmatch(makefile, -1) {
		rules = append(rules, rule[1])
	}
	for _, line := range makePhony.FindAllStringSubmatch(makefile, -1) {
		for _, name := range strings.Fields(line[1]) {
			if !slices.Contains(rules, name) {
				complaints = append(complaints, fmt.Sprintf("GNUmakefile: %s is phony and has no rule", name))
			}
		}
	}
	return rules, complaints
}

// unmade complains about the targets that a file names and that don't exist.
func unmade(file, text string, rules []string) []string {
	var complaints []string
	for _, call := range makeCalled.FindAllStringSubmatch(text, -1) {
		for _, name := range strings.Fields(call[1]) {
			if !slices.Contains(rules, name) {
				complaints = append(complaints, fmt.Sprintf("%s: make has no target %s", file, name))
			}
		}
	}
	return complaints
}

func TestMakeTargetsExist(t *testing.T) {
	t.Parallel()
	root, files := tracked(t)
	makefile, err := os.ReadFile(filepath.Join(root, "GNUmakefile"))
	if err != nil {
		t.Fatal(err)
	}
	rules, complaints := targets(string(makefile))
	complain(t, complaints)
	for _, file := range files {
		if file != "README.md" && file != "CONTRIBUTING.md" && file != filepath.Join(".ci", "run") && !strings.HasPrefix(file, ".github"+string(filepath.Separator)) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		complain(t, unmade(file, string(text), rules))
	}
}

func TestMakeRulesCanFail(t *testing.T) {
	t.Parallel()
	rules, complaints := targets(".PHONY: all verify\nall: x ## all\nBIN := x\n")
	expect(t, complaints, "verify is phony")
	expect(t, unmade("a.yml", "      - run: make all verify\n", rules), "no target verify")
	expect(t, unmade("a.md", "`make all`, and then make sure that it did\n```\nmake all  # does it\n```\n", rules), "")
	expect(t, unmade("a.md", "```\nmake other  # does it\n```\n", rules), "no target other")
}

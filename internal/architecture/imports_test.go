package architecture

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// layers says which packages of this module a package may import: itself, what
// is below it, and what is listed. A package that is not here may import none,
// and has to be added to exist.
var layers = []struct {
	dir  string
	uses []string
}{
	{dir: ".", uses: []string{"internal/provider"}},
	{dir: "internal/provider", uses: []string{
		"internal/rental", "internal/deploy", "internal/vllm", "internal/shopper", "internal/host", "internal/journal", "internal/pace",
	}},
	{dir: "internal/rental", uses: []string{"internal/shopper", "internal/host", "internal/journal", "internal/pace"}},
	{dir: "internal/journal"},
	{dir: "internal/deploy", uses: []string{"internal/vllm", "internal/host", "internal/pace"}},
	{dir: "internal/vllm"},
	{dir: "internal/shopper"},
	{dir: "internal/host", uses: []string{"internal/pace"}},
	{dir: "internal/pace"},
	// The sandbox shares no code with what it is a stand-in for: a mistake made in
	// both would not be seen.
	{dir: "internal/sandbox"},
	{dir: "internal/testkit"},
	{dir: "internal/architecture"},
	{dir: "internal/e2e"}, // tests only
	{dir: "tools", uses: []string{"internal/host", "internal/deploy", "internal/vllm"}}, // the pages' tables are theirs
}

// arrows complains about imports within this module that go the wrong way.
func arrows(packages []pkg) []string {
	var complaints []string
	for _, p := range packages {
		dir, uses, found := layer(p.path)
		if !found {
			complaints = append(complaints, fmt.Sprintf("%s: not in the table of layers: say there what it may import", p.path))
			continue
		}
		for _, imported := range p.imports {
			path := relative(imported)
			if path == imported || (dir != "." && within(path, dir)) || withinAny(path, uses) {
				continue
			}
			complaints = append(complaints, fmt.Sprintf("%s imports %s, which is not below it", p.path, path))
		}
	}
	return complaints
}

func layer(path string) (dir string, uses []string, found bool) {
	for _, l := range layers {
		if path == l.dir || (l.dir != "." && within(path, l.dir)) {
			return l.dir, l.uses, true
		}
	}
	return "", nil, false
}

// reserved are imports that only some packages may have.
var reserved = []struct {
	what     string
	matches  func(importPath string) bool
	holders  []string // packages that may, with what is below them
	indirect bool     // whether an indirect import counts too
}{
	{
		what: "the Terraform plugin libraries",
		matches: func(p string) bool {
			return strings.HasPrefix(p, "github.com/hashicorp/terraform-plugin-") &&
				!within(p, "github.com/hashicorp/terraform-plugin-log") // the log library knows nothing of Terraform's model
		},
		holders:  []string{".", "internal/provider", "tools/standin"}, // the last stands in for other providers
		indirect: true,
	},
	{
		what:    "golang.org/x/crypto/ssh",
		matches: func(p string) bool { return within(p, "golang.org/x/crypto/ssh") },
		holders: []string{"internal/host", "internal/sandbox", "internal/testkit"}, // the sandbox is the other end of the line
	},
	{
		what:    "the Docker client",
		matches: func(p string) bool { return within(p, "github.com/moby/moby") || within(p, "github.com/docker/docker") },
		holders: []string{"internal/deploy/container", "internal/sandbox"}, // the same
	},
	{
		what:     "the sandbox",
		matches:  func(p string) bool { return within(relative(p), "internal/sandbox") },
		holders:  []string{"internal/sandbox"},
		indirect: true,
	},
	{
		what:     "the tests' kit",
		matches:  func(p string) bool { return within(relative(p), "internal/testkit") },
		holders:  []string{"internal/testkit"},
		indirect: true,
	},
}

// reservations complains about imports by packages that may not have them.
func reservations(packages []pkg) []string {
	var complaints []string
	for _, r := range reserved {
		for _, p := range packages {
			if slices.Contains(r.holders, p.path) || withinAny(p.path, r.holders) {
				continue
			}
			imports := p.imports
			if r.indirect {
				imports = p.deps
			}
			for _, imported := range imports {
				if r.matches(imported) {
					complaints = append(complaints, fmt.Sprintf("%s uses %s (%s)", p.path, r.what, relative(imported)))
					break
				}
			}
		}
	}
	return complaints
}

// documented complains about packages without a doc comment.
func documented(packages []pkg) []string {
	var complaints []string
	for _, p := range packages {
		if len(p.files) > 0 && p.doc == "" {
			complaints = append(complaints, p.path+" has no package comment")
		}
	}
	return complaints
}

func TestArrows(t *testing.T) {
	t.Parallel()
	complain(t, arrows(packages(t).packages))
}

func TestReservedImports(t *testing.T) {
	t.Parallel()
	complain(t, reservations(packages(t).packages))
}

func TestPackageComments(t *testing.T) {
	t.Parallel()
	complain(t, documented(packages(t).packages))
}

func TestImportRulesCanFail(t *testing.T) {
	t.Parallel()
	const ours = module + "/"
	tests := []struct {
		name  string
		check func([]pkg) []string
		give  pkg
		want  string // part of the one complaint, "" for none
	}{
		{"down", arrows, pkg{path: "internal/rental", imports: []string{ours + "internal/shopper", "net/http"}}, ""},
		{"down to a part", arrows, pkg{path: "internal/provider/x", imports: []string{ours + "internal/deploy/container"}}, ""},
		{"sideways", arrows, pkg{path: "internal/rental", imports: []string{ours + "internal/deploy"}}, "imports internal/deploy"},
		{"up", arrows, pkg{path: "internal/host", imports: []string{ours + "internal/rental"}}, "imports internal/rental"},
		{"same prefix", arrows, pkg{path: "internal/host", imports: []string{ours + "internal/hostile"}}, "imports internal/hostile"},
		{"the root imports a part", arrows, pkg{path: ".", imports: []string{ours + "internal/rental"}}, "imports internal/rental"},
		{"somebody imports the root", arrows, pkg{path: "internal/host", imports: []string{module}}, "imports ."},
		{"not in the table", arrows, pkg{path: "internal/misc"}, "not in the table"},
		{"sandbox and client", arrows, pkg{path: "internal/sandbox/x", imports: []string{ours + "internal/shopper"}}, "imports internal/shopper"},

		{
			"framework in the client", reservations,
			pkg{path: "internal/shopper", deps: []string{"github.com/hashicorp/terraform-plugin-framework/types"}},
			"Terraform",
		},
		{
			"framework in the provider", reservations,
			pkg{path: "internal/provider/x", deps: []string{"github.com/hashicorp/terraform-plugin-framework/types"}},
			"",
		},
		{
			"tflog in the client", reservations,
			pkg{path: "internal/shopper", deps: []string{"github.com/hashicorp/terraform-plugin-log/tflog"}},
			"",
		},
		{"ssh", reservations, pkg{path: "internal/deploy", imports: []string{"golang.org/x/crypto/ssh/agent"}}, "crypto/ssh"},
		{"ssh by way of host", reservations, pkg{path: "internal/deploy", deps: []string{"golang.org/x/crypto/ssh"}}, ""},
		{"docker", reservations, pkg{path: "internal/deploy", imports: []string{"github.com/moby/moby/client"}}, "Docker"},
		{"docker in its place", reservations, pkg{path: "internal/deploy/container", imports: []string{"github.com/moby/moby/client"}}, ""},
		{"sandbox", reservations, pkg{path: "tools/demo", deps: []string{ours + "internal/sandbox/machine"}}, "the sandbox"},

		{"no comment", documented, pkg{path: "internal/host", files: []string{"host.go"}}, "no package comment"},
		{"only tests", documented, pkg{path: "internal/e2e"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			expect(t, test.check([]pkg{test.give}), test.want)
		})
	}
}

// expect wants one complaint that contains want, or none when want is "".
func expect(t *testing.T, complaints []string, want string) {
	t.Helper()
	switch {
	case want == "" && len(complaints) > 0:
		t.Errorf("complains: %q", complaints)
	case want != "" && (len(complaints) != 1 || !strings.Contains(complaints[0], want)):
		t.Errorf("got %q, want one complaint with %q", complaints, want)
	}
}

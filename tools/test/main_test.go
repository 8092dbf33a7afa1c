package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/tools/internal/cli"
)

// Each test runs once if it needs no CLI, on each CLI if it needs one, and on the newest Terraform if only that has what it tests.
// Other modules' run with everything. The race detector is on once, where the tested code is in the test's process.
func TestRounds(t *testing.T) {
	t.Parallel()
	old, tofu := cli.CLI{Product: cli.Terraform, Path: "old"}, cli.CLI{Product: cli.OpenTofu, Path: "tofu"}
	newest := cli.CLI{Product: cli.Terraform, Path: "new"}
	list := rounds([]cli.CLI{old, tofu}, newest, []string{"m/provider", "m/internal/e2e"}, everything)
	want := []struct {
		tests, packages, path string
		race                  bool
	}{
		{"-skip=^Test(Acc|E2E)|^TestTerraform", "./...", "", true},
		{"-run=.", "./...", "", true},
		{"-run=^Test(Acc|E2E)", "m/provider", "old", true},
		{"-run=^Test(Acc|E2E)", "m/internal/e2e", "old", false},
		{"-run=^Test(Acc|E2E)", "m/provider m/internal/e2e", "tofu", false},
		{"-run=^TestTerraform", "m/provider m/internal/e2e", "new", false},
	}
	if len(list) != len(want) {
		t.Fatalf("%d rounds, want %d", len(list), len(want))
	}
	for i, r := range list {
		w := want[i]
		if r.tests != w.tests || strings.Join(r.packages, " ") != w.packages || r.race != w.race {
			t.Errorf("round %d: %+v, want %+v", i, r, w)
		}
		if w.path != "" && !slices.Contains(r.env, "TF_ACC_TERRAFORM_PATH="+w.path) {
			t.Errorf("round %d is not on %s: %q", i, w.path, r.env)
		}
	}
}

// What is on PATH is used if it is new enough; make builds the rest.
func TestFind(t *testing.T) {
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ name, terraform, tofu, want, newest string }{
		{"both are new", "1.14.0", "1.11.0", "Terraform 1.14.0, OpenTofu 1.11.0", "Terraform 1.14.0"},
		{"a Terraform without actions", "1.13.9", "1.12.6", "Terraform 1.13.9, OpenTofu 1.12.6", "Terraform 1.99.0 (built from source)"},
		{"an OpenTofu without write-only arguments", "1.14.0", "1.10.9", "Terraform 1.14.0, OpenTofu 1.10.9, OpenTofu 1.99.0 (built from source)", "Terraform 1.14.0"},
		{"nothing", "", "", "OpenTofu 1.99.0 (built from source)", "Terraform 1.99.0 (built from source)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path, made := t.TempDir(), t.TempDir()
			t.Setenv("PATH", path)
			if test.terraform != "" {
				write(filepath.Join(path, "terraform"), "echo Terraform v"+test.terraform)
				write(filepath.Join(path, "tofu"), "echo OpenTofu v"+test.tofu)
			}
			write(filepath.Join(path, "make"), `printf '#!/bin/sh\necho %s v1.99.0\n' "${1##*/}" >"$1" && /bin/chmod +x "$1"`)
			programs, newest, err := find(t.Context(), filepath.Join(made, "OpenTofu"), filepath.Join(made, "Terraform"))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, program := range programs {
				names = append(names, program.String())
			}
			if got := strings.Join(names, ", "); got != test.want || newest.String() != test.newest {
				t.Errorf("tests run on %s and %s, want %s and %s", got, newest, test.want, test.newest)
			}
		})
	}
}

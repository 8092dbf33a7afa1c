package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/tools/internal/cli"
)

// Every test runs once where it needs no CLI, on each CLI where it needs one, and on
// the newest Terraform where only that has what it is about, other modules' where all
// is asked for; with the race detector
// once, where what is tested is in the test's own process.
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

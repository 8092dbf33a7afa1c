package main

import (
	"slices"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/tools/internal/cli"
)

// Every test runs once where it needs no CLI, on each CLI where it needs one, and on
// the newest Terraform where only that has what it is about.
func TestRounds(t *testing.T) {
	t.Parallel()
	old, tofu := cli.CLI{Product: cli.Terraform, Path: "old"}, cli.CLI{Product: cli.OpenTofu, Path: "tofu"}
	list := rounds([]cli.CLI{old, tofu}, cli.CLI{Product: cli.Terraform, Path: "new"}, []string{"cli"}, []string{"all"})
	want := [][]string{
		{"-skip=^Test(Acc|E2E)|^TestTerraform", "all"},
		{"-run=^Test(Acc|E2E)", "cli"},
		{"-run=^Test(Acc|E2E)", "cli"},
		{"-run=^TestTerraform", "cli"},
	}
	if len(list) != len(want) {
		t.Fatalf("%d rounds, want %d", len(list), len(want))
	}
	for i, r := range list {
		if !slices.Equal(r.args, want[i]) || r.race != (i < 2) {
			t.Errorf("round %d: %+v, want %q", i, r, want[i])
		}
	}
	if !slices.Contains(list[3].env, "TF_ACC_TERRAFORM_PATH=new") {
		t.Errorf("the last round is not on the newest: %q", list[3].env)
	}
}

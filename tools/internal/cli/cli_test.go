package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestFindTakesEachVersionOnce(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	write := func(name, says string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho '"+says+"'\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for tofu, want := range map[string]string{
		"OpenTofu v1.12.6":  "[Terraform 1.11.4 OpenTofu 1.12.6]",
		"Terraform v1.11.4": "[Terraform 1.11.4]", // by another name
	} {
		write("terraform", "Terraform v1.11.4")
		write("tofu", tofu)
		found, err := Find(t.Context())
		if err != nil || fmt.Sprint(found) != want {
			t.Errorf("with %s: %s, %v, want %s", tofu, found, err, want)
		}
	}
	write("terraform", "GNU Make 4.3")
	if found, err := Find(t.Context()); err == nil {
		t.Errorf("took a program that is neither for %v", found)
	}
}

func TestCleanEnvDropsWhatDecidesForUs(t *testing.T) {
	t.Parallel()
	got := CleanEnv([]string{"PATH=/bin", "TF_LOG=trace", "TF_CLI_CONFIG_FILE=/gone", "SHOPPER_URL=http://real", "TFX=1"})
	want := []string{"PATH=/bin", "TFX=1", "CHECKPOINT_DISABLE=1"}
	if !slices.Equal(got, want) {
		t.Errorf("CleanEnv = %q, want %q", got, want)
	}
}

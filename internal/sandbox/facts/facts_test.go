package facts_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

func TestNearestOlderReleaseAnswers(t *testing.T) {
	t.Parallel()
	for asked, want := range map[string]string{
		"0.8.5.post1": "0.19.1", "0.19.1": "0.19.1", "v0.20.0": "0.19.1", "0.32.0": "0.32.0", "0.32.1": "0.32.0", "1.0": "0.32.0",
	} {
		if got := facts.Start(asked, false).Release; got != want {
			t.Errorf("%s is played from %s, want %s", asked, got, want)
		}
	}
}

// TestRecordingsAreWhole: what a player needs of each release is there.
func TestRecordingsAreWhole(t *testing.T) {
	t.Parallel()
	releases := facts.Releases()
	if !slices.IsSortedFunc(releases, facts.Compare) || len(releases) < 2 {
		t.Errorf("releases: %v", releases)
	}
	for _, release := range releases {
		if len(facts.Flags(release)) < 200 || len(facts.Exchanges(release)) < 50 {
			t.Errorf("%s: %d flags, %d exchanges", release, len(facts.Flags(release)), len(facts.Exchanges(release)))
		}
		for _, eager := range []bool{false, true} {
			if start := facts.Start(release, eager); start.Exit != 0 || !strings.Contains(start.Log, facts.Ready) {
				t.Errorf("%s: the start didn't succeed", release)
			}
		}
		for _, name := range facts.Failures() {
			if run, ok := facts.Failure(release, name); !ok || run.Exit == 0 || run.Log == "" {
				t.Errorf("%s: the failure %s: %+v", release, name, run)
			}
		}
	}
	if _, ok := facts.Failure("0.32.0", "nonsense"); ok {
		t.Error("found a failure that isn't there")
	}
}

// TestCloudsAreWhole: every cloud's file reads strictly (what doesn't panics), is
// dated, and says of each kind of fact where it comes from.
func TestCloudsAreWhole(t *testing.T) {
	t.Parallel()
	if len(facts.Clouds()) != 3 {
		t.Errorf("%d clouds", len(facts.Clouds()))
	}
	for _, cloud := range facts.Clouds() {
		if _, err := time.Parse(time.DateOnly, cloud.Recorded); err != nil {
			t.Errorf("%s: %v", cloud.Name, err)
		}
		sources := strings.Join(slices.Collect(maps.Keys(cloud.Sources)), " ")
		for _, kind := range []string{"listing", "user", "container", "disk", "times", "machine", "offers"} {
			if !strings.Contains(sources, kind) {
				t.Errorf("%s: no source for %s", cloud.Name, kind)
			}
		}
		if cloud.User == "" || cloud.DiskGB <= cloud.SystemGB || cloud.Boot <= 0 || cloud.Logins < 1 || cloud.Machine.OS == "" || cloud.Machine.Python == "" {
			t.Errorf("%s: %+v", cloud.Name, cloud)
		}
		if cloud.Machine.Docker || cloud.Friendly().Docker == cloud.Container {
			t.Errorf("%s: Docker %+v", cloud.Name, cloud.Machine)
		}
	}
}

func TestModelsAndGPUs(t *testing.T) {
	t.Parallel()
	for repository, want := range map[string]string{
		"Qwen/Qwen3-8B-AWQ": "qwen3-8b", "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b", "deepseek-ai/DeepSeek-V3": "deepseek-v3",
	} {
		if model, known := facts.FindModel(repository); !known || model.Prefix != want || model.Source == "" || model.Heads == 0 {
			t.Errorf("%s: %+v", repository, model)
		}
	}
	if model, known := facts.FindModel("nobody/nothing"); known {
		t.Errorf("made up %+v", model)
	}
	if gpu, known := facts.FindGPU("RTX 5090"); !known || gpu.MemoryMiB != 32607 || gpu.ComputeCapability != "12.0" {
		t.Errorf("%+v", gpu)
	}
	if got := facts.DriverFor(12.8) + facts.DriverFor(13) + facts.DriverFor(11); got != "570.124.04580.95.05" {
		t.Errorf("drivers %s", got)
	}
	if got := facts.CUDA("550.127.05") + " " + facts.CUDA("999.1"); got != "12.4 13.0" {
		t.Errorf("CUDA %s", got)
	}
}

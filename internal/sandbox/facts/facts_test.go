package facts_test

import (
	"slices"
	"strings"
	"testing"

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

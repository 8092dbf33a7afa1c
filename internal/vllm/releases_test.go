package vllm

import (
	"strings"
	"testing"
	"time"
)

// The table is in order, and no line repeats the one before it.
func TestReleasesAreInOrder(t *testing.T) {
	t.Parallel()
	var before Release
	for _, release := range Releases() {
		if compareReleases(before.Version, release.Version) >= 0 {
			t.Errorf("%s stands behind %s", release.Version, before.Version)
		}
		if _, err := time.Parse(time.DateOnly, release.Published); err != nil || release.Published < before.Published {
			t.Errorf("%s was published on %q, after %s", release.Version, release.Published, before.Published)
		}
		if release.Wheel.Driver() == 0 || release.Image.Driver() == 0 || release.OldestGPU > release.NewestGPU {
			t.Errorf("%+v", release)
		}
		before = release
	}
	for i, line := range lines[1:] {
		last := lines[i]
		if line.Wheel == last.Wheel && line.Image == last.Image && line.OldestGPU == last.OldestGPU && line.NewestGPU == last.NewestGPU {
			t.Errorf("nothing changes with %s", line.releases)
		}
	}
}

func TestFindRelease(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		version   string
		wheel     int // the driver's branch; 0 = not ok
		image     int
		published string
	}{
		{"0.33.0", 580, 580, "2026-11-02"},
		{"v0.21.0", 580, 580, "2026-05-15"},
		{"0.20.0", 580, 580, "2026-04-27"}, // the first of CUDA 13
		{"0.19.1", 575, 575, "2026-04-18"}, // the last of CUDA 12
		{"0.11.2", 570, 575, "2025-11-20"},
		{"0.11.0", 570, 570, "2025-10-04"},
		{"0.9", 570, 570, "2025-05-28"},
		{"0.8.5.post1", 550, 550, "2025-05-02"},
		{"0.10.1.1", 570, 570, "2025-08-20"},
		// Not in the table: what the nearest older one is made of, and no day.
		{"0.34.2", 580, 580, ""},
		{"1.0.0", 580, 580, ""},
		{"0.19.7", 575, 575, ""},
		{"0.33.0+cu129", 575, 575, "2026-11-02"},
		{"0.19.1+cu130", 580, 580, "2026-04-18"},
		{"0.7.3", 0, 0, ""},
		{"", 0, 0, ""},
		{"latest", 0, 0, ""},
		{"0", 0, 0, ""},
		{"0.x", 0, 0, ""},
		{"99999999999999999999.1.1", 0, 0, ""},
	} {
		release, ok := FindRelease(test.version)
		if ok != (test.wheel > 0) || release.Wheel.Driver() != test.wheel || release.Image.Driver() != test.image ||
			release.Published != test.published || (ok && release.Version != test.version) {
			t.Errorf("%q: %+v, %t", test.version, release, ok)
		}
	}
}

// The newest release that a machine's driver and GPU run.
func TestNewestRelease(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		driver     int
		capability float64
		want       string
	}{
		{590, 8.9, "0.33.0"},
		{580, 0, "0.33.0"},
		{575, 8.9, "0.19.1"},
		{570, 12.0, "0.11.2"},
		{560, 8.6, "0.8.5.post1"},
		{550, 8.9, "0.8.5.post1"},
		{550, 12.0, ""}, // too new a GPU for CUDA 12.4
		{580, 7.0, "0.19.1"},
		{535, 8.0, ""},
		{580, 6.1, ""},
	} {
		got, _ := NewestRelease(func(r Release) bool { return r.Wheel.Driver() <= test.driver && r.RunsOn(test.capability) })
		if got.Version != test.want {
			t.Errorf("driver %d, capability %.1f: %q, want %q", test.driver, test.capability, got.Version, test.want)
		}
	}
}

func TestCUDADrivers(t *testing.T) {
	t.Parallel()
	for cuda, want := range map[CUDA][2]int{
		{12, 4}: {550, 525}, {12, 7}: {560, 525}, {12, 8}: {570, 525}, {12, 9}: {575, 525}, {13, 0}: {580, 580}, {11, 8}: {0, 0}, {}: {0, 0},
	} {
		if cuda.Driver() != want[0] || cuda.CompatibleDriver() != want[1] {
			t.Errorf("CUDA %s: %d and %d, want %v", cuda, cuda.Driver(), cuda.CompatibleDriver(), want)
		}
	}
}

func TestReleaseTable(t *testing.T) {
	t.Parallel()
	table := ReleaseTable()
	for _, row := range []string{
		"| 0.20.0 to 0.33.0 | 13.0, 580 | 13.0, 580 | 7.5 to 12.1 |",
		"| 0.11.1 to 0.11.2 | 12.8, 570 | 12.9, 575 | 7.0 to 12.1 |",
	} {
		if !strings.Contains(table, row) {
			t.Errorf("%q is missing in\n%s", row, table)
		}
	}
}

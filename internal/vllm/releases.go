package vllm

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// line is a series of releases that differ only in Version and Published.
type line struct {
	Release
	// releases are its releases, each followed by the day (UTC) on which it was published, oldest first.
	releases string
}

// lines are vLLM's releases, oldest first: a line begins where something changes. Sources, read on 2026-11-28:
//   - days: the first for which `uv pip install --exclude-newer DAY vllm` resolves to the release;
//   - Wheel: MAIN_CUDA_VERSION in setup.py (vllm/envs.py since 0.11.0) of the source packages 0.8.5.post1, 0.9.0, 0.11.0,
//     0.11.1, 0.12.0, 0.19.1, 0.20.0 and 0.33.0, and those between;
//   - Image: ARG CUDA_VERSION in their docker/Dockerfile, and the release image in .buildkite/release-pipeline.yaml;
//   - OldestGPU: their docs/getting_started/installation, "GPU: compute capability 7.0 or higher" ("7.5" since 0.20.0);
//   - NewestGPU: CUDA 12.4 doesn't support Blackwell; TORCH_CUDA_ARCH_LIST in their docker/Dockerfile;
//   - GeForce: NVIDIA_REQUIRE_CUDA of the image nvidia/cuda of that CUDA: brand=geforce is in the list of 12.4 (branches
//     470, 525 and 535), and in none since 12.8 (github.com/vllm-project/vllm/issues/18813).
var lines = []line{
	{
		Release{Wheel: CUDA{12, 4}, Image: CUDA{12, 4}, OldestGPU: 7.0, NewestGPU: 9.0, GeForce: true}, `
			0.8.0 2025-03-18  0.8.1 2025-03-19  0.8.2 2025-03-25  0.8.3 2025-04-06  0.8.4 2025-04-15
			0.8.5 2025-04-28  0.8.5.post1 2025-05-02`,
	},
	{
		Release{Wheel: CUDA{12, 8}, Image: CUDA{12, 8}, OldestGPU: 7.0, NewestGPU: 12.1}, `
			0.9.0 2025-05-28  0.9.0.1 2025-05-30  0.9.1 2025-06-10  0.9.2 2025-07-08  0.10.0 2025-07-25
			0.10.1 2025-08-19  0.10.1.1 2025-08-20  0.10.2 2025-09-13  0.11.0 2025-10-04`,
	},
	{
		Release{Wheel: CUDA{12, 8}, Image: CUDA{12, 9}, OldestGPU: 7.0, NewestGPU: 12.1}, `
			0.11.1 2025-11-19  0.11.2 2025-11-20`,
	},
	{
		Release{Wheel: CUDA{12, 9}, Image: CUDA{12, 9}, OldestGPU: 7.0, NewestGPU: 12.1}, `
			0.12.0 2025-12-03  0.13.0 2025-12-19  0.14.0 2026-01-20  0.14.1 2026-01-24  0.15.0 2026-01-29
			0.15.1 2026-02-05  0.16.0 2026-02-26  0.17.0 2026-03-07  0.17.1 2026-03-11  0.18.0 2026-03-20
			0.18.1 2026-03-31  0.19.0 2026-04-03  0.19.1 2026-04-18`,
	},
	{
		Release{Wheel: CUDA{13, 0}, Image: CUDA{13, 0}, OldestGPU: 7.5, NewestGPU: 12.1}, `
			0.20.0 2026-04-27  0.20.1 2026-05-03  0.20.2 2026-05-10  0.21.0 2026-05-15  0.22.0 2026-05-29
			0.22.1 2026-06-05  0.23.0 2026-06-13  0.24.0 2026-06-30  0.25.0 2026-07-11  0.25.1 2026-07-14
			0.26.0 2026-07-25  0.27.0 2026-08-10  0.27.1 2026-08-11  0.28.0 2026-08-26  0.29.0 2026-09-09
			0.30.0 2026-09-22  0.31.0 2026-10-05  0.32.0 2026-10-18  0.33.0 2026-11-02`,
	},
}

// CUDA is a version of NVIDIA's CUDA. The zero value means none.
type CUDA struct{ Major, Minor int }

// String returns the version as NVIDIA writes it, such as "12.9".
func (c CUDA) String() string { return fmt.Sprintf("%d.%d", c.Major, c.Minor) }

// drivers are the branches of NVIDIA's driver that came with a version of CUDA, oldest first (CUDA Toolkit Release Notes,
// table "CUDA Toolkit and Corresponding Driver Versions", Linux).
var drivers = []struct{ major, minor, branch int }{
	{12, 0, 525},
	{12, 4, 550},
	{12, 6, 560},
	{12, 8, 570},
	{12, 9, 575},
	{13, 0, 580},
}

// Driver returns the oldest branch of NVIDIA's driver, such as 575, that runs whatever was built with that CUDA; 0 when it isn't known.
func (c CUDA) Driver() int {
	branch := 0
	for _, driver := range drivers {
		if driver.major == c.Major && driver.minor <= c.Minor {
			branch = driver.branch
		}
	}
	return branch
}

// CompatibleDriver returns the oldest branch that runs programs of that CUDA with limited features: not those that the driver has to
// compile from PTX. It is 0 when it isn't known. (CUDA Compatibility, "Minor Version Compatibility"; vLLM's troubleshooting page, "the
// provided PTX was compiled with an unsupported toolchain".)
func (c CUDA) CompatibleDriver() int { return CUDA{Major: c.Major}.Driver() }

func compareCUDA(a, b CUDA) int {
	return cmp.Or(cmp.Compare(a.Major, b.Major), cmp.Compare(a.Minor, b.Minor))
}

// Release describes a release of vLLM.
type Release struct {
	Version string
	// Published is the day (UTC) of its publication, such as "2026-04-27"; "" when it isn't known.
	Published string
	// Wheel is the CUDA of the package that is installed by default, Image that of the image with the release's tag.
	Wheel, Image CUDA
	// OldestGPU and NewestGPU are the lowest and highest compute capability that it has kernels for, such as 7.5.
	OldestGPU, NewestGPU float64
	// GeForce is true where its image starts on GeForce GPUs with some older drivers too. On other GPUs every image accepts
	// drivers of the long-lived branches (NVIDIA_REQUIRE_CUDA).
	GeForce bool
}

// RunsOn reports whether the release has kernels for a GPU of that compute capability. It is true for 0, an unknown one.
func (r Release) RunsOn(capability float64) bool {
	return capability == 0 || (capability >= r.OldestGPU && capability <= r.NewestGPU)
}

// Releases lists the releases of the table, oldest first. The slice is the caller's.
func Releases() []Release {
	var all []Release
	for _, line := range lines {
		for release := range slices.Chunk(strings.Fields(line.releases), 2) {
			line.Version, line.Published = release[0], release[1]
			all = append(all, line.Release)
		}
	}
	return all
}

// NewestRelease returns the newest release of the table that suits; ok is false when none does.
func NewestRelease(suits func(Release) bool) (release Release, ok bool) {
	for _, release := range slices.Backward(Releases()) {
		if suits(release) {
			return release, true
		}
	}
	return Release{}, false
}

// FindRelease returns a release. One that is not in the table is assumed to equal the nearest older one; ok is false when there is
// none, or when the version can't be parsed. A build that names its CUDA, such as "0.33.0+cu129", has that.
func FindRelease(version string) (release Release, ok bool) {
	known := Releases()
	compare := func(r Release, version string) int { return compareReleases(r.Version, version) }
	at, exact := slices.BinarySearchFunc(known, version, compare)
	switch {
	case exact:
		release = known[at]
	case at == 0:
		return Release{}, false
	default:
		release = known[at-1]
		release.Published = ""
	}
	release.Version = version
	if cuda, named := buildCUDA(version); named {
		release.Wheel, release.Image = cuda, cuda
	}
	return release, true
}

// FindImageRelease is FindRelease for an image. ok is false when the image's release isn't known.
func FindImageRelease(ref string) (release Release, ok bool) {
	version, build, ok := imageRelease(ref)
	if !ok {
		return Release{}, false
	}
	release, ok = FindRelease(version)
	if cuda, named := buildCUDA(build); ok && named {
		release.Wheel, release.Image = cuda, cuda
	}
	return release, ok
}

var (
	versionPattern = regexp.MustCompile(`^v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:\.(\d{1,6}))?(?:\.post(\d{1,6}))?(?:\D|$)`)
	buildPattern   = regexp.MustCompile(`(?:^|[-_.+])cu(\d{2})(\d)(?:$|[-_.])`)
)

// numbersOf returns the numbers of a version, the most significant first; nil where it can't be parsed.
func numbersOf(version string) []int {
	found := versionPattern.FindStringSubmatch(version)
	if found == nil {
		return nil
	}
	numbers := make([]int, len(found)-1)
	for i, digits := range found[1:] {
		numbers[i], _ = strconv.Atoi(digits) // "" is 0; the pattern allows nothing else
	}
	return numbers
}

// buildCUDA returns the CUDA in a build's name: 12.9 for "x86_64-cu129".
func buildCUDA(build string) (CUDA, bool) {
	found := buildPattern.FindStringSubmatch(build)
	if found == nil {
		return CUDA{}, false
	}
	major, _ := strconv.Atoi(found[1]) // digits, by the pattern
	minor, _ := strconv.Atoi(found[2])
	return CUDA{Major: major, Minor: minor}, true
}

// ReleaseTable returns a table in Markdown, for a documentation page: which releases need which driver and GPU.
func ReleaseTable() string {
	var table strings.Builder
	table.WriteString("| vLLM | package: CUDA, driver | image: CUDA, driver | compute capability |\n|---|---|---|---|\n")
	for _, line := range slices.Backward(lines) {
		releases := strings.Fields(line.releases)
		fmt.Fprintf(&table, "| %s to %s | %s, %d | %s, %d | %.1f to %.1f |\n", releases[0], releases[len(releases)-2],
			line.Wheel, line.Wheel.Driver(), line.Image, line.Image.Driver(), line.OldestGPU, line.NewestGPU)
	}
	return table.String()
}

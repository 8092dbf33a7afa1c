package vllm

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// line is a run of releases that are made of the same things.
type line struct {
	// wheel is the CUDA of the package that is installed by default, image that of the image of the release's tag.
	wheel, image CUDA
	// oldest and newest are the compute capabilities of the GPUs that it has kernels for.
	oldest, newest float64
	// geForce: its image starts on GeForce with some older drivers too, as it does on data center GPUs.
	geForce bool
	// releases are its releases, each followed by the day (UTC) on which it was published, oldest first.
	releases string
}

// lines are vLLM's releases, oldest first: a line begins where something changes. Sources, read on 2026-11-28:
//   - days: the first for which `uv pip install --exclude-newer DAY vllm` resolves to the release;
//   - wheel: MAIN_CUDA_VERSION in setup.py (vllm/envs.py since 0.11.0) of the source packages 0.8.5.post1, 0.9.0, 0.11.0,
//     0.11.1, 0.12.0, 0.19.1, 0.20.0 and 0.33.0, and those between;
//   - image: ARG CUDA_VERSION in their docker/Dockerfile, and the release image in .buildkite/release-pipeline.yaml;
//   - oldest: their docs/getting_started/installation, "GPU: compute capability 7.0 or higher" ("7.5" since 0.20.0);
//   - newest: CUDA 12.4 knows no Blackwell; TORCH_CUDA_ARCH_LIST in their docker/Dockerfile;
//   - geForce: NVIDIA_REQUIRE_CUDA of the image nvidia/cuda of that CUDA: brand=geforce is in the list of 12.4 (branches
//     470, 525 and 535), and in none since 12.8 (github.com/vllm-project/vllm/issues/18813).
var lines = []line{
	{
		wheel: CUDA{12, 4}, image: CUDA{12, 4}, oldest: 7.0, newest: 9.0, geForce: true,
		releases: `
			0.8.0 2025-03-18  0.8.1 2025-03-19  0.8.2 2025-03-25  0.8.3 2025-04-06  0.8.4 2025-04-15
			0.8.5 2025-04-28  0.8.5.post1 2025-05-02`,
	},
	{
		wheel: CUDA{12, 8}, image: CUDA{12, 8}, oldest: 7.0, newest: 12.1,
		releases: `
			0.9.0 2025-05-28  0.9.0.1 2025-05-30  0.9.1 2025-06-10  0.9.2 2025-07-08  0.10.0 2025-07-25
			0.10.1 2025-08-19  0.10.1.1 2025-08-20  0.10.2 2025-09-13  0.11.0 2025-10-04`,
	},
	{
		wheel: CUDA{12, 8}, image: CUDA{12, 9}, oldest: 7.0, newest: 12.1,
		releases: `0.11.1 2025-11-19  0.11.2 2025-11-20`,
	},
	{
		wheel: CUDA{12, 9}, image: CUDA{12, 9}, oldest: 7.0, newest: 12.1,
		releases: `
			0.12.0 2025-12-03  0.13.0 2025-12-19  0.14.0 2026-01-20  0.14.1 2026-01-24  0.15.0 2026-01-29
			0.15.1 2026-02-05  0.16.0 2026-02-26  0.17.0 2026-03-07  0.17.1 2026-03-11  0.18.0 2026-03-20
			0.18.1 2026-03-31  0.19.0 2026-04-03  0.19.1 2026-04-18`,
	},
	{
		wheel: CUDA{13, 0}, image: CUDA{13, 0}, oldest: 7.5, newest: 12.1,
		releases: `
			0.20.0 2026-04-27  0.20.1 2026-05-03  0.20.2 2026-05-10  0.21.0 2026-05-15  0.22.0 2026-05-29
			0.22.1 2026-06-05  0.23.0 2026-06-13  0.24.0 2026-06-30  0.25.0 2026-07-11  0.25.1 2026-07-14
			0.26.0 2026-07-25  0.27.0 2026-08-10  0.27.1 2026-08-11  0.28.0 2026-08-26  0.29.0 2026-09-09
			0.30.0 2026-09-22  0.31.0 2026-10-05  0.32.0 2026-10-18  0.33.0 2026-11-02`,
	},
}

// CUDA is a version of NVIDIA's CUDA. The zero value is none.
type CUDA struct{ Major, Minor int }

// String is the version as it is written, such as "12.9".
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

// Driver is the oldest branch of NVIDIA's driver, such as 575, that runs whatever was built with that CUDA; 0 when it isn't known.
func (c CUDA) Driver() int {
	branch := 0
	for _, driver := range drivers {
		if driver.major == c.Major && driver.minor <= c.Minor {
			branch = driver.branch
		}
	}
	return branch
}

// CompatibleDriver is the oldest branch that runs programs of that CUDA with a limited set of features: not those that the
// driver itself must compile, from PTX. 0 when it isn't known. (CUDA Compatibility, "Minor Version Compatibility"; vLLM's
// troubleshooting page, "the provided PTX was compiled with an unsupported toolchain".)
func (c CUDA) CompatibleDriver() int { return CUDA{Major: c.Major}.Driver() }

func compareCUDA(a, b CUDA) int {
	return cmp.Or(cmp.Compare(a.Major, b.Major), cmp.Compare(a.Minor, b.Minor))
}

// Release is what one release of vLLM is made of.
type Release struct {
	Version string
	// Published is the day (UTC) of its publication, such as "2026-04-27"; "" when it isn't known.
	Published string
	// Wheel is the CUDA of the package that is installed by default, Image that of the image.
	Wheel, Image CUDA
	// OldestGPU and NewestGPU are the compute capabilities of the GPUs that it has kernels for, such as 7.5.
	OldestGPU, NewestGPU float64
	// GeForce tells that its image starts on GeForce with some older drivers too. Of other GPUs every image lets drivers of
	// the long-lived branches by (NVIDIA_REQUIRE_CUDA).
	GeForce bool
}

// RunsOn tells whether there are kernels for a GPU of that compute capability; always for 0, which is not known.
func (r Release) RunsOn(capability float64) bool {
	return capability == 0 || (capability >= r.OldestGPU && capability <= r.NewestGPU)
}

// Releases lists the releases of the table, oldest first. The slice is the caller's.
func Releases() []Release {
	var all []Release
	for _, line := range lines {
		for release := range slices.Chunk(strings.Fields(line.releases), 2) {
			all = append(all, Release{
				Version: release[0], Published: release[1], Wheel: line.wheel, Image: line.image,
				OldestGPU: line.oldest, NewestGPU: line.newest, GeForce: line.geForce,
			})
		}
	}
	return all
}

// NewestRelease is the newest release of the table that suits. It is not ok when none does.
func NewestRelease(suits func(Release) bool) (release Release, ok bool) {
	for _, release := range slices.Backward(Releases()) {
		if suits(release) {
			return release, true
		}
	}
	return Release{}, false
}

// FindRelease tells what a release is made of. One that is not in the table is made of what its nearest older one is; it
// is not ok when there is none, or the version can't be read. A build that names its CUDA, such as "0.33.0+cu129", has that.
func FindRelease(version string) (release Release, ok bool) {
	wanted, ok := numbersOf(version)
	if !ok {
		return Release{}, false
	}
	ok = false
	for _, candidate := range Releases() {
		numbers, _ := numbersOf(candidate.Version)
		order := slices.Compare(numbers, wanted)
		if order > 0 {
			break
		}
		release, ok = candidate, true
		if order < 0 {
			release.Published = ""
		}
	}
	if !ok {
		return Release{}, false
	}
	release.Version = version
	if cuda, named := buildCUDA(version); named {
		release.Wheel, release.Image = cuda, cuda
	}
	return release, true
}

// FindImageRelease is FindRelease for an image. It is not ok when the image's release can't be told.
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

// numbersOf are the numbers of a version, in the order in which they count.
func numbersOf(version string) ([]int, bool) {
	found := versionPattern.FindStringSubmatch(version)
	if found == nil {
		return nil, false
	}
	numbers := make([]int, len(found)-1)
	for i, digits := range found[1:] {
		numbers[i], _ = strconv.Atoi(digits) // "" is 0, and the pattern lets nothing else by
	}
	return numbers, true
}

// buildCUDA reads the CUDA of a build's name: 12.9 of "x86_64-cu129".
func buildCUDA(build string) (CUDA, bool) {
	found := buildPattern.FindStringSubmatch(build)
	if found == nil {
		return CUDA{}, false
	}
	major, _ := strconv.Atoi(found[1]) // digits, by the pattern
	minor, _ := strconv.Atoi(found[2])
	return CUDA{Major: major, Minor: minor}, true
}

// ReleaseTable is the table for a page, in Markdown: which releases need which driver and GPU.
func ReleaseTable() string {
	var table strings.Builder
	table.WriteString("| vLLM | package: CUDA, driver | image: CUDA, driver | compute capability |\n|---|---|---|---|\n")
	for _, line := range slices.Backward(lines) {
		releases := strings.Fields(line.releases)
		fmt.Fprintf(&table, "| %s to %s | %s, %d | %s, %d | %.1f to %.1f |\n", releases[0], releases[len(releases)-2],
			line.wheel, line.wheel.Driver(), line.image, line.image.Driver(), line.oldest, line.newest)
	}
	return table.String()
}

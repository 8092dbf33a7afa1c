package vllm

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
)

// ValidateImage refuses, with a *SpecError for the field "image", a reference that is none, or that names other
// contents tomorrow than today: one without tag and digest, or with a moving tag such as "latest".
func ValidateImage(ref string) error {
	var found problems
	const field = "image"
	const example = "such as vllm/vllm-openai:v0.33.0"
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		found.addf(field, "%q is not an image reference: %v; write one %s", clip(ref, maxQuoted), err, example)
		return found.err()
	}
	if _, ok := named.(reference.Digested); ok {
		return nil
	}
	tagged, ok := named.(reference.Tagged)
	switch {
	case !ok:
		found.addf(field, "%q has neither tag nor digest, so that each start may run another vLLM: pin it, %s", ref, example)
	case isMoving(tagged.Tag()):
		found.addf(field, "the tag %q moves, so that each start may run another vLLM: pin a release, %s, or a digest",
			tagged.Tag(), example)
	}
	return found.err()
}

// isMoving tells whether a tag is known to be given to other images over time. vLLM publishes "nightly" besides
// "nightly-<commit>", which stays.
func isMoving(tag string) bool {
	return tag == "latest" || strings.HasPrefix(tag, "latest-") || strings.HasSuffix(tag, "-latest") ||
		tag == "nightly" || strings.HasSuffix(tag, "-nightly")
}

var tagPattern = regexp.MustCompile(`^v?(\d+\.\d+\.\d+(?:\.post\d+)?(?:rc\d+)?)(?:[-+.](.*))?$`)

// ImageVersion is the vLLM release of an image, as the tag of vLLM's own images (or a copy of them) says: "0.33.0" for
// "vllm/vllm-openai:v0.33.0". It is not ok for images of other names, whose tags count something else, and for tags
// that name no release.
func ImageVersion(ref string) (version string, ok bool) {
	version, _, ok = imageRelease(ref)
	return version, ok
}

// imageRelease splits the tag into vLLM's release and what follows it, such as "cu129" or "x86_64".
func imageRelease(ref string) (version, build string, ok bool) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", "", false
	}
	path := reference.Path(named)
	tagged, isTagged := named.(reference.Tagged)
	if !isTagged || !strings.Contains(path[strings.LastIndexByte(path, '/')+1:], "vllm") {
		return "", "", false
	}
	found := tagPattern.FindStringSubmatch(tagged.Tag())
	if found == nil {
		return "", "", false
	}
	return found[1], found[2], true
}

// Branches of NVIDIA's driver, from its CUDA compatibility tables.
const (
	driverCUDA12 = 525
	driverCUDA13 = 580
)

// MinimumDriver is the oldest NVIDIA driver branch, such as 580, on which the default build of a vLLM release runs; 0
// when the version can't be read. Builds after v0.20.0 are CUDA 13, earlier ones CUDA 12.
func MinimumDriver(version string) int {
	numbers := releaseNumbers(version)
	switch {
	case numbers == nil:
		return 0
	case slices.Compare(numbers, []int{0, 20, 0}) > 0:
		return driverCUDA13
	}
	return driverCUDA12
}

var versionPattern = regexp.MustCompile(`^v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:\D|$)`)

// releaseNumbers are 0, 32 and 1 of "v0.32.1.post1", nil of what names no release.
func releaseNumbers(version string) []int {
	found := versionPattern.FindStringSubmatch(version)
	if found == nil {
		return nil
	}
	numbers := make([]int, len(found)-1)
	for i := range numbers {
		numbers[i], _ = strconv.Atoi(found[i+1]) // 0 where it isn't given
	}
	return numbers
}

var cudaBuildPattern = regexp.MustCompile(`(?:^|[-_.])cu(\d{2})\d(?:$|[-_.])`)

// ImageMinimumDriver is MinimumDriver for an image, which may be another build than the default one: a tag with
// "cu129" is CUDA 12. 0 when the image's release can't be told.
func ImageMinimumDriver(ref string) int {
	version, build, ok := imageRelease(ref)
	if !ok {
		return 0
	}
	switch group(cudaBuildPattern, build) {
	case "12":
		return driverCUDA12
	case "13":
		return driverCUDA13
	}
	return MinimumDriver(version)
}

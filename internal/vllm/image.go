package vllm

import (
	"regexp"
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
		found.addf(field, "%q has neither a tag nor a digest, so each start may run a different vLLM: pin a release, %s", ref, example)
	case isMoving(tagged.Tag()):
		found.addf(field, "the tag %q is not fixed, so each start may run a different vLLM: pin a release, %s, or a digest",
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

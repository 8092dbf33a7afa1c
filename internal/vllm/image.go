package vllm

import (
	"regexp"
	"strings"

	"github.com/distribution/reference"
)

// ValidateImage returns a *SpecError for the field "image" where ref is no image reference, or where its content can change: it has
// neither a tag nor a digest, or a moving tag such as "latest".
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

// isMoving reports whether a tag is known to move to newer images. vLLM publishes "nightly" besides "nightly-<commit>",
// which doesn't move.
func isMoving(tag string) bool {
	return tag == "latest" || strings.HasPrefix(tag, "latest-") || strings.HasSuffix(tag, "-latest") ||
		tag == "nightly" || strings.HasSuffix(tag, "-nightly")
}

var tagPattern = regexp.MustCompile(`^v?(\d+\.\d+\.\d+(?:\.post\d+)?(?:rc\d+)?)(?:[-+.](.*))?$`)

// ImageVersion returns the vLLM release of an image, by the tag of vLLM's own images and copies of them: "0.33.0" for
// "vllm/vllm-openai:v0.33.0". ok is false for images of other names, whose tags mean something else, and for tags
// that name no release.
func ImageVersion(ref string) (version string, ok bool) {
	version, _, ok = imageRelease(ref)
	return version, ok
}

// imageRelease splits an image's tag into vLLM's release and what follows it, such as "cu129" or "x86_64".
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

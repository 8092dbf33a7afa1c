package vllm

import (
	"cmp"
	"slices"
	"strings"
)

// masked replaces a secret.
const masked = "***"

// secretShapes match secrets by their shape or by what is before them. The first group is kept.
var secretShapes = oneOf(
	`(\b)hf_[A-Za-z0-9]{8,}`,
	`(?i)(\bbearer\s+)[A-Za-z0-9._~+/=-]{4,}`,
	`(?i)(["']?\b(?:vllm_)?api[-_]?key["']?\s*[:=]\s*\[?\s*)(?:"[^"]*"|'[^']*'|[^\s,;"'\])}]+)`,
	`(?i)(--api[-_]key\s+)(?:"[^"]*"|'[^']*'|[^\s-][^\s]*)`,
	`(?i)(["']?\b(?:hf[-_]token|hugging_face_hub_token)["']?\s*[:=]\s*)(?:"[^"]*"|'[^']*'|[^\s,;"'\])}]+)`,
	`(?i)(--hf[-_]token\s+)(?:"[^"]*"|'[^']*'|[^\s-][^\s]*)`,
)

// keptValues are values of an api_key that are no secrets.
var keptValues = []string{"None", "null", "[]", masked}

// MaskSecrets replaces each given secret in the text, and whatever has the shape of one (Hugging Face tokens, bearer
// tokens, values of api_key and hf_token), by "***". Empty secrets are ignored.
func MaskSecrets(text string, secrets ...string) string {
	longestFirst := func(a, b string) int { return cmp.Compare(len(b), len(a)) } // one secret may be part of another
	for _, secret := range slices.SortedFunc(slices.Values(secrets), longestFirst) {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, masked)
		}
	}
	for _, shape := range secretShapes() {
		text = shape.ReplaceAllStringFunc(text, func(found string) string {
			kept := shape.FindStringSubmatch(found)[1]
			if slices.Contains(keptValues, strings.TrimSpace(found[len(kept):])) {
				return found
			}
			return kept + masked
		})
	}
	return text
}

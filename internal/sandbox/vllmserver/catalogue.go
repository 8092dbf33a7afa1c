package vllmserver

import (
	"cmp"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// shapeOf returns the shape of a model. That of an unknown one is guessed from the size in
// its name.
func shapeOf(id string) facts.Model {
	if model, known := facts.FindModel(id); known {
		return model
	}
	name := strings.ToLower(path.Base(id))
	guess := facts.Model{
		Prefix: name, Architecture: "LlamaForCausalLM", Billions: 1, Layers: 32, Heads: 32, KVHeads: 8, HeadDim: 64, Context: 32768,
	}
	if m := sizeInName.FindStringSubmatch(name); m != nil {
		if size, err := strconv.ParseFloat(m[1], 64); err == nil && size > 0 {
			guess.Billions = size
		}
	}
	return guess
}

var sizeInName = regexp.MustCompile(`(?:^|[-_])(\d{1,4}(?:\.\d{1,3})?)b(?:$|[-_.])`)

// isGated reports whether a model's terms have to be accepted on the hub.
func isGated(id string) bool {
	lower := strings.ToLower(id)
	return strings.HasPrefix(lower, "meta-llama/") || strings.HasPrefix(lower, "google/gemma-")
}

// repoID is huggingface_hub's rule (utils/_validators.py).
var repoID = regexp.MustCompile(`^(\b[\w\-.]+\b/)?\b[\w\-.]{1,96}\b$`)

// exists reports whether the hub has a model: every well-formed name, unless it has
// "nosuch" in it.
func exists(id string) bool {
	if !repoID.MatchString(id) || strings.Contains(id, "--") || strings.Contains(id, "..") || strings.HasSuffix(id, ".git") {
		return false
	}
	return !strings.Contains(strings.ToLower(id), "nosuch")
}

// quantMethod is what the checkpoint's config.json gives as quant_method, "" for
// weights in bf16.
func quantMethod(id string) string {
	return cmp.Or(facts.MethodInName(strings.ToLower(path.Base(id))), shapeOf(id).Quantization)
}

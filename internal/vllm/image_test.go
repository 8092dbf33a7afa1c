package vllm

import (
	"slices"
	"strings"
	"testing"
)

// A name that goes to Docker is checked against Docker's own rules, here the image's.
func TestImageIsValidated(t *testing.T) {
	t.Parallel()
	digest := "@sha256:" + strings.Repeat("a1", 32)
	for ref, words := range map[string]string{ // "" = accepted
		"vllm/vllm-openai:v0.33.0":                      "",
		"docker.io/vllm/vllm-openai:v0.33.0":            "",
		"registry.example:5000/team/vllm-openai:v1-gpu": "",
		"vllm/vllm-openai" + digest:                     "",
		"vllm/vllm-openai:latest" + digest:              "",
		"vllm/vllm-openai:nightly-0123abcd":             "",
		"vllm/vllm-openai":                              "neither a tag nor a digest",
		"registry.example:5000/vllm-openai":             "neither a tag nor a digest",
		"vllm/vllm-openai:latest":                       `tag "latest" is not fixed`,
		"vllm/vllm-openai:nightly":                      `tag "nightly" is not fixed`,
		"vllm/vllm-openai:cu130-nightly":                "is not fixed",
		"vllm/vllm-openai:latest-cu129":                 "is not fixed",
		"":                                              "not an image reference",
		"vllm/vllm-openai:":                             "not an image reference",
		"Vllm/Vllm:v1":                                  "not an image reference",
		"vllm/vllm-openai:v1; reboot":                   "not an image reference",
		"vllm/vllm-openai:$(id)":                        "not an image reference",
		"--privileged":                                  "not an image reference",
		"vllm/vllm-openai:v1\n":                         "not an image reference",
		"vllm/vllm-openai@sha256:abc":                   "not an image reference",
		strings.Repeat("a", 10000) + ":v1":              "not an image reference",
	} {
		err := ValidateImage(ref)
		if words == "" {
			if err != nil {
				t.Errorf("%q: %v", ref, err)
			}
			continue
		}
		if fields := fieldsOf(t, err); !slices.Equal(fields, []string{"image"}) {
			t.Errorf("%q: fields %q", ref, fields)
			continue
		}
		if !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), "vllm/vllm-openai:v0.33.0") || len(err.Error()) > 1000 {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestImageVersion(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]struct {
		version string // "" = not ok
		driver  int
	}{
		"vllm/vllm-openai:v0.33.0":                                    {"0.33.0", 580},
		"vllm/vllm-openai:v0.33.0@sha256:" + strings.Repeat("a1", 32): {"0.33.0", 580},
		"vllm/vllm-openai:v0.33.0-cu129":                              {"0.33.0", 575},
		"vllm/vllm-openai:v0.33.0-x86_64-cu129-ubuntu2404":            {"0.33.0", 575},
		"vllm/vllm-openai:v0.19.1-cu130":                              {"0.19.1", 580},
		"vllm/vllm-openai:v0.19.1":                                    {"0.19.1", 575},
		"vllm/vllm-openai:v0.20.0":                                    {"0.20.0", 580},
		"vllm/vllm-openai:v0.21.0rc1":                                 {"0.21.0rc1", 580},
		"vllm/vllm-openai:v0.8.5.post1":                               {"0.8.5.post1", 550},
		"registry.example:5000/mirror/vllm-openai:0.11.0":             {"0.11.0", 570},
		"registry.example:5000/vllm":                                  {"", 0},
		"vllm/vllm-openai:latest":                                     {"", 0},
		"vllm/vllm-openai:nightly-0123abcd":                           {"", 0},
		"vllm/vllm-openai@sha256:" + strings.Repeat("a1", 32):         {"", 0},
		"vllm/other:v0.33.0":                                          {"", 0},
		"acme/llm:v0.33.0":                                            {"", 0},
		"not a reference":                                             {"", 0},
	} {
		version, ok := ImageVersion(ref)
		if version != want.version || ok != (want.version != "") {
			t.Errorf("%q: %q, %v", ref, version, ok)
		}
		release, ok := FindImageRelease(ref)
		if got := release.Image.Driver(); got != want.driver || ok != (want.version != "") {
			t.Errorf("%q: driver %d, want %d", ref, got, want.driver)
		}
	}
}

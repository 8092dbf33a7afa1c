package engine

import (
	"strconv"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// podman is the release of the Podman that the engine plays, "" for Docker.
func (e *Engine) podman() string { return e.facts().Podman }

// self is what the engine says of itself.
func (e *Engine) self() facts.Engine {
	if release := e.podman(); release != "" {
		return facts.FindEngine("podman", release)
	}
	return facts.FindEngine("docker", "")
}

// canUpdate tells whether a Podman has Docker's call to change a container, which came
// with release 5.1.
func canUpdate(release string) bool {
	first, rest, _ := strings.Cut(release, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, _ := strconv.Atoi(first) // no number: as old as can be
	minor, _ := strconv.Atoi(second)
	return major > 5 || major == 5 && minor >= 1
}

package engine

import "github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"

// podman is the release of Podman that the engine plays; "" = Docker.
func (e *Engine) podman() string { return e.facts().Podman }

// self is what the engine reports about itself.
func (e *Engine) self() facts.Engine {
	if release := e.podman(); release != "" {
		return facts.FindEngine("podman", release)
	}
	return facts.FindEngine("docker", "")
}

// canUpdate reports whether a release of Podman has Docker's call to update a container,
// as releases since 5.1 do.
func canUpdate(release string) bool {
	return facts.Compare(release, "5.1") >= 0
}

package container

import (
	"errors"

	"github.com/containerd/errdefs"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

// What [Connect] fails for that lies in the machine.
var (
	ErrNoEngine    = errors.New("no container engine")
	ErrUnreachable = errors.New("container engine unreachable")
)

// known adds a cause to an engine's error by its text, which is all that engines give.
func known(err error) error {
	if e, ok := errors.AsType[*deploy.Error](err); ok && e.Err != nil && e.Cause == "" {
		e.Explain(e.Err.Error(), imageRules)
	}
	return err
}

// imageRules are what Docker, Podman, containerd and registries say of an image.
var imageRules = []deploy.Rule{
	deploy.NewRule(`(?i)toomanyrequests|rate limit`,
		"The registry limits how often this machine may pull.",
		"Give registry_auth for the registry, or try again later."),
	deploy.NewRule(`(?i)manifest unknown|manifest for|not found: manifest`,
		"The registry has no such tag.",
		"Check the tag or digest of container.image."),
	deploy.NewRule(`(?i)pull access denied|unauthorized|authentication required|requested access to the resource is denied|`+
		`repository does not exist`,
		"The registry refuses the image, or has none of that name.",
		"Check the name in container.image; for a private image give registry_auth."),
	deploy.NewRule(`(?i)no matching manifest`,
		"The image isn't made for this machine's processor.",
		"Choose an image, or a machine, of the other architecture."),
	deploy.NewRule(`(?i)no such host|i/o timeout|tls handshake timeout|connection refused|network is unreachable`,
		"The engine can't reach the registry.",
		"Check the machine's network and name resolution, then apply again."),
}

func isNotFound(err error) bool { return err != nil && errdefs.IsNotFound(err) }

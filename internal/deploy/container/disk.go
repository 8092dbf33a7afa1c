package container

import (
	"context"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/system"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

// containerdScript prints where containerd keeps its data.
const containerdScript = `root=$(sed -n "s/^root *= *[\"']\(.*\)[\"']/\1/p" /etc/containerd/config.toml 2>/dev/null)
echo "${root:-/var/lib/containerd}"`

// ImageDirectory is where the engine keeps images. With containerd's image store, the default of fresh installations since
// Docker 29, containerd does that, wherever Docker keeps the rest (https://docs.docker.com/engine/storage/containerd/).
func (e *Engine) ImageDirectory(ctx context.Context, machine deploy.Machine) (string, error) {
	if !e.facts.containerdImages {
		return e.facts.Directory, nil
	}
	result, err := machine.Run(ctx, host.Command{Args: []string{"sh", "-c", containerdScript}})
	if err != nil {
		return "", failed(ctx, "look for containerd's directory", err)
	}
	return strings.TrimSpace(result.Stdout), nil
}

// inContainerd tells whether images are kept by a containerd that isn't Docker's own part, which shares Docker's directory. Its
// way of saying so is seen in github.com/google/cadvisor/issues/3643.
func inContainerd(info system.Info) bool {
	own := info.Containerd != nil && strings.Contains(info.Containerd.Address, "/docker/")
	return !own && slices.Contains(info.DriverStatus, [2]string{"driver-type", "io.containerd.snapshotter.v1"})
}

package container

import (
	"context"
	"errors"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

// podmanScript prints what Podman's API doesn't tell: the CDI devices for GPUs, by NVIDIA's toolkit and by the
// descriptions where Podman looks for them, and whether its containers are started after a boot. A user's own Podman
// is started by a service of the user's.
const podmanScript = `
nvidia-ctk cdi list 2>/dev/null
grep -hos 'nvidia\.com/gpu' /etc/cdi/* /var/run/cdi/*
scope=--system
[ "$1" = sudo ] || [ "$(id -u)" = 0 ] || scope=--user
systemctl "$scope" --quiet is-enabled podman-restart.service >/dev/null 2>&1 && echo starts at boot
exit 0
`

// askPodmansMachine completes the facts of a Podman.
func (e *Engine) askPodmansMachine(ctx context.Context, machine deploy.Machine) error {
	result, err := machine.Run(ctx, host.Command{
		Args: []string{"sh", "-s", "--", e.via[0]}, Stdin: strings.NewReader(podmanScript),
	})
	if err != nil {
		return errors.Join(failed(ctx, "look for CDI devices", err), e.Close())
	}
	e.facts.GPUs, e.facts.NotAtBoot = NoGPUs, true
	for line := range strings.Lines(result.Stdout) {
		switch line = strings.TrimSpace(line); {
		case line == "starts at boot":
			e.facts.NotAtBoot = false
		case strings.HasPrefix(line, cdiVendor):
			e.facts.GPUs = ByCDI
			if strings.HasPrefix(line, cdiVendor+"=") {
				e.facts.Devices = append(e.facts.Devices, line)
			}
		}
	}
	return nil
}

package lifecycle

import (
	"context"
	"fmt"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// checkPorts looks whether a proven server has a port open besides its own, and warns of one that stays open. Only a process can: a
// container's other ports aren't published.
func (l *launch) checkPorts(ctx context.Context, ref deploy.Ref) {
	h, ok := l.runtime.(*process.Host)
	if !ok {
		return
	}
	var open []process.OpenPort
	var closed []int
	err := l.again(ctx, deploy.PhaseCompletion, func() (err error) {
		open, closed, err = h.Ports(ctx, ref)
		return err
	})
	if err != nil {
		l.warn(fmt.Sprintf("Whether the server has other ports open could not be verified: %v", err))
	}
	for _, port := range closed {
		l.progress.report(deploy.PhaseCompletion, fmt.Sprintf("port %d, which the server opened besides its own, is closed in the machine's firewall", port))
	}
	for _, port := range open {
		fact, wayOut := vllm.OpenPort(port.Number)
		if port.Why != "" {
			fact += fmt.Sprintf(" The machine's firewall could not close it: %s.", strings.TrimRight(port.Why, "."))
		}
		l.warn(fact + " " + wayOut)
	}
}

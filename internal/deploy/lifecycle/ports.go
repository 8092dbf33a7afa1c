package lifecycle

import (
	"context"
	"fmt"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// checkPorts warns of each port that a server has open besides its own.
func (l *launch) checkPorts(ctx context.Context, ref deploy.Ref) {
	var open []deploy.OpenPort
	var closed []int
	err := l.again(ctx, deploy.PhaseCompletion, func() (err error) {
		open, closed, err = l.runtime.Ports(ctx, ref)
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

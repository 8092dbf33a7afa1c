package diagnostic

import (
	"context"
	"errors"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// The kinds of problems that data sources report as values instead of errors.
const (
	Unreachable = "unreachable"
	Credentials = "credentials"
	HostKey     = "host_key"
	Timeout     = "timeout"
	Unhealthy   = "unhealthy"
)

// ProblemText describes the kinds.
const ProblemText = "`unreachable`, `credentials` (the machine, the server or the shopper refuses them, or none are configured)," +
	" `host_key` (the machine presents a different one than configured), `timeout`, or `unhealthy` for anything else."

// Problem is the kind of err, "" for nil.
func Problem(err error) string {
	if err == nil {
		return ""
	}
	switch host.KindOf(err) {
	case host.AuthFailed, host.AgentFailed, host.BadKey:
		return Credentials
	case host.HostKeyChanged:
		return HostKey
	case host.Unreachable, host.Lost, host.Closed, host.Refused, host.Prohibited:
		return Unreachable
	default:
	}
	server, answered := errors.AsType[*vllm.Error](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	case vllm.IsUnauthorized(err), shopper.IsUnauthorized(err):
		return Credentials
	case shopper.IsUnreachable(err), answered && server.Status == 0 && !errors.Is(err, vllm.ErrNoTokens):
		return Unreachable
	}
	return Unhealthy
}

package lifecycle

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// DefaultDrainTimeout is the default of [Request.DrainTimeout], as Kubernetes gives pods.
const DefaultDrainTimeout = 30 * time.Second

// metricsTimeout bounds asking a server how many requests it has.
const metricsTimeout = 10 * time.Second

// asServed, as drain's limit, is the time that the server was started with.
const asServed = time.Duration(-1)

// Drain is the longest time that a stop waits for requests.
func (r Request) Drain() time.Duration {
	if r.DrainTimeout == nil {
		return DefaultDrainTimeout
	}
	return *r.DrainTimeout
}

// drainSeconds is the server's --shutdown-timeout. It is 0, for no flag, if the release doesn't know it and would not start. An unknown
// release, such as a custom image's, gets the flag if the request sets DrainTimeout.
func (l *launch) drainSeconds() int {
	limit := l.request.Drain()
	release := l.runtime.Release()
	if limit <= 0 || !vllm.KnowsFlag(release, vllm.DrainFlag) && (release != "" || l.request.DrainTimeout == nil) {
		return 0
	}
	return int((limit + time.Second - 1) / time.Second)
}

// draining is how to stop a server that may have requests.
type draining struct {
	deploy.Stop
	requests int // running or waiting; -1 if unknown
	begun    time.Time
}

// drain decides how to stop a server: with time for its requests, up to limit and to the time that the server was started with, or at
// once if it has none.
func drain(ctx context.Context, machine deploy.Machine, settings *TLS, status deploy.Status, limit time.Duration) draining {
	d := draining{begun: time.Now()}
	if status.State != deploy.Running || limit == 0 {
		return d
	}
	ctx, cancel := context.WithTimeout(ctx, metricsTimeout)
	defer cancel()
	metrics, err := Client(machine, settings, status.Ref, "").Metrics(ctx)
	switch {
	case err != nil && vllm.IsNotReady(err):
		return d // it is loading
	case err != nil || metrics.RequestsRunning == nil:
		d.requests = -1
	default:
		d.requests = int(*metrics.RequestsRunning + *cmp.Or(metrics.RequestsWaiting, new(float64)))
	}
	if d.requests == 0 {
		return d
	}
	d.Drain = time.Duration(vllm.ParseCommandLine(status.Arguments).DrainSeconds) * time.Second
	if limit != asServed {
		d.Drain = min(d.Drain, limit)
	}
	return d
}

// plan says what the stop waits for, "" for nothing.
func (d draining) plan() string {
	if d.Drain == 0 {
		return ""
	}
	return fmt.Sprintf("waiting up to %s for %s", d.Drain, d.what())
}

// note says which requests were aborted, once the server has stopped; "" for none.
func (d draining) note() string {
	were := d.what() + " were"
	if d.requests == 1 {
		were = d.what() + " was"
	}
	switch {
	case d.requests <= 0:
		return ""
	case d.Drain == 0: // it can't drain
		return fmt.Sprintf("%s aborted when the server stopped: it was started without %s, because of drain_timeout = \"0s\" or because"+
			" its vLLM release is not known to have that flag.", were, vllm.DrainFlag)
	case time.Since(d.begun) >= d.Drain:
		return fmt.Sprintf("%s given %s to finish (drain_timeout) and aborted after that.", were, d.Drain)
	}
	return ""
}

func (d draining) what() string {
	switch d.requests {
	case -1:
		return "requests that may have been running"
	case 1:
		return "1 running request"
	}
	return fmt.Sprintf("%d running requests", d.requests)
}

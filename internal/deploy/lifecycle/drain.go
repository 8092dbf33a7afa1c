package lifecycle

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// DefaultDrainTimeout is [Request.DrainTimeout] where it is nil: what Kubernetes gives a pod.
const DefaultDrainTimeout = 30 * time.Second

// metricsTimeout bounds the question how many requests there are.
const metricsTimeout = 10 * time.Second

// asServed is a limit to the draining of a server that is as long as the server was started with.
const asServed = time.Duration(-1)

// Drain is the longest that a stop waits for requests.
func (r Request) Drain() time.Duration {
	if r.DrainTimeout == nil {
		return DefaultDrainTimeout
	}
	return *r.DrainTimeout
}

// drainSeconds is the server's --shutdown-timeout: 0, which leaves it out, where its release doesn't know the flag and would
// not start.
// Of a release that can't be told, such as an image of one's own, whoever asks for draining is believed.
func (l *launch) drainSeconds() int {
	limit := l.request.Drain()
	release := l.runtime.Release()
	if limit <= 0 || !vllm.KnowsFlag(release, vllm.DrainFlag) && (release != "" || l.request.DrainTimeout == nil) {
		return 0
	}
	return int((limit + time.Second - 1) / time.Second)
}

// draining is how a server is stopped that may have requests.
type draining struct {
	deploy.Stop
	// Requests run or wait; -1 where the server doesn't say.
	requests int
	cut      bool // they are not let end, although they were to be
	begun    time.Time
}

// drain looks at a server that is to be stopped: one with requests is given up to the limit for them, as far as it was
// started with the flag for it. One without is not waited for.
func drain(ctx context.Context, machine deploy.Machine, settings *TLS, status deploy.Status, limit time.Duration) draining {
	d := draining{begun: time.Now()}
	if status.State != deploy.Running || limit == 0 {
		return d
	}
	ctx, cancel := context.WithTimeout(ctx, metricsTimeout)
	defer cancel()
	metrics, err := newClient(machine, settings, status.Listen, status.Port, "").Metrics(ctx)
	switch {
	case err != nil && vllm.IsNotReady(err):
		return d // it loads, and would not heed a single signal
	case err != nil || metrics.RequestsRunning == nil:
		d.requests = -1
	default:
		d.requests = int(*metrics.RequestsRunning + *cmp.Or(metrics.RequestsWaiting, new(float64)))
	}
	if d.requests == 0 {
		return d
	}
	able := time.Duration(vllm.ParseCommandLine(status.Arguments).DrainSeconds) * time.Second
	d.cut = able == 0
	d.Drain = able
	if limit != asServed {
		d.Drain = min(able, limit)
	}
	return d
}

// plan says what is being waited for, "" for nothing.
func (d draining) plan() string {
	if d.Drain == 0 {
		return ""
	}
	return fmt.Sprintf("waiting up to %s for %s", d.Drain, d.what())
}

// note says, once the server has stopped, which requests were not let end, "" for none.
func (d draining) note() string {
	switch {
	case d.requests <= 0:
		return ""
	case d.cut:
		return fmt.Sprintf("%s cut when the server stopped: it was started without %s, because of drain_timeout = \"0s\" or because its"+
			" release of vLLM is not known to have that flag.", d.were(), vllm.DrainFlag)
	case time.Since(d.begun) >= d.Drain:
		return fmt.Sprintf("%s given %s to end (drain_timeout), and cut if they took longer.", d.were(), d.Drain)
	}
	return ""
}

func (d draining) what() string {
	switch d.requests {
	case -1:
		return "requests that may be running"
	case 1:
		return "1 running request"
	}
	return fmt.Sprintf("%d running requests", d.requests)
}

func (d draining) were() string {
	if d.requests == 1 {
		return "1 running request was"
	}
	return d.what() + " were"
}

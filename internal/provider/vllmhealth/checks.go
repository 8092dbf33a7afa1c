package vllmhealth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/reach"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

type status string

const (
	passed  status = "passed"
	failed  status = "failed"
	skipped status = "skipped"
)

// names are the checks in their order.
var names = []string{"gpus", "runtime", "health", "model", "completion"}

// result is what one check found.
type result struct {
	name    string
	status  status
	problem string // diagnostic.Problem's word
	message string
	took    time.Duration
	facts   map[string]string
}

// finding is what a check found, in words and figures.
type finding struct {
	message string
	facts   map[string]string
}

// skipError is returned by a check that there is nothing to check by.
type skipError struct{ reason string }

func (e skipError) Error() string { return e.reason }

// patient is the server that is examined.
type patient struct {
	target     reach.Target
	server     *deploy.Ref // nil: not known
	model      string
	completion bool
	skip       map[string]bool
}

// check is one of the checks; what it takes is open.
type check func(ctx context.Context, route *reach.Route) (finding, error)

// examine runs all checks at the same time over one connection, so that one that
// hangs takes no time from the others. It always returns one result for each.
func (p patient) examine(ctx context.Context, data *providerdata.Data) []result {
	checks := map[string]check{
		"gpus": p.gpus, "runtime": p.runtime, "health": health, "model": p.models, "completion": p.complete,
	}
	results := make([]result, len(names))
	wanted := false
	for i, name := range names {
		results[i] = result{name: name, facts: map[string]string{}}
		results[i].fill(finding{}, skipError{"Left out."})
		wanted = wanted || !p.skip[name]
	}
	if !wanted {
		return results
	}
	route, loginErr := p.target.Open(ctx, data)
	if loginErr == nil {
		defer route.Close()
	}
	var running sync.WaitGroup
	for i, name := range names {
		if p.skip[name] {
			continue
		}
		running.Go(func() {
			begun := time.Now()
			found, err := finding{}, loginErr
			if loginErr == nil {
				found, err = checks[name](ctx, route)
			}
			results[i].took = time.Since(begun)
			results[i].fill(found, err)
		})
	}
	running.Wait()
	return results
}

func (r *result) fill(found finding, err error) {
	if found.facts != nil {
		r.facts = found.facts
	}
	if skip, ok := errors.AsType[skipError](err); ok {
		r.status, r.message = skipped, skip.reason
		return
	}
	r.problem = diagnostic.Problem(err)
	if err != nil {
		r.status, r.message = failed, err.Error()
		return
	}
	r.status, r.message = passed, found.message
}

func (p patient) gpus(ctx context.Context, route *reach.Route) (finding, error) {
	if route.Machine == nil {
		return finding{}, skipError{"There is no ssh to ask the machine by."}
	}
	gpus, err := deploy.GPUs(ctx, route.Machine)
	if err != nil {
		return finding{}, err
	}
	if len(gpus) == 0 {
		return finding{}, errors.New("nvidia-smi lists no GPU")
	}
	return finding{fmt.Sprintf("%d × %s", len(gpus), gpus[0].Name), gpuFacts(gpus)}, nil
}

// gpuFacts leaves out figures that nvidia-smi doesn't tell, which read zero.
func gpuFacts(gpus []deploy.GPU) map[string]string {
	facts := map[string]string{"count": strconv.Itoa(len(gpus))}
	for _, gpu := range gpus {
		prefix := fmt.Sprintf("gpu_%d_", gpu.Index)
		if gpu.Name != "" {
			facts[prefix+"name"] = gpu.Name
		}
		if gpu.MemoryMiB > 0 {
			facts[prefix+"memory_mib"] = strconv.Itoa(gpu.MemoryMiB)
			facts[prefix+"memory_used_mib"] = strconv.Itoa(gpu.UsedMiB)
		}
		if gpu.TemperatureC > 0 {
			facts[prefix+"temperature_c"] = strconv.Itoa(gpu.TemperatureC)
		}
	}
	return facts
}

func (p patient) runtime(ctx context.Context, route *reach.Route) (finding, error) {
	if route.Machine == nil || p.server == nil {
		return finding{}, skipError{"It takes both ssh and server to look."}
	}
	seen, err := deploy.Inspect(ctx, route.Machine, *p.server)
	if err != nil {
		return finding{}, err
	}
	facts := map[string]string{"state": string(seen.State), "restarts": strconv.Itoa(seen.RestartCount)}
	if seen.State != deploy.Running {
		text := fmt.Sprintf("the %s's status is %s", p.server.Runtime, seen.State)
		if seen.ExitCode != 0 { // vLLM ends with 0 when its engine has died
			facts["exit_code"] = strconv.Itoa(seen.ExitCode)
			text += fmt.Sprintf(", its exit code %d", seen.ExitCode)
		}
		return finding{facts: facts}, errors.New(strings.TrimSpace(text + ". " + seen.Reason))
	}
	if seen.RestartLoop {
		return finding{facts: facts}, fmt.Errorf("the %s keeps dying: it has been restarted %d times", p.server.Runtime, seen.RestartCount)
	}
	since := seen.StartedAt.UTC().Format(time.RFC3339)
	return finding{fmt.Sprintf("The %s has been running since %s.", p.server.Runtime, since), facts}, nil
}

// health asks the engine, and adds its figures where the server gives them.
func health(ctx context.Context, route *reach.Route) (finding, error) {
	if err := route.Server.Health(ctx); err != nil {
		return finding{}, err
	}
	metrics, err := route.Server.Metrics(ctx)
	if err != nil {
		found := finding{message: "The engine is alive. Its figures could not be read: " + err.Error()}
		return found, nil //nolint:nilerr // said in the message
	}
	facts := map[string]string{}
	for name, value := range map[string]*float64{
		"requests_running": metrics.RequestsRunning, "requests_waiting": metrics.RequestsWaiting,
		"requests_succeeded": metrics.RequestsSucceeded, "kv_cache_usage": metrics.KVCacheUsage,
		"first_token_seconds": metrics.FirstTokenSeconds,
	} {
		if value != nil {
			facts[name] = strconv.FormatFloat(*value, 'g', 6, 64)
		}
	}
	return finding{"The engine is alive.", facts}, nil
}

func (p patient) models(ctx context.Context, route *reach.Route) (finding, error) {
	served, err := p.served(ctx, route.Server)
	if err != nil {
		return finding{}, err
	}
	facts := map[string]string{"id": served.ID}
	if served.Root != "" {
		facts["root"] = served.Root
	}
	if served.MaxModelLen > 0 {
		facts["context_length"] = strconv.Itoa(served.MaxModelLen)
	}
	return finding{fmt.Sprintf("%s is served.", served.ID), facts}, nil
}

// served is the model that is examined.
func (p patient) served(ctx context.Context, client *vllm.Client) (vllm.Model, error) {
	models, err := client.Models(ctx)
	if err != nil {
		return vllm.Model{}, err
	}
	if len(models) == 0 {
		return vllm.Model{}, errors.New("the server serves no model")
	}
	if p.model == "" {
		return models[0], nil
	}
	at := slices.IndexFunc(models, func(m vllm.Model) bool { return m.ID == p.model })
	if at < 0 {
		return vllm.Model{}, fmt.Errorf("%q is not served; %q is", p.model, models[0].ID)
	}
	return models[at], nil
}

// answerTime leaves some of the time to ask a server that gives no token whether it says that it is healthy.
func answerTime(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return readTimeout
	}
	return time.Until(deadline) * 3 / 4
}

func (p patient) complete(ctx context.Context, route *reach.Route) (finding, error) {
	served, err := p.served(ctx, route.Server)
	if err != nil {
		return finding{}, err
	}
	proof, err := route.Server.ProbeWithin(ctx, served.ID, p.completion, answerTime(ctx))
	if err != nil {
		return finding{}, err
	}
	facts := map[string]string{"call": proof.Call, "latency_seconds": strconv.FormatFloat(proof.Duration.Seconds(), 'f', 3, 64)}
	return finding{"The model answered.", facts}, nil
}

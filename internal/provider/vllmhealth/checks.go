package vllmhealth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
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
	message string
	took    time.Duration
	facts   map[string]string
}

// finding is a check that passed: what it found, in words and figures.
type finding struct {
	message string
	facts   map[string]string
}

// skipError is returned by a check that there is nothing to check by.
type skipError struct{ reason string }

func (e skipError) Error() string { return e.reason }

// patient is the server that is examined.
type patient struct {
	machine    *host.Config // nil: reached directly
	server     *deploy.Ref  // nil: not known
	baseURL    string
	apiKey     string
	model      string
	completion bool
	skip       map[string]bool
}

// examine runs all checks over one connection. It always returns one result for
// each.
func (p patient) examine(ctx context.Context) []result {
	checks := map[string]func(context.Context, *host.Client, *vllm.Client) (finding, error){
		"gpus": p.gpus, "runtime": p.runtime, "health": health, "model": p.models, "completion": p.complete,
	}
	machine, transport, loginErr := p.login(ctx)
	if machine != nil {
		defer func() { _ = machine.Close() }()
	}
	client := vllm.NewClient(transport, p.baseURL, p.apiKey)
	results := make([]result, 0, len(names))
	for _, name := range names {
		begun := time.Now()
		r := result{name: name, facts: map[string]string{}}
		found, err := finding{}, loginErr
		switch {
		case p.skip[name]:
			err = skipError{"Left out."}
		case loginErr == nil:
			found, err = checks[name](ctx, machine, client)
		}
		r.took = time.Since(begun)
		r.fill(found, err)
		results = append(results, r)
	}
	return results
}

func (p patient) login(ctx context.Context) (*host.Client, http.RoundTripper, error) {
	if p.machine == nil {
		return nil, nil, nil
	}
	machine, err := host.Dial(ctx, *p.machine)
	if err != nil {
		return nil, nil, err
	}
	transport := machine.HTTPTransport()
	return machine, transport, nil
}

func (r *result) fill(found finding, err error) {
	if found.facts != nil {
		r.facts = found.facts
	}
	if skip, ok := errors.AsType[skipError](err); ok {
		r.status, r.message = skipped, skip.reason
		return
	}
	if err != nil {
		r.status, r.message = failed, err.Error()
		return
	}
	r.status, r.message = passed, found.message
}

func (p patient) gpus(ctx context.Context, machine *host.Client, _ *vllm.Client) (finding, error) {
	if machine == nil {
		return finding{}, skipError{"There is no ssh to ask the machine by."}
	}
	gpus, err := deploy.GPUs(ctx, machine)
	if err != nil {
		return finding{}, err
	}
	if len(gpus) == 0 {
		return finding{}, errors.New("nvidia-smi lists no GPU")
	}
	facts := map[string]string{"count": strconv.Itoa(len(gpus))}
	for _, gpu := range gpus {
		prefix := fmt.Sprintf("gpu_%d_", gpu.Index)
		facts[prefix+"name"] = gpu.Name
		facts[prefix+"memory_mib"] = strconv.Itoa(gpu.MemoryMiB)
		facts[prefix+"memory_used_mib"] = strconv.Itoa(gpu.UsedMiB)
	}
	return finding{fmt.Sprintf("%d × %s", len(gpus), gpus[0].Name), facts}, nil
}

func (p patient) runtime(ctx context.Context, machine *host.Client, _ *vllm.Client) (finding, error) {
	if machine == nil || p.server == nil {
		return finding{}, skipError{"It takes both ssh and server to look."}
	}
	seen, err := deploy.Inspect(ctx, machine, *p.server)
	if err != nil {
		return finding{}, err
	}
	facts := map[string]string{"state": string(seen.State), "restarts": strconv.Itoa(seen.RestartCount)}
	if seen.State != deploy.Running {
		facts["exit_code"] = strconv.Itoa(seen.ExitCode)
		return finding{facts: facts}, fmt.Errorf("the %s is %s, exit code %d. %s", p.server.Runtime, seen.State, seen.ExitCode, seen.Reason)
	}
	if seen.RestartLoop {
		return finding{facts: facts}, fmt.Errorf("the %s keeps dying: it has been restarted %d times", p.server.Runtime, seen.RestartCount)
	}
	return finding{fmt.Sprintf("The %s has been running since %s.", p.server.Runtime, seen.StartedAt.UTC().Format(time.RFC3339)), facts}, nil
}

// health asks the engine, and adds its figures where the server gives them.
func health(ctx context.Context, _ *host.Client, client *vllm.Client) (finding, error) {
	if err := client.Health(ctx); err != nil {
		return finding{}, err
	}
	facts := map[string]string{}
	if metrics, err := client.Metrics(ctx); err == nil {
		for name, value := range map[string]*float64{
			"requests_running": metrics.RequestsRunning, "requests_waiting": metrics.RequestsWaiting,
			"kv_cache_usage": metrics.KVCacheUsage,
		} {
			if value != nil {
				facts[name] = strconv.FormatFloat(*value, 'g', 6, 64)
			}
		}
	}
	return finding{"The engine is alive.", facts}, nil
}

func (p patient) models(ctx context.Context, _ *host.Client, client *vllm.Client) (finding, error) {
	served, err := p.served(ctx, client)
	if err != nil {
		return finding{}, err
	}
	facts := map[string]string{"id": served.ID, "root": served.Root, "context_length": strconv.Itoa(served.MaxModelLen)}
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

func (p patient) complete(ctx context.Context, _ *host.Client, client *vllm.Client) (finding, error) {
	served, err := p.served(ctx, client)
	if err != nil {
		return finding{}, err
	}
	proof, err := client.Probe(ctx, served.ID, p.completion)
	if err != nil {
		return finding{}, err
	}
	facts := map[string]string{"call": proof.Call, "latency_seconds": strconv.FormatFloat(proof.Duration.Seconds(), 'f', 3, 64)}
	return finding{"The model answered.", facts}, nil
}

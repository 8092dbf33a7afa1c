package vllmhealth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/reach"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

const (
	passed  = "passed"
	failed  = "failed"
	skipped = "skipped"
)

// names are the checks in their order.
var names = []string{"gpus", "runtime", "health", "model", "completion"}

// skipError is returned by a check that lacks the arguments it needs.
type skipError struct{ reason string }

func (e skipError) Error() string { return e.reason }

// patient is the server to check.
type patient struct {
	target     reach.Target
	server     *deploy.Ref // nil if it isn't configured
	model      string
	completion bool
	skip       []string
}

// check fills in the values of one check and returns its result in words.
type check func(ctx context.Context, route *reach.Route) (string, error)

// examine runs all checks in parallel over one connection, so that a hanging check delays no other.
func (p patient) examine(ctx context.Context, data *providerdata.Data) *checksModel {
	c := new(checksModel)
	checks := map[string]check{
		"gpus": c.GPUs.run, "health": c.Health.run,
		"runtime": func(ctx context.Context, route *reach.Route) (string, error) {
			return c.Runtime.run(ctx, route, *p.server)
		},
		"model":      func(ctx context.Context, route *reach.Route) (string, error) { return c.Model.run(ctx, route, p) },
		"completion": func(ctx context.Context, route *reach.Route) (string, error) { return c.Completion.run(ctx, route, p) },
	}
	var wanted []string
	for i, name := range names {
		switch {
		case slices.Contains(p.skip, name):
			c.outcomes()[i].fill("", skipError{"Skipped."})
		case name == "gpus" && p.target.SSH == nil:
			c.GPUs.fill("", skipError{"ssh is not set, so the machine was not checked."})
		case name == "runtime" && (p.target.SSH == nil || p.server == nil):
			c.Runtime.fill("", skipError{"This check requires both ssh and server."})
		default:
			wanted = append(wanted, name)
		}
	}
	if len(wanted) == 0 {
		return c
	}
	route, loginErr := p.target.Open(ctx, data)
	if loginErr == nil {
		defer route.Close()
	}
	var running sync.WaitGroup
	for i, name := range names {
		if !slices.Contains(wanted, name) {
			continue
		}
		out := c.outcomes()[i]
		if loginErr != nil { // reported once
			out.fill("", loginErr)
			if name != wanted[0] {
				out.Message = types.StringValue("Login to the machine failed: see " + wanted[0] + ".")
			}
			continue
		}
		running.Go(func() {
			begun := time.Now()
			found, err := checks[name](ctx, route)
			out.fill(found, err)
			out.DurationSeconds = types.Float64Value(time.Since(begun).Seconds())
		})
	}
	running.Wait()
	return c
}

func (o *outcome) fill(found string, err error) {
	o.DurationSeconds = types.Float64Value(0)
	if skip, ok := errors.AsType[skipError](err); ok {
		o.Status, o.Message = types.StringValue(skipped), types.StringValue(skip.reason)
		return
	}
	o.Status, o.Message = types.StringValue(passed), types.StringValue(found)
	if err != nil {
		o.Status, o.Message = types.StringValue(failed), types.StringValue(err.Error())
		o.Problem = attrs.Text(diagnostic.Problem(err))
	}
}

// failures are the failed checks with their results.
func (c *checksModel) failures() []string {
	list := []string{}
	for i, out := range c.outcomes() {
		if out.Status.ValueString() == failed {
			list = append(list, names[i]+": "+out.Message.ValueString())
		}
	}
	return list
}

func (c *gpusCheck) run(ctx context.Context, route *reach.Route) (string, error) {
	gpus, err := lifecycle.GPUs(ctx, route.Machine)
	if err != nil {
		return "", err
	}
	if len(gpus) == 0 {
		return "", errors.New("nvidia-smi lists no GPU")
	}
	for _, gpu := range gpus {
		device := deviceModel{
			Index: types.Int64Value(int64(gpu.Index)), Name: attrs.Text(gpu.Name),
			MemoryMiB: attrs.Number(gpu.MemoryMiB), TemperatureC: attrs.Number(gpu.TemperatureC),
		}
		if gpu.MemoryMiB > 0 {
			device.MemoryUsedMiB = types.Int64Value(int64(gpu.UsedMiB))
		}
		c.Devices = append(c.Devices, device)
	}
	return fmt.Sprintf("%d × %s", len(gpus), gpus[0].Name), nil
}

func (c *runtimeCheck) run(ctx context.Context, route *reach.Route, server deploy.Ref) (string, error) {
	seen, err := lifecycle.Inspect(ctx, route.Machine, server)
	if err != nil {
		return "", err
	}
	c.State, c.Restarts = types.StringValue(string(seen.State)), types.Int64Value(int64(seen.RestartCount))
	if seen.State != deploy.Running {
		text := fmt.Sprintf("the %s's status is %s", server.Runtime, seen.State)
		if seen.ExitCode != 0 { // vLLM exits with 0 when its engine has died
			c.ExitCode = types.Int64Value(int64(seen.ExitCode))
			text += fmt.Sprintf(", its exit code %d", seen.ExitCode)
		}
		return "", errors.New(strings.TrimSpace(text + ". " + seen.Reason))
	}
	if seen.RestartLoop {
		return "", fmt.Errorf("the %s keeps dying: it has been restarted %d times", server.Runtime, seen.RestartCount)
	}
	return fmt.Sprintf("The %s has been running since %s.", server.Runtime, seen.StartedAt.UTC().Format(time.RFC3339)), nil
}

// run checks the engine, and adds the values of its metrics if they can be read.
func (c *healthCheck) run(ctx context.Context, route *reach.Route) (string, error) {
	if err := route.Server.Health(ctx); err != nil {
		return "", err
	}
	metrics, err := route.Server.Metrics(ctx)
	if err != nil {
		return "The engine is alive. Its metrics could not be read: " + err.Error(), nil //nolint:nilerr // said in the message
	}
	c.RequestsRunning = types.Float64PointerValue(metrics.RequestsRunning)
	c.RequestsWaiting = types.Float64PointerValue(metrics.RequestsWaiting)
	c.RequestsSucceeded = types.Float64PointerValue(metrics.RequestsSucceeded)
	c.PromptTokens = types.Float64PointerValue(metrics.PromptTokens)
	c.GenerationTokens = types.Float64PointerValue(metrics.GenerationTokens)
	c.KVCacheUsage = types.Float64PointerValue(metrics.KVCacheUsage)
	c.FirstTokenSeconds = types.Float64PointerValue(metrics.FirstTokenSeconds)
	return "The engine is alive.", nil
}

func (c *modelCheck) run(ctx context.Context, route *reach.Route, p patient) (string, error) {
	served, err := p.served(ctx, route.Server)
	if err != nil {
		return "", err
	}
	c.ID, c.Root, c.ContextLength = types.StringValue(served.ID), attrs.Text(served.Root), attrs.Number(served.MaxModelLen)
	return fmt.Sprintf("%s is served.", served.ID), nil
}

// served is the model to check.
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
		return vllm.Model{}, fmt.Errorf("%q is not served, but %q is", p.model, models[0].ID)
	}
	return models[at], nil
}

// answerTime is how long a completion may take. It leaves time to check the health of a server that returns no token.
func answerTime(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return readTimeout
	}
	return time.Until(deadline) * 3 / 4
}

func (c *completionCheck) run(ctx context.Context, route *reach.Route, p patient) (string, error) {
	served, err := p.served(ctx, route.Server)
	if err != nil {
		return "", err
	}
	proof, err := route.Server.ProbeWithin(ctx, served.ID, p.completion, answerTime(ctx))
	if err != nil {
		return "", err
	}
	c.Call, c.LatencySeconds = types.StringValue(proof.Call), types.Float64Value(proof.Duration.Seconds())
	return "The model answered.", nil
}

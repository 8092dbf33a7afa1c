package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/tools/internal/cli"
)

const (
	// quick is the sandbox's speed: a minute of the service's takes a second.
	quick = 60
	// model is what is served.
	model = "Qwen/Qwen2.5-7B-Instruct"
)

// service is where a sandbox listens.
type service struct{ url string }

// offer is one of a market, with what its machine does.
func offer(id string, machine map[string]any) map[string]any {
	return map[string]any{
		"id": id, "gpu_type": "RTX 4090", "gpu_count": 1, "vram_gb": 23, "price_per_hour": 0.39, "location": "Virginia, US",
		"reliability": 0.99, "cuda_version": 12.9, "machine": machine,
	}
}

// write writes a value as JSON into a file of the world's folder.
func (w *world) write(name string, value any) (file string, err error) {
	data, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	file = filepath.Join(w.dir, name)
	return file, os.WriteFile(file, data, 0o600)
}

// startService starts a sandbox with this many offers, "vastai-1" and so on, at this speed. Their machines boot in a second of the
// service's time, and have vLLM installed, whose model loads in load of that time. It ends with the world.
func (w *world) startService(ctx context.Context, offers int, load time.Duration, speed int, flags ...string) (*service, error) {
	market := make([]map[string]any, offers)
	for i := range market {
		market[i] = offer("vastai-"+strconv.Itoa(i+1), map[string]any{"boot": "1s", "vllm": map[string]any{"Load": load, "Installed": "0.33.0"}})
	}
	file, err := w.write("offers.json", market)
	if err != nil {
		return nil, err
	}
	flags = append([]string{"-seed", "1", "-speed", strconv.Itoa(speed), "-offers", file, "-machines", "friendly"}, flags...)
	sandbox, err := cli.StartSandbox(ctx, w.dir, flags...)
	if err != nil {
		return nil, err
	}
	w.atEnd(sandbox.Close)
	return &service{sandbox.URL}, nil
}

// ask sends a request to the service or to the sandbox's control routes, and decodes the answer unless into is nil.
func (s *service) ask(ctx context.Context, method, path string, body, into any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode >= http.StatusMultipleChoices:
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	case into == nil:
		return nil
	}
	return json.Unmarshal(answer, into)
}

// traffic counts what the sandbox and its machines were asked.
type traffic struct{ Requests, Logins, Exchanges int }

func (s *service) traffic(ctx context.Context) (t traffic, err error) {
	var counted struct {
		Requests          map[string]int
		Logins, Exchanges int
	}
	err = s.ask(ctx, http.MethodGet, "/sandbox/traffic", nil, &counted)
	for _, n := range counted.Requests {
		t.Requests += n
	}
	t.Logins, t.Exchanges = counted.Logins, counted.Exchanges
	return t, err
}

// during returns the traffic that a function causes.
func (s *service) during(ctx context.Context, do func() error) (traffic, error) {
	before, err := s.traffic(ctx)
	err = errors.Join(err, do())
	after, problem := s.traffic(ctx)
	caused := traffic{after.Requests - before.Requests, after.Logins - before.Logins, after.Exchanges - before.Exchanges}
	return caused, errors.Join(err, problem)
}

// sessions is a configuration with n sessions, each from another offer.
func sessions(n int) string {
	return fmt.Sprintf(`resource "shopper_gpu_session" "s" {
  count    = %d
  name     = "s${count.index}"
  offer_id = "vastai-${count.index + 1}"
}
`, n)
}

// deployments is a configuration with n sessions and a server on each of their machines.
func deployments(n int) string {
	return sessions(n) + fmt.Sprintf(`resource "shopper_vllm_deployment" "d" {
  count      = %d
  session_id = shopper_gpu_session.s[count.index].id
  ssh        = shopper_gpu_session.s[count.index].ssh
  model      = %q
  process    = { install = "never" }
}
`, n, model)
}

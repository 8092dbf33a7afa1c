package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// quick is the sandbox's speed: a minute of the service's takes a second.
	quick = 60
	// patience is how long a sandbox that was asked to end may take.
	patience = time.Minute
	// model is what is served.
	model = "Qwen/Qwen2.5-7B-Instruct"
)

type output = bytes.Buffer

// service is a sandbox in a separate process.
type service struct {
	url     string
	process *exec.Cmd
	stdin   io.Closer
	log     output
}

// startService starts a sandbox with so many offers, "vastai-1" and on. Their machines boot in a second of the service's time,
// and have vLLM installed, which loads in load of it; all that goes at this speed. It ends with the world, or with this process.
func (w *world) startService(ctx context.Context, offers int, load time.Duration, speed int, flags ...string) (*service, error) {
	market := make([]map[string]any, offers)
	for i := range market {
		market[i] = map[string]any{
			"id": "vastai-" + strconv.Itoa(i+1), "gpu_type": "RTX 4090", "gpu_count": 1, "vram_gb": 23, "price_per_hour": 0.39,
			"location": "Virginia, US", "reliability": 0.99, "cuda_version": 12.9,
			"machine": map[string]any{"boot": "1s", "vllm": map[string]any{"Load": load, "Installed": "0.33.0"}},
		}
	}
	data, err := json.Marshal(market)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(w.dir, "offers.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return nil, err
	}
	s := &service{}
	s.process = exec.Command(filepath.Join(w.bin, "shopper-sandbox"), append([]string{ //nolint:noctx // ended by the world
		"-listen", "127.0.0.1:0", "-until-stdin-closes", "-log", "warn", "-seed", "1", "-speed", strconv.Itoa(speed), "-offers", file,
		"-machines", "friendly",
	}, flags...)...)
	s.process.Env = append(os.Environ(), "TMPDIR="+w.dir)
	s.process.SysProcAttr, s.process.Stderr = ownGroup(), &s.log
	if s.stdin, err = s.process.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := s.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, fmt.Errorf("starting the sandbox: %w", err)
	}
	w.atEnd(s.end)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("the sandbox didn't say where it listens: %w", err)
	}
	s.url = strings.TrimSpace(line)
	return s, ctx.Err()
}

// end ends the sandbox with its machines.
func (s *service) end() error {
	_ = s.stdin.Close()
	ended := make(chan error, 1)
	go func() { ended <- s.process.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("the sandbox ended with %w: %s", err, s.log.Bytes())
		}
		return nil
	case <-time.After(patience):
		kill(s.process)
		<-ended //nolint:errcheck // it was killed
		return fmt.Errorf("the sandbox didn't end within %s and was killed", patience)
	}
}

// ask sends a request to the service or to the sandbox's own routes, and decodes the answer unless into is nil.
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

// traffic is what the sandbox has been asked.
type traffic struct {
	Requests  map[string]int `json:"requests"`
	Logins    int            `json:"logins"`
	Exchanges int            `json:"exchanges"`
}

func (t traffic) total() int {
	total := 0
	for _, n := range t.Requests {
		total += n
	}
	return total
}

// during returns the traffic that something causes.
func (s *service) during(ctx context.Context, do func() error) (traffic, error) {
	var before, after traffic
	err := errors.Join(s.ask(ctx, http.MethodGet, "/sandbox/traffic", nil, &before), do(),
		s.ask(ctx, http.MethodGet, "/sandbox/traffic", nil, &after))
	for route, n := range before.Requests {
		after.Requests[route] -= n
	}
	return traffic{after.Requests, after.Logins - before.Logins, after.Exchanges - before.Exchanges}, err
}

// sessions is a configuration with n sessions, each of another offer.
func sessions(n int) string {
	return fmt.Sprintf(`resource "shopper_gpu_session" "s" {
  count    = %d
  name     = "s${count.index}"
  offer_id = "vastai-${count.index + 1}"
}
`, n)
}

// deployments is one with a server on each of them.
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

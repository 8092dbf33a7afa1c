package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	told      = 20               // applies
	toldLoad  = 25 * time.Second // how long the model loads
	toldApart = 4 * time.Second  // between the starts of two applies, which share the computer
)

// toldAtOnce applies a session with a server, many times at real speed, and compares when the sandbox has a machine or a model
// ready with when the CLI reports it.
func toldAtOnce(ctx context.Context, w *world) ([]row, error) {
	offers, err := w.lateMachines()
	if err != nil {
		return nil, err
	}
	s, err := w.startService(ctx, told, toldLoad, 1, "-offers", offers)
	if err != nil {
		return nil, err
	}
	found := make([]delays, told)
	applies, ctx := errgroup.WithContext(ctx)
	for i := range found {
		applies.Go(func() (err error) {
			if err := pause(ctx, time.Duration(i)*toldApart); err != nil {
				return err
			}
			found[i], err = w.applyOne(ctx, s, i+1)
			return err
		})
	}
	if err := applies.Wait(); err != nil {
		return nil, err
	}
	ran, ready, busiest, looks := []time.Duration{}, []time.Duration{}, 0, 0.0
	for _, d := range found {
		ran, ready = append(ran, d.running), append(ready, d.ready)
		busiest, looks = max(busiest, d.busiest), max(looks, d.looks)
	}
	note := fmt.Sprintf("%d applies at real speed", told)
	return []row{
		{what: "From a running machine until Terraform reports it, median", value: median(ran).Seconds(), unit: "s", goal: 0.5, note: note},
		{what: "The same, 95th percentile", value: late(ran).Seconds(), unit: "s", goal: 1},
		{what: "From a ready model until Terraform reports it, an answer included, median", value: median(ready).Seconds(), unit: "s", goal: 0.5, note: note},
		{what: "The same, 95th percentile", value: late(ready).Seconds(), unit: "s", goal: 1},
		{what: "Requests of one apply to the service in a minute, at most", value: float64(busiest), goal: 60},
		{what: "Looks at a loading server in a minute, at most", value: looks, goal: 30},
	}, nil
}

// late is the 95th percentile.
func late(values []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(values))[(len(values)*95+99)/100-1]
}

// lateMachines writes a market whose machines answer after 3 to 41 seconds, so that the service sees them at different checks.
func (w *world) lateMachines() (file string, err error) {
	market := make([]map[string]any, told)
	for i := range market {
		market[i] = offer("vastai-"+strconv.Itoa(i+1), map[string]any{
			"boot": 3 + 2*i, "vllm": map[string]any{"Load": toldLoad, "Installed": "0.33.0"},
		})
	}
	return w.write("late.json", market)
}

// delays are those of one apply, and what it asked meanwhile.
type delays struct {
	running, ready time.Duration
	busiest        int     // requests in a minute
	looks          float64 // at the server, in a minute
}

// applyOne applies one session and its server through a separate service of the sandbox, and destroys both.
func (w *world) applyOne(ctx context.Context, shared *service, number int) (d delays, err error) {
	var own struct{ URL string }
	if err := shared.ask(ctx, http.MethodPost, "/sandbox/services", nil, &own); err != nil {
		return d, err
	}
	s := &service{own.URL}
	config := strings.ReplaceAll(deployments(1), "count.index + 1", strconv.Itoa(number))
	stack, err := w.newStack("told-"+strconv.Itoa(number), s.url, config)
	if err != nil {
		return d, err
	}
	took, err := stack.run(ctx, "apply", "-auto-approve", "-json")
	if err != nil {
		return d, err
	}
	session, toldSession, err := completed(took.out, "shopper_gpu_session")
	if err != nil {
		return d, err
	}
	_, toldServer, err := completed(took.out, "shopper_vllm_deployment")
	if err != nil {
		return d, err
	}
	var at struct{ Running, Ready time.Time }
	var ran struct{ Commands []string }
	var seen struct {
		Busiest int `json:"busiest_minute"`
	}
	for path, into := range map[string]any{
		"/sandbox/machines/" + session + "/moments": &at, "/sandbox/machines/" + session + "/commands": &ran, "/sandbox/traffic": &seen,
	} {
		if err := s.ask(ctx, http.MethodGet, path, nil, into); err != nil {
			return d, err
		}
	}
	d = delays{running: toldSession.Sub(at.Running), ready: toldServer.Sub(at.Ready), busiest: seen.Busiest}
	for _, command := range ran.Commands {
		if strings.Contains(command, "sh -s -- status") {
			d.looks += float64(time.Minute) / float64(max(time.Minute, at.Ready.Sub(toldSession)))
		}
	}
	return d, stack.destroy(ctx)
}

// completed finds in the CLI's output with -json the id of a resource that was created, and when the CLI reported it.
func completed(out []byte, kind string) (id string, at time.Time, err error) {
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event struct {
			Type string
			At   time.Time `json:"@timestamp"`
			Hook struct {
				Resource struct {
					Type string `json:"resource_type"`
				}
				ID string `json:"id_value"`
			}
		}
		if json.Unmarshal(lines.Bytes(), &event) == nil && event.Type == "apply_complete" && event.Hook.Resource.Type == kind {
			return event.Hook.ID, event.At, nil
		}
	}
	return "", at, fmt.Errorf("the CLI didn't report that it created a %s:\n%s", kind, out)
}

package main

import (
	"context"
	"fmt"
	"time"
)

// How long a machine's parts take in the service's time, which goes overlapSpeed times as fast.
const (
	overlapSpeed = 20
	driverBuild  = 15 * time.Minute // after boot
	imagePull    = 20 * time.Minute
	modelLoad    = 2 * time.Minute
)

// overlap deploys a container on a machine that builds its driver and has no image yet. The proportions are a real machine's.
func overlap(ctx context.Context, w *world) ([]row, error) {
	market, err := w.write("building.json", []any{offer("tensordock-1", map[string]any{
		"driver_build": driverBuild.String(), "docker": true, "vllm": map[string]any{"Load": modelLoad},
	})})
	if err != nil {
		return nil, err
	}
	faults, err := w.write("slow.json", []any{map[string]any{"route": "machine boot", "fault": "slow_pull", "value": imagePull.String()}})
	if err != nil {
		return nil, err
	}
	s, err := w.startService(ctx, 1, 0, overlapSpeed, "-offers", market, "-faults", faults)
	if err != nil {
		return nil, err
	}
	stack, err := w.newStack("overlap", s.url, fmt.Sprintf(`resource "shopper_gpu_session" "s" {
  name     = "s"
  offer_id = "tensordock-1"
}
resource "shopper_vllm_deployment" "d" {
  session_id = shopper_gpu_session.s.id
  ssh        = shopper_gpu_session.s.ssh
  model      = %q
  container  = { image = "vllm/vllm-openai:v0.33.0" }
}
`, model))
	if err != nil {
		return nil, err
	}
	took, err := stack.run(ctx, "apply", "-auto-approve", "-json")
	if err != nil {
		return nil, err
	}
	_, begun, err := completed(took.out, "shopper_gpu_session")
	if err != nil {
		return nil, err
	}
	_, ended, err := completed(took.out, "shopper_vllm_deployment")
	if err != nil {
		return nil, err
	}
	needed := ended.Sub(begun) * overlapSpeed
	return []row{{
		what:  "A driver's build, an image's pull and a load: the time that they take, against their sum",
		value: float64(needed) / float64(driverBuild+imagePull+modelLoad), unit: "×", goal: 0.75,
		note: fmt.Sprintf("%.0f, %.0f and %.0f minutes took %.1f", driverBuild.Minutes(), imagePull.Minutes(), modelLoad.Minutes(),
			needed.Minutes()),
	}}, stack.destroy(ctx)
}

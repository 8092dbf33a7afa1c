package lifecycle_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/engine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// busy gives the server a request that goes on until the returned function lets it; its answer is what comes out.
func (r *rig) busy(t *testing.T, status deploy.Status) (release func(), answer <-chan error) {
	t.Helper()
	hang := func(on bool) { r.facts(t, func(f *machinefs.Facts) { f.VLLM.Hang = on }) }
	hang(true)
	answered := make(chan error, 1)
	client := vllm.NewClient(r.HTTPTransport(), "http://127.0.0.1:"+itoa(status.Port), testKey)
	ctx := within(t, limit)
	go func() {
		_, err := client.Complete(ctx, "chat")
		answered <- err
	}()
	testkit.Eventually(t, "a running request", func() bool {
		metrics, err := client.Metrics(ctx)
		return err == nil && metrics.RequestsRunning != nil && *metrics.RequestsRunning == 1
	})
	return func() { hang(false) }, answered
}

// A server that is removed or replaced lets its requests end first, and is not waited for once they have.
func TestStopLetsRequestsEnd(t *testing.T) {
	t.Parallel()
	stops := map[string]func(*testing.T, *rig, deploy.Status, lifecycle.Request) (string, error){
		"removed": func(t *testing.T, r *rig, status deploy.Status, request lifecycle.Request) (string, error) {
			t.Helper()
			return lifecycle.Remove(within(t, limit), r, status.Ref, request)
		},
		"replaced": func(t *testing.T, r *rig, status deploy.Status, request lifecycle.Request) (string, error) {
			t.Helper()
			request.Spec.ExtraArgs = []string{"--seed", "1"}
			status, err := lifecycle.Replace(within(t, limit), r, status.Ref, request, lifecycle.Rollback)
			return strings.Join(status.Warnings, " "), err
		},
		"restarted": func(t *testing.T, r *rig, status deploy.Status, request lifecycle.Request) (string, error) {
			t.Helper()
			_, err := lifecycle.Restart(within(t, limit), r, status.Ref, request)
			return "", err
		},
	}
	for name, stop := range stops {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
				t.Helper()
				status := launch(t, r, request())
				release, answer := r.busy(t, status)
				type result struct {
					warning string
					err     error
				}
				done, seen, wanted := make(chan result, 1), &events{}, request()
				wanted.Progress = seen.add
				go func() {
					warning, err := stop(t, r, status, wanted)
					done <- result{warning, err}
				}()
				testkit.Eventually(t, "the server to drain", func() bool {
					log, _ := lifecycle.LogTail(within(t, limit), r, status.Ref, 5)
					return strings.Contains(strings.Join(log, "\n"), "draining in-flight requests count=1 timeout=30s")
				})
				select {
				case early := <-done:
					t.Fatalf("stopped while a request ran: %+v", early)
				case err := <-answer:
					t.Fatalf("the request was cut: %v", err)
				default:
				}
				release()
				if err := <-answer; err != nil {
					t.Errorf("the request did not end well: %v", err)
				}
				if got := <-done; got.err != nil || got.warning != "" {
					t.Errorf("%v: %s\n%s", got.err, got.warning, describe(got.err))
				}
				contains(t, seen.text(), "waiting up to 30s for 1 running request")
			})
		})
	}
}

// Aborted requests are reported: those that take too long, and those of a server that doesn't drain.
func TestRequestsThatAreCutAreTold(t *testing.T) {
	t.Parallel()
	short, none := time.Second, time.Duration(0)
	for name, test := range map[string]struct {
		change        func(*lifecycle.Request)
		limit         *time.Duration
		flag, warning string
	}{
		"too long":   {func(q *lifecycle.Request) { q.DrainTimeout = &short }, &short, "--shutdown-timeout 1", "1 running request was given 1s to finish"},
		"not wanted": {func(q *lifecycle.Request) { q.DrainTimeout = &none }, &none, "", ""},
		"old release": {
			func(q *lifecycle.Request) { q.Container.Image, q.DrainTimeout = "vllm/vllm-openai:v0.10.2", &short }, nil, "",
			"1 running request was aborted when the server stopped",
		},
		"unknown release": {func(q *lifecycle.Request) { q.Container.Image = "registry.example/own/serving:1" }, nil, "", "not known to have that flag"},
		"unknown release, but asked to": {func(q *lifecycle.Request) {
			q.Container.Image, q.DrainTimeout = "registry.example/own/serving:1", &short
		}, nil, "--shutdown-timeout 1", "given 1s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, vm(), engine.Image{Ref: "registry.example/own/serving:1", Version: "0.33.0"})
			wanted := request()
			test.change(&wanted)
			status := launch(t, r, wanted)
			if line := strings.Join(status.Arguments, " "); !strings.Contains(line, test.flag) || test.flag == "" && strings.Contains(line, vllm.DrainFlag) {
				t.Errorf("started as %s, want %q", line, test.flag)
			}
			_, answer := r.busy(t, status)
			warning, err := lifecycle.Remove(within(t, limit), r, status.Ref, lifecycle.Request{DrainTimeout: test.limit})
			if err != nil || !strings.Contains(warning, test.warning) || (warning == "") != (test.warning == "") {
				t.Errorf("%v: warned %q, want %q", err, warning, test.warning)
			}
			if <-answer == nil {
				t.Error("the request was let end")
			}
		})
	}
}

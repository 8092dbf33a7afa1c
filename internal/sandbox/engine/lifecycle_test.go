package engine_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

func TestAContainersWholeLife(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.pull(testImage)
	id := r.create("vllm", published("18000"), testModel, "--port", "8000")
	if s := r.inspect(id).State; s.Status != container.StateCreated || s.Running {
		t.Fatalf("created: %+v", s)
	}
	r.start(id)
	r.awaitReady(18000)
	got := r.inspect("vllm")
	pid := got.State.Pid
	if !got.State.Running || pid == 0 || gone(pid) || got.Image == "" || got.RestartCount != 0 {
		t.Errorf("running: %+v", got.State)
	}
	if !strings.Contains(strings.Join(got.Config.Env, " "), "VLLM_API_KEY=sk-secret") {
		t.Errorf("Config.Env = %q", got.Config.Env)
	}
	if strings.Contains(r.commands(), "sk-secret") || !strings.Contains(r.commands(), "vllm serve "+testModel) {
		t.Errorf("commands: %s", r.commands())
	}
	stdout, stderr := r.logs(id, everything)
	if !strings.Contains(stdout, "Model loading took") || !strings.Contains(stderr, "Application startup complete.") {
		t.Errorf("stdout:\n%s\nstderr:\n%s", stdout, stderr)
	}
	checkServerAnswers(t, r.web(18000))
	if _, err := r.docker.ContainerStop(r.ctx(), id, client.ContainerStopOptions{}); err != nil {
		t.Fatal(err)
	}
	stopped := r.inspect(id).State
	if stopped.Status != container.StateExited || stopped.ExitCode != 0 || stopped.Running || !gone(pid) {
		t.Errorf("stopped: %+v", stopped)
	}
	if _, stderr = r.logs(id, everything); !strings.Contains(stderr, "Application shutdown complete.") {
		t.Errorf("no clean end in:\n%s", stderr)
	}
	if _, err := r.docker.ContainerRemove(r.ctx(), id, client.ContainerRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := r.docker.ContainerInspect(r.ctx(), id, client.ContainerInspectOptions{})
	wantError(t, err, "No such container: "+id)
}

func checkServerAnswers(t *testing.T, web *http.Client) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://machine/v1/models", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer sk-secret")
	response, err := web.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var models struct {
		Data []struct{ ID string }
	}
	if err := json.Unmarshal(data, &models); err != nil || len(models.Data) != 1 || models.Data[0].ID != testModel {
		t.Errorf("models: %s", data)
	}
}

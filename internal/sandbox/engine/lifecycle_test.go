package engine_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/engine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
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
	testkit.Eventually(r.t, "the log of the start", func() bool { // the engine reads it while the server answers already
		stdout, stderr := r.logs(id, everything)
		return strings.Contains(stdout, "Model loading took") && strings.Contains(stderr, "Application startup complete.")
	})
	checkServerAnswers(t, r.web(18000))
	if _, err := r.docker.ContainerStop(r.ctx(), id, client.ContainerStopOptions{}); err != nil {
		t.Fatal(err)
	}
	stopped := r.inspect(id).State
	if stopped.Status != container.StateExited || stopped.ExitCode != 0 || stopped.Running || !gone(pid) {
		t.Errorf("stopped: %+v", stopped)
	}
	if _, stderr := r.logs(id, everything); !strings.Contains(stderr, "Application shutdown complete.") {
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
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://machine/v1/models", http.NoBody)
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

// TestImagesBefore011RunTheModule: their entrypoint is not `vllm serve`, and what
// follows are flags only.
func TestImagesBefore011RunTheModule(t *testing.T) {
	t.Parallel()
	const old = "vllm/vllm-openai:v0.10.2"
	r := newRig(t, quick, func(cfg *engine.Config, _ *machinefs.Facts) {
		cfg.Images = append(cfg.Images, engine.Image{Ref: old, Local: true})
	})
	host := published("8000")
	id := r.createRaw("old", &container.Config{Image: old, ExposedPorts: exposed(host), Cmd: []string{"--model", testModel}}, host)
	if path := r.inspect(id).Path; path != "python3" {
		t.Errorf("Path = %q", path)
	}
	r.start(id)
	r.awaitReady(8000)
	bad := r.createRaw("bad", &container.Config{Image: old, Cmd: []string{"serve", testModel, "--nonsense"}}, nil)
	r.start(bad)
	testkit.Eventually(r.t, "the end", func() bool { return !r.inspect(bad).State.Running })
	if _, stderr := r.logs(bad, everything); !strings.Contains(stderr, "api_server.py: error: unrecognized arguments: "+testModel+" --nonsense") {
		t.Errorf("stderr: %s", stderr)
	}
}

func TestACommandThatIsNotThere(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	for command, want := range map[string]string{
		"/opt/nothing":   `exec: "/opt/nothing": stat /opt/nothing: no such file or directory`,
		"no-such-thing1": `exec: "no-such-thing1": executable file not found in $PATH`,
	} {
		id := r.createRaw("x-"+filepath.Base(command), &container.Config{Image: testImage, Entrypoint: []string{command}}, nil)
		_, err := r.docker.ContainerStart(r.ctx(), id, client.ContainerStartOptions{})
		wantError(t, err, want)
		if s := r.inspect(id).State; s.ExitCode != 127 || s.Running {
			t.Errorf("state: %+v", s)
		}
	}
}

func TestRename(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	id := r.create("one", nil)
	r.create("two", nil)
	_, err := r.docker.ContainerRename(r.ctx(), id, client.ContainerRenameOptions{NewName: "two"})
	wantError(t, err, `The container name "/two" is already in use`)
	if _, err := r.docker.ContainerRename(r.ctx(), id, client.ContainerRenameOptions{NewName: "three"}); err != nil {
		t.Fatal(err)
	}
	if got := r.inspect("three"); got.ID != id || got.Name != "/three" {
		t.Errorf("renamed: %s %s", got.Name, got.ID)
	}
	r.create("one", nil) // the old name is free
}

// TestASlowPullEndsWithItsRequest: a caller that gives up leaves no image behind.
func TestASlowPullEndsWithItsRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.engine.SlowPull(time.Hour)
	ctx, cancel := context.WithCancel(r.ctx())
	defer cancel()
	response, err := r.docker.ImagePull(ctx, testImage, client.ImagePullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	messages := 0
	for _, err := range response.JSONMessages(ctx) {
		if messages++; messages == 2 {
			cancel()
		}
		if err != nil {
			break
		}
	}
	if _, err := r.docker.ImageInspect(r.ctx(), testImage); err == nil || messages < 2 {
		t.Errorf("an image after %d messages: %v", messages, err)
	}
}

package engine_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/engine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// docker runs the docker command line against the rig's engine.
func (r *rig) dockerCLI(ctx context.Context, program string, args ...string) (stdout, stderr string, err error) {
	r.t.Helper()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{"DOCKER_HOST=unix://" + r.root.DockerSocket(), "HOME=" + r.t.TempDir(), "PATH=" + os.Getenv("PATH")}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// TestDockerCommandLine drives the engine with the real docker command.
func TestDockerCommandLine(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("SKIPPED: no docker command line on this machine")
	}
	r := newRig(t, func(cfg *engine.Config, facts *machinefs.Facts) { facts.Speed = 3000 })
	var id string
	for _, step := range []struct {
		args []string
		want string // in standard output, or in standard error of a step that fails
		fail bool
	}{
		{args: []string{"version"}, want: "28.4.0"},
		{args: []string{"info", "--format", "{{json .Runtimes}}"}, want: "nvidia-container-runtime"},
		{args: []string{"pull", "nobody/nothing:1"}, want: "pull access denied", fail: true},
		{args: []string{"pull", "-q", testImage}, want: testImage},
		{args: []string{"images"}, want: "vllm/vllm-openai"},
		{args: []string{"run", "-d", "--name", "vllm", "--gpus", "all", "-p", "127.0.0.1:8000:8000", "--ipc=host", "-v", "hf:/root/.cache/huggingface", "-e", "HF_TOKEN=x", testImage, testModel, "--gpu-memory-utilization", "0.4"}, want: ""},
		{args: []string{"run", "-d", "--name", "vllm", testImage}, want: `The container name "/vllm" is already in use`, fail: true},
		{args: []string{"run", "-d", "-p", "8000:8000", testImage, testModel}, want: "port is already allocated", fail: true},
		{args: []string{"ps", "--format", "{{.Names}} {{.Ports}}"}, want: "vllm 127.0.0.1:8000->8000/tcp"},
		{args: []string{"inspect", "-f", "{{.State.Status}} {{.RestartCount}}", "vllm"}, want: "running 0"},
		{args: []string{"update", "--restart", "unless-stopped", "vllm"}, want: "vllm"},
		{args: []string{"rename", "vllm", "kept"}},
		{args: []string{"volume", "ls", "-q"}, want: "hf"},
		{args: []string{"stop", "-t", "5", "kept"}, want: "kept"},
		{args: []string{"logs", "kept"}, want: "version 0.11.0"},
		{args: []string{"rm", "-v", "kept"}, want: "kept"},
		{args: []string{"ps", "-aq", "--filter", "name=kept"}},
	} {
		stdout, stderr, err := r.dockerCLI(r.ctx(), program, step.args...)
		line := strings.Join(step.args, " ")
		switch {
		case step.fail && (err == nil || !strings.Contains(stderr, step.want)):
			t.Errorf("docker %s: %v, %s", line, err, stderr)
		case !step.fail && (err != nil || !strings.Contains(stdout, step.want)):
			t.Errorf("docker %s: %v\n%s\n%s", line, err, stdout, stderr)
		}
		if strings.HasPrefix(line, "run -d --name vllm --gpus") {
			id = strings.TrimSpace(stdout)
			r.awaitReady(8000)
		}
	}
	if len(id) != 64 {
		t.Errorf("docker run printed %q", id)
	}
}

package sandbox

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	moby "github.com/moby/moby/client"
)

const dockerSocket = "/var/run/docker.sock"

func dockerClient(t *testing.T, socket string) *moby.Client {
	t.Helper()
	docker, err := moby.New(moby.WithHost("unix://" + socket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.Close() })
	return docker
}

// TestAMachineWithARealDockerEngine serves a model from a container of this
// computer's own engine, strikes it, and leaves nothing of it there.
func TestAMachineWithARealDockerEngine(t *testing.T) {
	t.Parallel()
	if checkDocker(t.Context(), dockerSocket) != nil {
		t.Skip("SKIPPED: no Docker engine on this machine")
	}
	faults := []Rule{{Route: EventContainer, Nth: 1, Fault: FailStart, Value: "out_of_memory"}}
	s := startSandbox(t, Options{Speed: 300, Offers: realOffers(1), RealDocker: dockerSocket, Faults: faults})
	vm := rentReal(t, s, "tensordock-0")
	root := s.Machine(vm.id).Root()
	docker := dockerClient(t, root.DockerSocket())
	info, err := docker.Info(t.Context(), moby.InfoOptions{})
	if err != nil || info.Info.ServerVersion == "28.4.0" {
		t.Fatalf("the stand-in answers: %q, %v", info.Info.ServerVersion, err)
	}
	pull, err := docker.ImagePull(t.Context(), "vllm/vllm-openai:v0.11.0", moby.ImagePullOptions{})
	if err == nil {
		err = pull.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	gpus := container.Resources{DeviceRequests: []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}}}
	made, err := docker.ContainerCreate(t.Context(), moby.ContainerCreateOptions{
		Name: "vllm", HostConfig: &container.HostConfig{NetworkMode: "host", IpcMode: "host", Resources: gpus},
		Config: &container.Config{Image: "vllm/vllm-openai:v0.11.0", Entrypoint: []string{"vllm"}, Cmd: []string{
			"serve", "Qwen/Qwen2.5-0.5B-Instruct", "--host", "127.0.0.1", "--port", "8000",
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	start := func() {
		t.Helper()
		if _, err := docker.ContainerStart(t.Context(), made.ID, moby.ContainerStartOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	start()
	waitFor(t, "the failure that was asked for", func() bool {
		got, err := docker.ContainerInspect(t.Context(), "vllm", moby.ContainerInspectOptions{})
		return err == nil && !got.Container.State.Running && got.Container.State.ExitCode == 1
	})
	start()
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return root.Dial(ctx, 8000)
	}}}
	waitFor(t, "health", func() bool { return read(web.Get("http://machine/health")).status == http.StatusOK })
	if got := vm.output("nvidia-smi --query-compute-apps=used_memory --format=csv,noheader"); !strings.Contains(got, "MiB") {
		t.Errorf("the GPU's memory doesn't follow: %q", got)
	}
	if r := <-vm.send(t.Context(), http.MethodDelete, "/api/v1/sessions/"+vm.id, nil); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.text)
	}
	left, err := dockerClient(t, dockerSocket).ContainerList(t.Context(), moby.ContainerListOptions{
		All: true, Filters: moby.Filters{}.Add("label", "io.shopper-sandbox.machine="+string(root)),
	})
	if err != nil || len(left.Items) != 0 {
		t.Errorf("left behind: %+v, %v", left.Items, err)
	}
}

func TestARealDockerEngineThatIsNotThere(t *testing.T) {
	t.Parallel()
	_, err := Start(Options{RealDocker: filepath.Join(t.TempDir(), "no.sock")})
	if err == nil || !strings.Contains(err.Error(), "no Docker engine answers") {
		t.Errorf("%v", err)
	}
}

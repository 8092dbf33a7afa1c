package engine_test

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/engine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

func TestPull(t *testing.T) {
	t.Parallel()
	private := engine.Image{Ref: "registry.example/team/model-server:1", Version: "0.11.0", Username: "u", Password: "p"}
	for _, test := range []struct {
		name, ref, user, password string
		change                    func(*rig)
		want                      string // "" for a pull that succeeds
	}{
		{name: "release", ref: "vllm/vllm-openai:v0.33.0"},
		{name: "Docker Hub spelled out", ref: "docker.io/vllm/vllm-openai:v0.11.0"},
		{name: "another registry", ref: "registry.example/mirror/vllm-openai:v0.11.0-cu129"},
		{name: "no such tag", ref: "vllm/vllm-openai:nonsense", want: "manifest unknown"},
		{name: "before there were images", ref: "vllm/vllm-openai:v0.4.3", want: "manifest unknown"},
		{name: "no tag", ref: "vllm/vllm-openai", want: "manifest for vllm/vllm-openai:latest not found"},
		{name: "no such repository", ref: "nobody/nothing:1", want: "pull access denied for nobody/nothing, repository does not exist or may require 'docker login'"},
		{name: "private without credentials", ref: private.Ref, want: "pull access denied for registry.example/team/model-server"},
		{name: "private with wrong ones", ref: private.Ref, user: "u", password: "x", want: "unauthorized: incorrect username or password"},
		{name: "private with the right ones", ref: private.Ref, user: "u", password: "p"},
		{name: "disk full", ref: testImage, change: func(r *rig) { r.setFacts(func(f *machinefs.Facts) { f.DiskFreeGB = 10 }) }, want: "no space left on device"},
		{name: "broken off", ref: testImage, change: func(r *rig) { r.engine.FailPull("unexpected EOF") }, want: "unexpected EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(cfg *engine.Config, _ *machinefs.Facts) { cfg.Images = []engine.Image{private} })
			if test.change != nil {
				test.change(r)
			}
			options := client.ImagePullOptions{}
			if test.user != "" {
				auth, err := authconfig.Encode(registry.AuthConfig{Username: test.user, Password: test.password})
				if err != nil {
					t.Fatal(err)
				}
				options.RegistryAuth = auth
			}
			response, err := r.docker.ImagePull(r.ctx(), test.ref, options)
			if err == nil {
				err = response.Wait(r.ctx())
			}
			_, inspectErr := r.docker.ImageInspect(r.ctx(), test.ref)
			if test.want != "" {
				wantError(t, err, test.want)
				wantError(t, inspectErr, "No such image")
				return
			}
			if err != nil || inspectErr != nil {
				t.Errorf("pull: %v, inspect: %v", err, inspectErr)
			}
		})
	}
}

func TestPullTellsItsProgressAndTheDigest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	response, err := r.docker.ImagePull(r.ctx(), testImage, client.ImagePullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seen, digest := map[string]bool{}, ""
	for message, err := range response.JSONMessages(r.ctx()) {
		if err != nil {
			t.Fatal(err)
		}
		seen[message.Status] = true
		if d, ok := strings.CutPrefix(message.Status, "Digest: "); ok {
			digest = d
		}
		if message.Status == "Downloading" && (message.Progress == nil || message.Progress.Total == 0) {
			t.Errorf("no figures in %+v", message)
		}
	}
	for _, status := range []string{"Pulling fs layer", "Downloading", "Download complete", "Pull complete", "Status: Downloaded newer image for " + testImage} {
		if !seen[status] {
			t.Errorf("no %q among %v", status, slices.Sorted(maps.Keys(seen)))
		}
	}
	image, err := r.docker.ImageInspect(r.ctx(), testImage)
	if err != nil {
		t.Fatal(err)
	}
	if want := "vllm/vllm-openai@" + digest; len(image.RepoDigests) != 1 || image.RepoDigests[0] != want {
		t.Errorf("RepoDigests = %q, want %q", image.RepoDigests, want)
	}
	// The same image by its digest, on a machine that never saw the tag.
	other := newRig(t)
	other.pull("vllm/vllm-openai@" + digest)
	if _, err := other.docker.ImageInspect(other.ctx(), "vllm/vllm-openai@"+digest); err != nil {
		t.Error(err)
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	taken := r.create("taken", nil)
	image := &container.Config{Image: testImage}
	for _, test := range []struct {
		name, container string
		config          *container.Config
		host            *container.HostConfig
		want            string
	}{
		{"name taken", "taken", image, nil, `The container name "/taken" is already in use by container "` + taken},
		{"name with a blank", "a b", image, nil, "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"},
		{"name of one letter", "a", image, nil, "Invalid container name"},
		{"image not pulled", "x1", &container.Config{Image: "vllm/vllm-openai:v0.12.0"}, nil, "No such image: vllm/vllm-openai:v0.12.0"},
		{"unknown runtime", "x2", image, &container.HostConfig{Runtime: "kata"}, "kata"},
		{"bad policy", "x3", image, &container.HostConfig{RestartPolicy: container.RestartPolicy{Name: "sometimes"}}, "invalid restart policy"},
		{"bad bind", "x4", image, &container.HostConfig{Binds: []string{"nonsense"}}, "invalid volume specification"},
		{"remove and restart", "x5", image, &container.HostConfig{AutoRemove: true, RestartPolicy: container.RestartPolicy{Name: "always"}}, "AutoRemove"},
		{"negative shm", "x6", image, &container.HostConfig{ShmSize: -1}, "SHM size can not be less than 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := r.docker.ContainerCreate(r.ctx(), client.ContainerCreateOptions{Name: test.container, Config: test.config, HostConfig: test.host})
			wantError(t, err, test.want)
		})
	}
}

func TestInspectKeepsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	id := r.create("vllm", &container.HostConfig{ShmSize: 8 << 30, IpcMode: "host", Binds: []string{"hf-cache:/root/.cache/huggingface", "/data:/data:ro"}}, testModel, "--revision", "a'b $(x)")
	got := r.inspect(id)
	if got.HostConfig.ShmSize != 8<<30 || got.HostConfig.IpcMode != "host" || len(got.Mounts) != 2 || got.Mounts[0].Name != "hf-cache" || got.Mounts[1].RW {
		t.Errorf("host: %+v mounts: %+v", got.HostConfig, got.Mounts)
	}
	if got.Path != "vllm" || !slices.Equal(got.Args, []string{"serve", testModel, "--revision", "a'b $(x)"}) || got.Config.Labels["shopper"] != "yes" {
		t.Errorf("path %q args %q labels %v", got.Path, got.Args, got.Config.Labels)
	}
}

func TestListFilters(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	running := r.create("runs", withGPUs())
	r.start(running)
	r.create("waits", nil)
	r.createRaw("other", &container.Config{Image: testImage}, nil)
	for _, test := range []struct {
		name    string
		options client.ContainerListOptions
		want    []string
	}{
		{"running ones", client.ContainerListOptions{}, []string{"/runs"}},
		{"all", client.ContainerListOptions{All: true}, []string{"/other", "/runs", "/waits"}},
		{"label", client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", "shopper=yes")}, []string{"/runs", "/waits"}},
		{"name", client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("name", "^/waits$")}, []string{"/waits"}},
		{"status", client.ContainerListOptions{Filters: client.Filters{}.Add("status", "created")}, []string{"/other", "/waits"}},
	} {
		list, err := r.docker.ContainerList(r.ctx(), test.options)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, item := range list.Items {
			names = append(names, item.Names...)
		}
		slices.Sort(names)
		if !slices.Equal(names, test.want) {
			t.Errorf("%s: %q, want %q", test.name, names, test.want)
		}
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	script := "for i in 1 2 3; do echo out $i; echo err $i >&2; done; sleep 0.5; printf end"
	id := r.createRaw("talks", &container.Config{Image: testImage, Entrypoint: []string{"sh"}, Cmd: []string{"-c", script}}, nil)
	stream, err := r.docker.ContainerLogs(r.ctx(), id, everything)
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Close()
	r.start(id)
	followed, err := r.docker.ContainerLogs(r.ctx(), id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer followed.Close()
	var out, errs strings.Builder
	if _, err := stdcopy.StdCopy(&out, &errs, followed); err != nil { // ends with the container
		t.Fatal(err)
	}
	const full = "out 1\nout 2\nout 3\nend"
	if got := out.String(); got != full || errs.String() != "err 1\nerr 2\nerr 3\n" {
		t.Errorf("followed: %q and %q", got, errs.String())
	}
	if whole, _ := r.logs(id, everything); whole != full {
		t.Errorf("the whole log: %q", whole)
	}
	// The last entries are counted over both streams, whichever is asked for.
	stdout, stderr := r.logs(id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: "2"})
	if n := len(strings.Split(strings.TrimSpace(stdout+"\n"+stderr), "\n")); n != 2 || !strings.HasSuffix(stdout, "end") {
		t.Errorf("tail: %q and %q", stdout, stderr)
	}
	if stdout, stderr = r.logs(id, client.ContainerLogsOptions{ShowStderr: true, Tail: "1"}); stdout != "" || stderr != "" {
		t.Errorf("tail of the other stream: %q and %q", stdout, stderr)
	}
	stdout, _ = r.logs(id, client.ContainerLogsOptions{ShowStdout: true, Tail: "1", Timestamps: true})
	when, text, _ := strings.Cut(stdout, " ")
	if _, err := time.Parse(time.RFC3339Nano, when); err != nil || text != "end" {
		t.Errorf("timestamps: %q (%v)", stdout, err)
	}
	_, err = r.docker.ContainerLogs(r.ctx(), id, client.ContainerLogsOptions{})
	wantError(t, err, "you must choose at least one stream")
}

func TestSystem(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ping, err := r.docker.Ping(r.ctx(), client.PingOptions{})
	if err != nil || ping.APIVersion != "1.51" || ping.OSType != "linux" {
		t.Errorf("ping: %+v, %v", ping, err)
	}
	info, err := r.docker.Info(r.ctx(), client.InfoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := info.Info.Runtimes["nvidia"]; !ok || len(info.Info.CDISpecDirs) == 0 {
		t.Errorf("info: %+v", info.Info)
	}
	r.setFacts(func(f *machinefs.Facts) { f.NoGPURuntime = true })
	if info, err = r.docker.Info(r.ctx(), client.InfoOptions{}); err != nil || info.Info.Runtimes["nvidia"].Path != "" {
		t.Errorf("info without the toolkit: %v, %v", info.Info.Runtimes, err)
	}
	for path, want := range map[string]int{"/v1.40/_ping": 200, "/_ping": 200, "/v1.99/info": 400, "/v1.12/info": 400, "/v1.51/nonsense": 404} {
		if status := r.get(path); status != want {
			t.Errorf("GET %s: %d, want %d", path, status, want)
		}
	}
}

func (r *rig) get(path string) int {
	r.t.Helper()
	response, err := r.socket().Get("http://docker" + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

func TestHangEndsWithTheCallersPatience(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if _, err := r.docker.Ping(r.ctx(), client.PingOptions{}); err != nil {
		t.Fatal(err)
	}
	r.engine.Hang(true)
	ctx, cancel := context.WithTimeout(r.ctx(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.docker.Info(ctx, client.InfoOptions{}); ctx.Err() == nil || err == nil {
		t.Errorf("a hanging engine answered: %v", err)
	}
	answered := make(chan error, 1)
	go func() { _, err := r.docker.Info(r.ctx(), client.InfoOptions{}); answered <- err }()
	r.engine.Hang(false)
	if err := <-answered; err != nil {
		t.Errorf("after the hang: %v", err)
	}
}

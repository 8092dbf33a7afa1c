package lifecycle

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// Figures that nvidia-smi doesn't report cause no panic.
func TestFiguresThatAreNotTold(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, output string
		want         []deploy.GPU
	}{
		{"nothing", "", nil},
		{"no devices", "No devices were found\n", nil},
		{
			"usual", "0, GPU-1, 24564, 18, 580.95.05, NVIDIA GeForce RTX 4090, 8.9\n",
			[]deploy.GPU{{Index: 0, UUID: "GPU-1", Name: "NVIDIA GeForce RTX 4090", MemoryMiB: 24564, UsedMiB: 18, DriverVersion: "580.95.05", ComputeCapability: "8.9"}},
		},
		{
			"temperature", "0, GPU-1, 24564, 18, 580.95.05, NVIDIA L4, 8.9, 46\n1, GPU-2, 24564, 18, 580.95.05, NVIDIA L4, 8.9, [N/A]\n",
			[]deploy.GPU{
				{Index: 0, UUID: "GPU-1", Name: "NVIDIA L4", MemoryMiB: 24564, UsedMiB: 18, DriverVersion: "580.95.05", ComputeCapability: "8.9", TemperatureC: 46},
				{Index: 1, UUID: "GPU-2", Name: "NVIDIA L4", MemoryMiB: 24564, UsedMiB: 18, DriverVersion: "580.95.05", ComputeCapability: "8.9"},
			},
		},
		{
			"not available", "0, GPU-1, [N/A], [Not Supported], [N/A], NVIDIA GB10, [N/A]\n",
			[]deploy.GPU{{Index: 0, UUID: "GPU-1", Name: "NVIDIA GB10"}},
		},
		{"empty", "0, , , , , ,\n", []deploy.GPU{{}}},
		{"zero", "1, GPU-1, 0, 0, 0, 0, 0\n", []deploy.GPU{{Index: 1, UUID: "GPU-1", Name: "0", MemoryMiB: 0, UsedMiB: 0, DriverVersion: "0", ComputeCapability: "0"}}},
		{"units", "0, GPU-1, 81559 MiB, 4 MiB, 580.1, H100, 9.0\n", []deploy.GPU{{Index: 0, UUID: "GPU-1", Name: "H100", MemoryMiB: 81559, UsedMiB: 4, DriverVersion: "580.1", ComputeCapability: "9.0"}}},
		{"no capability field", "0, GPU-1, 16384, 0, 460.1, T4\n", []deploy.GPU{{Index: 0, UUID: "GPU-1", Name: "T4", MemoryMiB: 16384, UsedMiB: 0, DriverVersion: "460.1", ComputeCapability: ""}}},
		{"negative and huge", "-1, a, 1, 1, 1, x, 1\n0, GPU-1, -5, 99999999999999, 1, x, 1\n", []deploy.GPU{{Index: 0, UUID: "GPU-1", Name: "x", MemoryMiB: 0, UsedMiB: 0, DriverVersion: "1", ComputeCapability: "1"}}},
		{"error in a line", "Unable to determine the device handle for GPU0\n1, GPU-1, 10, 0, 1, x, 8.0\n", []deploy.GPU{{Index: 1, UUID: "GPU-1", Name: "x", MemoryMiB: 10, UsedMiB: 0, DriverVersion: "1", ComputeCapability: "8.0"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := listedBy(t, test.output)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			s := &survey{gpus: got, allGPUs: got, imageDisk: disk{free: -1}, runtime: &process.Host{}, request: Request{Spec: vllm.Spec{Model: "Qwen/Qwen2.5-7B-Instruct"}}}
			_ = s.judge()
		})
	}
}

// prints is a machine whose nvidia-smi prints a text.
func prints(output string) scripted {
	return scripted{run: func([]string) host.Result { return host.Result{Stdout: output} }}
}

func listedBy(t *testing.T, output string) []deploy.GPU {
	t.Helper()
	gpus, err := deploy.QueryGPUs(t.Context(), prints(output))
	if err != nil {
		t.Fatal(err)
	}
	return gpus
}

func FuzzParseGPUs(f *testing.F) {
	f.Add("0, GPU-1, 24564, 18, 580.95.05, NVIDIA GeForce RTX 4090, 8.9\n")
	f.Add("0, [N/A], [N/A], , , ,\n")
	f.Fuzz(func(t *testing.T, output string) {
		gpus := listedBy(t, output)
		if len(gpus) > 256 {
			t.Errorf("%d GPUs", len(gpus))
		}
		for _, gpu := range gpus {
			if gpu.MemoryMiB < 0 || gpu.UsedMiB < 0 || gpu.Index < 0 {
				t.Errorf("negative figures: %+v", gpu)
			}
		}
		_, _ = deploy.QueryGPUUsers(t.Context(), prints(output))
		_ = parseDF(output)
		_ = portHolder(output)
		s := &survey{gpus: gpus, allGPUs: gpus, imageDisk: disk{free: -1}, runtime: &process.Host{}}
		_ = s.judge()
	})
}

func TestParseDF(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, output string
		want         disk
	}{
		{"usual", "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 100 40 60 40% /\n", disk{"/", 60 * 1024}},
		{"device with a space", "Filesystem 1024-blocks Used Available Capacity Mounted on\nover lay 100 40 60 40% /mnt/my disk\n", disk{"/mnt/my disk", 60 * 1024}},
		{"nothing", "", disk{free: -1}},
		{"header only", "Filesystem 1024-blocks Used Available Capacity Mounted on\n", disk{free: -1}},
		{"dashes", "Filesystem 1024-blocks Used Available Capacity Mounted on\nnone - - - - /\n", disk{free: -1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := parseDF(test.output); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestPortHolder(t *testing.T) {
	t.Parallel()
	const line = `LISTEN 0 2048 127.0.0.1:8000 0.0.0.0:* users:(("vllm",pid=1234,fd=18))`
	if got := portHolder(line); got != "vllm (pid 1234)" {
		t.Errorf("got %q", got)
	}
	if got := portHolder("LISTEN 0 2048 127.0.0.1:8000 0.0.0.0:*"); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ctx, cancel := context.WithDeadline(t.Context(), now.Add(100*time.Second))
	defer cancel()
	s := newSchedule(ctx, now, Phases{deploy.PhasePreflight: 1, deploy.PhasePull: 2, deploy.PhaseStart: 1, deploy.PhaseLoad: 5, deploy.PhaseCompletion: 1})
	want := map[deploy.Phase]time.Duration{
		deploy.PhasePreflight: 10 * time.Second, deploy.PhasePull: 30 * time.Second, deploy.PhaseStart: 40 * time.Second,
		deploy.PhaseLoad: 90 * time.Second, deploy.PhaseCompletion: 100 * time.Second,
	}
	for phase, limit := range want {
		if got := s.limit(phase); got != limit {
			t.Errorf("%s ends after %s, want %s", phase, got, limit)
		}
	}
	without := newSchedule(t.Context(), now, Phases{})
	if got := without.limit(deploy.PhaseCompletion); got.Round(time.Second) != defaultTime {
		t.Errorf("without a deadline: %s", got)
	}
}

// The hash changes with what needs a restart, and with no secret.
func TestSpecHash(t *testing.T) {
	t.Parallel()
	base := func() Request {
		return Request{
			Name: "chat", Owner: "o", Container: container.Options{Image: "vllm/vllm-openai:v0.33.0"},
			Spec: vllm.Spec{Model: "m", APIKey: "secret-1", HFToken: "secret-2", Env: map[string]string{"A": "1"}},
		}
	}
	hash := func(r Request) string {
		t.Helper()
		l := &launch{request: r, runtime: &container.Engine{}}
		w, err := l.wanted()
		if err != nil {
			t.Fatal(err)
		}
		return w.Hash
	}
	tests := []struct {
		name   string
		change func(*Request)
		same   bool
	}{
		{"nothing", func(*Request) {}, true},
		{"key", func(r *Request) { r.Spec.APIKey = "secret-3" }, true},
		{"token", func(r *Request) { r.Spec.HFToken = "secret-3" }, true},
		{"pull policy", func(r *Request) { r.Container.PullPolicy = "always" }, true},
		{"install_engine", func(r *Request) { r.Container.InstallEngine = true }, true},
		{"credentials", func(r *Request) { r.Container.RegistryAuth = &container.RegistryAuth{Password: "x"} }, true},
		{"model", func(r *Request) { r.Spec.Model = "n" }, false},
		{"environment", func(r *Request) { r.Spec.Env = map[string]string{"A": "2"} }, false},
		{"image", func(r *Request) { r.Container.Image = "vllm/vllm-openai:v0.32.0" }, false},
		{"user", func(r *Request) { r.Container.User = "2000:0" }, false},
		{"gpus", func(r *Request) { r.Container.GPUs = "1" }, false},
		{"certificate", func(r *Request) { r.TLS = &TLS{Certificate: "c", Key: "k"} }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			changed := base()
			test.change(&changed)
			if same := hash(base()) == hash(changed); same != test.same {
				t.Errorf("same hash: %t, want %t", same, test.same)
			}
		})
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	one := deploy.Fingerprint("owner", "secret")
	if one == "" || strings.Contains(one, "secret") || one != deploy.Fingerprint("owner", "secret") {
		t.Errorf("got %q", one)
	}
	if one == deploy.Fingerprint("owner", "other") || one == deploy.Fingerprint("other", "secret") {
		t.Error("other secrets or owners have the same fingerprint")
	}
	if deploy.Fingerprint("owner", "") != "" {
		t.Error("no secret has a fingerprint")
	}
}

// Validate refuses without a machine.
func TestRequestIsValidated(t *testing.T) {
	t.Parallel()
	good := func() Request {
		return Request{Name: "chat", Owner: "o", Spec: vllm.Spec{Model: "m"}, Container: container.Options{Image: "vllm/vllm-openai:v0.33.0"}}
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*Request)
		word   string
	}{
		{"no model", func(r *Request) { r.Spec.Model = "" }, "model"},
		{"no owner", func(r *Request) { r.Owner = "" }, "owner"},
		{"owner with a line break", func(r *Request) { r.Owner = "a\nb" }, "owner"},
		{"name with a space", func(r *Request) { r.Name = "a b" }, "name"},
		{"name with a command", func(r *Request) { r.Name = "a$(x)" }, "name"},
		{"name with a slash", func(r *Request) { r.Name = "../a" }, "name"},
		{"name of one letter", func(r *Request) { r.Name = "a" }, "name"},
		{"container name", func(r *Request) { r.Container.Name = "-rf" }, "name"},
		{"image without a tag", func(r *Request) { r.Container.Image = "vllm/vllm-openai" }, "pin one"},
		{"image that leaves its place", func(r *Request) { r.Container.Image = "a/../../containers/x:1" }, "not an image"},
		{"image with a query", func(r *Request) { r.Container.Image = "a?x=1:1" }, "not an image"},
		{"gpus", func(r *Request) { r.Container.GPUs = "0;1" }, "gpus"},
		{"no gpus", func(r *Request) { r.Container.GPUs = "0" }, "gpus"},
		{"user", func(r *Request) { r.Container.User = "a b" }, "user"},
		{"shm", func(r *Request) { r.Container.ShmSize = -1 }, "shm_size"},
		{"pull policy", func(r *Request) { r.Container.PullPolicy = "sometimes" }, "pull_policy"},
		{"cache", func(r *Request) { r.Container.Cache = "/a/../b" }, "cache"},
		{"cache with a colon", func(r *Request) { r.Container.Cache = "/a:b" }, "cache"},
		{"runtime", func(r *Request) { r.Runtime = "vm" }, "runtime"},
		{"a code that doesn't exist", func(r *Request) { r.Ignore = []string{"drivers"} }, "driver_version"},
		{"version", func(r *Request) { r.Process.Version = "1; rm" }, "process.version"},
		{"install", func(r *Request) { r.Process.Install = "maybe" }, "process.install"},
		{"directory", func(r *Request) { r.Process.Directory = "relative" }, "process.directory"},
		{"certificate without a key", func(r *Request) { r.TLS = &TLS{Certificate: "c"} }, "tls"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			request := good()
			test.change(&request)
			if err := request.Validate(); err == nil || !strings.Contains(err.Error(), test.word) {
				t.Errorf("got %v, want an error about %q", err, test.word)
			}
		})
	}
}

func TestErrorMasksSecrets(t *testing.T) {
	t.Parallel()
	l := newLaunch(t.Context(), nil, Request{Spec: vllm.Spec{APIKey: "planted-key"}, Container: container.Options{RegistryAuth: &container.RegistryAuth{Password: "planted-password"}}})
	e := l.failed(t.Context(), &deploy.Error{
		Phase: deploy.PhasePull, Summary: "x", Detail: "planted-key", Cause: "planted-password", WayOut: "planted-key",
		Err: context.Canceled, Log: []string{"ERROR planted-key in a log"}, Remains: "",
	})
	e.Err = masked(&deploy.Error{Summary: "planted-password"}, l.request.secrets())
	if text := e.Error() + e.Description(); strings.Contains(text, "planted") {
		t.Errorf("a secret is in: %s", text)
	}
}

func TestJudgeTools(t *testing.T) {
	t.Parallel()
	all := process.Tools{Compiler: "gcc", Pip: true}
	for name, test := range map[string]struct {
		tools     process.Tools
		installed bool
		install   string
		fact, way string // "" = nothing is found
	}{
		"all there":           {tools: all},
		"can be installed":    {tools: process.Tools{Apt: true}},
		"nothing, no way":     {tools: process.Tools{}, fact: "a C compiler", way: "gcc g++ libc6-dev ca-certificates python3-pip"},
		"no pip":              {tools: process.Tools{Compiler: "gcc"}, fact: "lacks pip", way: "python3-pip\""},
		"no pip, vLLM there":  {tools: process.Tools{Compiler: "gcc"}, installed: true},
		"no compiler, there":  {tools: process.Tools{Pip: true}, installed: true, fact: "a C compiler", way: "on_start_cmd = \"apt-get update"},
		"nobody installs":     {tools: process.Tools{Apt: true}, installed: true, install: "never", fact: "process.install is", way: "gcc"},
		"nobody has to, none": {tools: all, installed: true, install: "never"},
	} {
		r := &process.Host{Tools: test.tools, Options: process.Options{Install: test.install}}
		if test.installed {
			r.Program.Path = "/usr/local/bin/vllm"
		}
		found := (&survey{runtime: r}).judgeTools()
		switch {
		case test.fact == "" && len(found) > 0, test.fact != "" && len(found) != 1:
			t.Errorf("%s: %v", name, found)
		case test.fact != "" && (found[0].Code != "tools" || !strings.Contains(found[0].Fact, test.fact) || !strings.Contains(found[0].WayOut, test.way)):
			t.Errorf("%s: %v", name, found[0])
		}
	}
	if found := (&survey{runtime: &container.Engine{}}).judgeTools(); len(found) > 0 {
		t.Errorf("a container: %v", found)
	}
}

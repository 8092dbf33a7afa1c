package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/engine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// manyGPUs are four of 80 GB, on a machine with a large disk.
func manyGPUs(f *machinefs.Facts) {
	gpu := machinefs.GPU{Name: "NVIDIA H100 80GB HBM3", UUID: "GPU-0", MemoryMiB: 81559, ComputeCapability: "9.0"}
	f.GPUs = nil
	for i := range 4 {
		gpu.UUID = "GPU-" + itoa(i)
		f.GPUs = append(f.GPUs, gpu)
	}
	f.DiskGB, f.DiskFreeGB = 4000, 3000
}

func preflight(t *testing.T, r *rig, request lifecycle.Request) (lifecycle.Facts, []deploy.Finding) {
	t.Helper()
	facts, findings, err := lifecycle.Preflight(within(t, limit), r, request)
	if err != nil {
		t.Fatalf("%v\n%s", err, describe(err))
	}
	return facts, findings
}

func TestPreflightFindings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		facts    func(*machinefs.Facts)
		request  func(*lifecycle.Request)
		code     string // "" = no finding at all
		severity deploy.Severity
		words    []string
	}{
		{name: "nothing"},
		{
			"no driver", func(f *machinefs.Facts) { f.Driver = machinefs.DriverMissing }, nil,
			"driver", deploy.Blocking,
			[]string{"no nvidia-smi"},
		},
		{
			"old driver", func(f *machinefs.Facts) { f.DriverVersion = "550.54.15" }, nil,
			"driver_version", deploy.Blocking,
			[]string{"550.54.15", "580", image, "min_cuda_version = 13.0", "choose the image of v0.8.5.post1"},
		},
		{
			"very old driver", func(f *machinefs.Facts) { f.DriverVersion = "470.256.02" }, nil,
			"driver_version", deploy.Blocking,
			[]string{"470.256.02", "min_cuda_version = 13.0"},
		},
		{
			"very old driver, older image", func(f *machinefs.Facts) { f.DriverVersion = "470.256.02" },
			func(r *lifecycle.Request) { r.Container.Image = "vllm/vllm-openai:v0.11.0" },
			"driver_version", deploy.Blocking,
			[]string{"570", "CUDA 12.8", "min_cuda_version = 12.8"},
		},
		{
			"old driver for a process", func(f *machinefs.Facts) { f.DriverVersion = "550.54.15" },
			func(r *lifecycle.Request) { *r = processRequest() },
			"driver_version", deploy.Blocking,
			[]string{"550.54.15", "vLLM 0.33.0", "580", "min_cuda_version = 13.0", `process.version = "0.8.5.post1"`},
		},
		{
			"old driver, older image", func(f *machinefs.Facts) { f.DriverVersion = "550.54.15" },
			func(r *lifecycle.Request) { r.Container.Image = "vllm/vllm-openai:v0.8.5" }, "", "", nil,
		},
		{
			"the last of CUDA 12 on a driver for CUDA 12.8", func(f *machinefs.Facts) { f.DriverVersion = "570.124.06" },
			func(r *lifecycle.Request) { r.Container.Image = "vllm/vllm-openai:v0.19.1" },
			"driver_version", deploy.Blocking, // GeForce: the container toolkit refuses it
			[]string{"575", "CUDA 12.9", "choose the image of v0.11.0"},
		},
		{
			"the same on a data center GPU", func(f *machinefs.Facts) { f.DriverVersion, f.GPUs[0].Name = "570.124.06", "NVIDIA L4" },
			func(r *lifecycle.Request) { r.Container.Image = "vllm/vllm-openai:v0.19.1" },
			"driver_version", deploy.Warning,
			[]string{"unsupported toolchain", "VLLM_ENABLE_CUDA_COMPATIBILITY"},
		},
		{
			"compatibility doesn't help GeForce", func(f *machinefs.Facts) { f.DriverVersion = "550.54.15" },
			func(r *lifecycle.Request) { r.Spec.Env = map[string]string{"VLLM_ENABLE_CUDA_COMPATIBILITY": "1"} },
			"driver_version", deploy.Blocking, nil,
		},
		{
			"old driver with compatibility", func(f *machinefs.Facts) { f.DriverVersion, f.GPUs[0].Name = "550.54.15", "NVIDIA L4" },
			func(r *lifecycle.Request) { r.Spec.Env = map[string]string{"VLLM_ENABLE_CUDA_COMPATIBILITY": "1"} },
			"driver_version", deploy.Warning, nil,
		},
		{
			"old GPU", func(f *machinefs.Facts) { f.GPUs[0].ComputeCapability = "7.0" }, nil,
			"gpu_capability", deploy.Blocking,
			[]string{"7.0", "7.5", "choose the image of v0.19.1"},
		},
		{
			"old GPU, older image", func(f *machinefs.Facts) { f.GPUs[0].ComputeCapability = "7.0" },
			func(r *lifecycle.Request) { r.Container.Image, r.Spec.DType = "vllm/vllm-openai:v0.8.5", "half" }, "", "", nil,
		},
		{
			"GPU that is too new for the image", func(f *machinefs.Facts) { f.GPUs[0].ComputeCapability = "12.0" },
			func(r *lifecycle.Request) { r.Container.Image = "vllm/vllm-openai:v0.8.5" },
			"gpu_capability", deploy.Blocking,
			[]string{"an older GPU", "7.0 to 9.0", "choose the image of v0.33.0"},
		},
		{
			"bfloat16 on Turing", func(f *machinefs.Facts) { f.GPUs[0].ComputeCapability = "7.5" },
			func(r *lifecycle.Request) { r.Spec.DType = "bfloat16" }, "gpu_capability", deploy.Blocking,
			[]string{`dtype = "half"`},
		},
		{
			"Turing", func(f *machinefs.Facts) { f.GPUs[0].ComputeCapability = "7.5" }, nil,
			"gpu_capability", deploy.Warning, nil,
		},
		{"capability not told", func(f *machinefs.Facts) { f.GPUs[0].ComputeCapability = "[N/A]" }, nil, "", "", nil},
		{"no Docker", func(f *machinefs.Facts) { f.Docker = false }, nil, "docker", deploy.Blocking, []string{"no Docker", `runtime = "process"`}},
		{"no bridge", func(f *machinefs.Facts) { f.NoBridge = true }, nil, "docker", deploy.Blocking, []string{"--bridge none", `runtime = "process"`}},
		{"no GPU runtime", func(f *machinefs.Facts) { f.NoGPURuntime = true }, nil, "docker_gpu", deploy.Blocking, []string{"toolkit"}},
		{
			"no GPU runtime, no GPU wanted", func(f *machinefs.Facts) { f.NoGPURuntime = true },
			func(r *lifecycle.Request) { r.Container.GPUs = "none" }, "", "", nil,
		},
		{
			"too few GPUs", nil, func(r *lifecycle.Request) { r.Spec.TensorParallelSize = 2 },
			"gpu_count", deploy.Blocking,
			[]string{"tensor_parallel_size"},
		},
		{
			"GPU that isn't there", nil, func(r *lifecycle.Request) { r.Container.GPUs = "device=3" },
			"gpu", deploy.Blocking,
			[]string{"container.gpus"},
		},
		{
			"memory held", func(f *machinefs.Facts) { f.GPUs[0].HeldMiB = 12000 }, nil,
			"gpu_memory_held", deploy.Blocking,
			[]string{"24564", "gpu_memory_utilization"},
		},
		{
			"model far too large", nil, func(r *lifecycle.Request) { r.Spec.Model = "meta-llama/Llama-3.1-405B-Instruct" },
			"gpu_memory", deploy.Blocking,
			[]string{"GiB"},
		},
		{
			"context too long", nil, func(r *lifecycle.Request) {
				r.Spec.Model, r.Spec.MaxModelLen = "mistralai/Mistral-Nemo-Instruct-2407", 131072
			},
			"gpu_memory", deploy.Warning, nil,
		},
		{"model that fits all GPUs together", manyGPUs, func(r *lifecycle.Request) { r.Spec.Model = "meta-llama/Llama-3.3-70B-Instruct" }, "", "", nil},
		{
			"model that fits two of four GPUs", manyGPUs, func(r *lifecycle.Request) {
				r.Spec.Model, r.Spec.TensorParallelSize = "meta-llama/Llama-3.1-405B-Instruct", 2
			},
			"gpu_memory", deploy.Blocking,
			[]string{"on each of 2 GPUs", "min_vram_gib"},
		},
		{
			"model too large, by the user's figure not", nil, func(r *lifecycle.Request) {
				r.Spec.Model, r.MinVRAMGiB = "mistralai/Mixtral-8x7B-Instruct-v0.1", new(float64(24))
				r.Container.Cache = "/data"
			},
			"", "", nil,
		},
		{
			"unknown model, by the user's figure too large", nil, func(r *lifecycle.Request) {
				r.Spec.Model, r.MinVRAMGiB = "me/mine", new(float64(40))
			},
			"gpu_memory", deploy.Blocking,
			[]string{"40 GiB", "24.0 GiB", "min_vram_gib"},
		},
		{
			"a smaller cache per token", nil, func(r *lifecycle.Request) {
				r.Spec.Model, r.Spec.MaxModelLen = "Qwen/Qwen2.5-7B-Instruct", 100000
				r.Spec.KVCacheDType = "fp8"
			},
			"", "", nil,
		},
		{"disk full", func(f *machinefs.Facts) { f.DiskFreeGB = 3 }, nil, "disk", deploy.Blocking, []string{"disk_gb"}},
		{"disk tight", func(f *machinefs.Facts) { f.DiskFreeGB = 25 }, nil, "disk", deploy.Warning, nil},
		{
			"user outside group 0", nil, func(r *lifecycle.Request) { r.Container.User = "1000:1000" },
			"user", deploy.Warning,
			[]string{"2000:0"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			facts := vm()
			if test.facts != nil {
				test.facts(&facts)
			}
			r := newRig(t, facts)
			wanted := request()
			if test.request != nil {
				test.request(&wanted)
			}
			_, findings := preflight(t, r, wanted)
			if test.code == "" {
				if len(findings) > 0 {
					t.Errorf("found %v, want nothing", findings)
				}
				return
			}
			if !hasFinding(findings, test.code, test.severity) {
				t.Fatalf("found %v, want %s as %s", findings, test.code, test.severity)
			}
			contains(t, findings[0].String(), test.words...)
			if known := lifecycle.Codes(); findings[0].Code != "docker" && !slices.Contains(known, findings[0].Code) {
				t.Errorf("the code %s is none of %v", findings[0].Code, known)
			}
			if findings[0].WayOut == "" {
				t.Errorf("no way out of: %s", findings[0].Fact)
			}
			if test.severity == deploy.Blocking {
				failed := launchFails(t, r, wanted, limit)
				if failed.Phase != deploy.PhasePreflight || len(failed.Findings) != len(findings) {
					t.Errorf("a launch gives %v with %v", failed, failed.Findings)
				}
			}
		})
	}
}

// Room for the image is looked for where the engine keeps images, which isn't where Docker keeps the rest.
func TestPreflightLooksAtContainerdsDisk(t *testing.T) {
	t.Parallel()
	for inContainerd, disks := range map[bool]string{false: "/var/lib/docker /var/lib/docker", true: "/var/lib/containerd /var/lib/docker"} {
		facts := vm()
		facts.ContainerdImages = inContainerd
		r := newRig(t, facts)
		preflight(t, r, request())
		contains(t, strings.Join(r.machine.CommandLog(), "\n"), "done' sh "+disks+"\ndf -Pk")
	}
}

func TestPreflightWaitsForADriver(t *testing.T) {
	t.Parallel()
	facts := vm()
	facts.Driver, facts.DriverReadyAt = machinefs.DriverBuilding, time.Now().Add(3*time.Second)
	r := newRig(t, facts)
	got, findings := preflight(t, r, request())
	if len(findings) > 0 || len(got.GPUs) != 1 {
		t.Errorf("found %v and %v", findings, got.GPUs)
	}
}

func TestPreflightDriverThatIsNeverReady(t *testing.T) {
	t.Parallel()
	facts := vm()
	facts.Driver, facts.DriverReadyAt = machinefs.DriverBuilding, time.Now().Add(time.Hour)
	r := newRig(t, facts)
	wanted := request()
	wanted.Phases = lifecycle.Phases{deploy.PhasePreflight: 0.2, deploy.PhasePull: 0.2, deploy.PhaseStart: 0.2, deploy.PhaseLoad: 0.2, deploy.PhaseCompletion: 0.2}
	failed := launchFails(t, r, wanted, 25*time.Second)
	if failed.Phase != deploy.PhasePreflight || !hasFinding(failed.Findings, "driver", deploy.Blocking) {
		t.Errorf("got %v with %v", failed, failed.Findings)
	}
	contains(t, failed.Description(), "It did not come up in the ", "preflight waited", "25 minutes")
}

func TestPreflightPortTaken(t *testing.T) {
	t.Parallel()
	r := newRig(t, vm())
	other := request()
	other.Name, other.Owner, other.Spec.GPUMemoryUtilization = "other", "somebody else", 0.4
	other.Spec.Model = "Qwen/Qwen2.5-0.5B-Instruct"
	launch(t, r, other)
	wanted := request()
	wanted.Spec.Model, wanted.Spec.GPUMemoryUtilization = other.Spec.Model, 0.4
	_, findings := preflight(t, r, wanted)
	if !hasFinding(findings, "port", deploy.Blocking) {
		t.Fatalf("found %v", findings)
	}
	contains(t, findings[0].String(), "Port 8000", "taken by ", " (pid ", "Choose another port")
	large := request()
	large.Spec.Port = 8001
	_, findings = preflight(t, r, large)
	if !hasFinding(findings, "gpu_memory_held", deploy.Blocking) {
		t.Fatalf("found %v", findings)
	}
	contains(t, findings[0].String(), "Held by ", " (pid ", "gpu_memory_utilization to at most 0.5")
	wanted.Spec.Port = 8001
	status := launch(t, r, wanted)
	if status.Port != 8001 {
		t.Errorf("port %d", status.Port)
	}
}

func TestAutoTakesWhatWorks(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		facts func() machinefs.Facts
		want  deploy.Kind
	}{
		{"vm", vm, deploy.Container},
		{"pod", pod, deploy.Process},
		{"vm without GPU runtime", func() machinefs.Facts {
			f := vm()
			f.NoGPURuntime, f.VLLM.Installed = true, "0.33.0"
			return f
		}, deploy.Process},
		{"vm whose driver is too old for the image", func() machinefs.Facts {
			f := vm()
			f.DriverVersion, f.VLLM.Installed = "550.54.15", "0.8.5"
			return f
		}, deploy.Process},
		{"engine for root only", func() machinefs.Facts {
			f := vm()
			f.DockerNeedsRoot = true
			return f
		}, deploy.Container},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, test.facts())
			wanted := request()
			wanted.Runtime = deploy.Auto
			facts, findings := preflight(t, r, wanted)
			if facts.Runtime != test.want || facts.Reason == "" || len(findings) > 0 {
				t.Fatalf("facts %+v, findings %v; want %s", facts, findings, test.want)
			}
			status := launch(t, r, wanted)
			if status.Runtime != test.want {
				t.Errorf("runs as %s", status.Runtime)
			}
			remove(t, r, status)
		})
	}
}

// Where neither works, what stands in the container's way is told, because that was the first choice.
func TestAutoWhereNothingWorks(t *testing.T) {
	t.Parallel()
	facts := vm()
	facts.DriverVersion = "470.256.02"
	r := newRig(t, facts)
	wanted := request()
	wanted.Runtime, wanted.Process.Version = deploy.Auto, "0.33.0"
	seen, findings := preflight(t, r, wanted)
	if seen.Runtime != deploy.Container || len(findings) == 0 {
		t.Fatalf("%+v, found %v", seen, findings)
	}
	contains(t, findings[0].String(), "470.256.02", image)
}

func TestProcessIsInstalledOnce(t *testing.T) {
	t.Parallel()
	facts := pod()
	facts.VLLM.Installed = ""
	r := newRig(t, facts)
	status := launch(t, r, processRequest())
	if status.VLLMVersion != "0.33.0" {
		t.Errorf("version %q", status.VLLMVersion)
	}
	remove(t, r, status)
	remove(t, r, launch(t, r, processRequest()))
	if n := r.installs(); n != 1 {
		t.Errorf("installed %d times", n)
	}
}

func TestCancelledInstallIsResumed(t *testing.T) {
	t.Parallel()
	facts := pod()
	facts.VLLM.Installed, facts.Speed = "", 10 // four seconds to install
	r := newRig(t, facts)
	ctx, cancel := context.WithCancel(within(t, limit))
	wanted := processRequest()
	seen := &events{}
	seen.on = func(e lifecycle.Event) {
		if e.Phase == deploy.PhasePull && e.Message != "preparing the image or installation" {
			cancel()
		}
	}
	wanted.Progress = seen.add
	_, err := lifecycle.Launch(ctx, r, wanted)
	_ = wantError(t, r, err)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want a cancellation\n%s", err, seen.text())
	}
	if left := r.machine.Root().Processes(); len(left) > 0 {
		t.Errorf("the installation goes on: %v", left)
	}
	r.facts(t, func(f *machinefs.Facts) { f.Speed = 300 })
	remove(t, r, launch(t, r, processRequest()))
}

// An installation that takes too long is ended, and the error says how far it was.
func TestInstallThatTakesTooLong(t *testing.T) {
	t.Parallel()
	facts := pod()
	facts.VLLM.Installed, facts.Speed = "", 0.1 // minutes to install
	r := newRig(t, facts)
	wanted := processRequest()
	wanted.Phases = lifecycle.Phases{deploy.PhasePreflight: 0.3, deploy.PhasePull: 0.1, deploy.PhaseStart: 0.2, deploy.PhaseLoad: 0.2, deploy.PhaseCompletion: 0.2}
	failed := launchFails(t, r, wanted, limit/2)
	if failed.Phase != deploy.PhasePull || !errors.Is(failed, context.DeadlineExceeded) || len(failed.Log) == 0 {
		t.Errorf("failed in %s with %v and the log %q", failed.Phase, failed.Err, failed.Log)
	}
	contains(t, failed.Description(), "The phase pull timed out after", "Last seen", "The log's last relevant lines", "Creating virtual environment")
	if left := r.machine.Root().Processes(); len(left) > 0 {
		t.Errorf("the installation goes on: %v", left)
	}
}

// An installation outlives the connection, and the next launch waits for it rather than begin another.
func TestInstallOutlivesTheConnection(t *testing.T) {
	t.Parallel()
	facts := pod()
	facts.VLLM.Installed, facts.Speed = "", 10 // four seconds to install
	r := newRig(t, facts)
	wanted := processRequest()
	seen := &events{}
	seen.on = func(e lifecycle.Event) {
		if e.Phase == deploy.PhasePull && strings.Contains(strings.Join(r.machine.CommandLog(), "\n"), "uv pip install") {
			_ = r.Client.Close()
		}
	}
	wanted.Progress = seen.add
	_, err := lifecycle.Launch(within(t, limit), r, wanted)
	if failed := wantError(t, r, err); failed.Phase != deploy.PhasePull {
		t.Fatalf("failed in %s: %v\n%s", failed.Phase, err, seen.text())
	}
	if left := r.machine.Root().Processes(); len(left) == 0 {
		t.Error("the installation ended with the connection")
	}
	r.Client = r.dial(t)
	remove(t, r, launch(t, r, processRequest()))
	if n := r.installs(); n != 1 {
		t.Errorf("installed %d times", n)
	}
}

// installs counts how often vLLM was installed on the machine.
func (r *rig) installs() int {
	count := 0
	for _, line := range r.machine.CommandLog() {
		if strings.HasPrefix(line, "uv pip install") {
			count++
		}
	}
	return count
}

func TestInstallNever(t *testing.T) {
	t.Parallel()
	r := newRig(t, pod())
	wanted := processRequest()
	wanted.Process.Version, wanted.Process.Install = "0.32.0", "never"
	failed := launchFails(t, r, wanted, limit)
	contains(t, failed.Description(), "0.32.0", "0.33.0", "process.install")
}

func TestInstallOfAReleaseThatDoesNotExist(t *testing.T) {
	t.Parallel()
	r := newRig(t, pod())
	wanted := processRequest()
	wanted.Process.Version = "99.0.0"
	failed := launchFails(t, r, wanted, limit)
	contains(t, failed.Description(), "release vllm==99.0.0 doesn't exist", "process.version")
	if len(failed.Log) == 0 {
		t.Error("the installation's log is missing")
	}
}

func TestPullFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, vm())
	r.engine.FailPull("write /var/lib/docker/tmp/x: no space left on device")
	failed := launchFails(t, r, request(), limit)
	if failed.Phase != deploy.PhasePull {
		t.Errorf("failed in %s", failed.Phase)
	}
	contains(t, failed.Description(), "disk is full", "disk_gb")
	r.engine.FailPull("")
	wanted := request()
	wanted.Container.PullPolicy = "never"
	contains(t, launchFails(t, r, wanted, limit).Description(), "pull_policy")
	wanted = request()
	wanted.Container.Image = "example/nothing:v1"
	failed = launchFails(t, r, wanted, limit)
	if failed.Cause == "" {
		t.Errorf("a tag that doesn't exist isn't explained: %s", failed.Description())
	}
}

// A pull that takes too long says how far it was, and so does the log while it runs.
func TestPullThatTakesTooLong(t *testing.T) {
	t.Parallel()
	r := newRig(t, vm())
	r.engine.SlowPull(30 * time.Second)
	wanted := request()
	wanted.Phases = lifecycle.Phases{deploy.PhasePreflight: 0.2, deploy.PhasePull: 0.1, deploy.PhaseStart: 0.3, deploy.PhaseLoad: 0.2, deploy.PhaseCompletion: 0.2}
	seen := &events{}
	wanted.Progress = seen.add
	failed := launchFails(t, r, wanted, limit/2)
	if failed.Phase != deploy.PhasePull || !errors.Is(failed, context.DeadlineExceeded) {
		t.Errorf("failed in %s with %v", failed.Phase, failed.Err)
	}
	contains(t, failed.Description(), "The phase pull timed out after", "Last seen: ", "layers ready")
	contains(t, seen.text(), "pull: ", " GB downloaded, ", "layers ready")
	r.clean(t)
}

// An engine that hangs when it is to start the container uses up that phase, and no other.
func TestStartThatTakesTooLong(t *testing.T) {
	t.Parallel()
	r := newRig(t, vm())
	seen := &events{on: func(e lifecycle.Event) {
		switch e.Message {
		case "starting the server":
			r.engine.Hang(true)
		case "removing what was started":
			r.engine.Hang(false)
		}
	}}
	wanted := request()
	wanted.Phases = lifecycle.Phases{deploy.PhasePreflight: 0.2, deploy.PhasePull: 0.1, deploy.PhaseStart: 0.05, deploy.PhaseLoad: 0.4, deploy.PhaseCompletion: 0.25}
	wanted.Progress = seen.add
	begun := time.Now()
	failed := launchFails(t, r, wanted, limit/3)
	if failed.Phase != deploy.PhaseStart || !errors.Is(failed, context.DeadlineExceeded) || time.Since(begun) > limit/4 {
		t.Errorf("failed in %s after %s with %v", failed.Phase, time.Since(begun), failed.Err)
	}
	contains(t, failed.Description(), "The phase start timed out after", "Last seen: starting the server")
	r.clean(t)
}

func TestEngineThatHangs(t *testing.T) {
	t.Parallel()
	r := newRig(t, vm())
	var once sync.Once
	seen := &events{on: func(e lifecycle.Event) {
		if e.Phase == deploy.PhaseLoad {
			once.Do(func() { r.engine.Hang(true) })
		}
	}}
	r.facts(t, func(f *machinefs.Facts) { f.VLLM.Load = time.Hour })
	wanted := request()
	wanted.Progress = seen.add
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := lifecycle.Launch(ctx, r, wanted)
		done <- err
	}()
	<-ctx.Done()
	r.engine.Hang(false)
	failed := wantError(t, r, <-done)
	if !errors.Is(failed, context.DeadlineExceeded) {
		t.Errorf("got %v", failed)
	}
	r.clean(t)
}

// Registry credentials reach the registry and nothing else.
func TestRegistryCredentials(t *testing.T) {
	t.Parallel()
	const password = "planted-registry-password"
	r := newRig(t, vm(), engine.Image{Ref: "registry.example/team/vllm:v0.33.0", Username: "me", Password: password})
	wanted := request()
	wanted.Container.Image = "registry.example/team/vllm:v0.33.0"
	wanted.Container.RegistryAuth = &container.RegistryAuth{Username: "me", Password: "wrong-" + password}
	failed := launchFails(t, r, wanted, limit)
	contains(t, failed.Description(), "registry_auth")
	wanted.Container.RegistryAuth.Password = password
	status := launch(t, r, wanted)
	for _, text := range append(r.machine.CommandLog(), failed.Description()) {
		if strings.Contains(text, password) {
			t.Errorf("the password is in %q", text)
		}
	}
	remove(t, r, status)
	// The image is there: the registry, which would refuse, is asked again only when that is wanted.
	wanted.Container.RegistryAuth.Password = "wrong"
	wanted.Container.PullPolicy = "missing"
	remove(t, r, launch(t, r, wanted))
	wanted.Container.PullPolicy = "always"
	contains(t, launchFails(t, r, wanted, limit).Description(), "registry_auth")
}

package lifecycle_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
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

// The disk for the image is the one of the engine's image directory, which may differ from Docker's.
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

// If neither runtime works, the findings are the container's, which is the first choice.
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

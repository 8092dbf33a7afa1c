package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// openProcess opens the process runtime and sets its release: the requested one, else the one that the machine has, else the newest
// that the machine's driver and GPUs support.
func (s *survey) openProcess(ctx context.Context, machine deploy.Machine) (*process.Host, error) {
	opened, err := process.At(machine, s.request.Process, s.home)
	if err != nil {
		return nil, err
	}
	if err = opened.Look(ctx, s.request.Spec.Env["CC"]); err != nil || opened.Program.Path != "" {
		return opened, err
	}
	if opened.Options.Version == "" {
		opened.Options.Version, s.picked = s.pickRelease().Version, true
	}
	opened.Program.Release = opened.Options.Version
	return opened, nil
}

// pickRelease is the release to install if none is requested: the newest that certainly runs, else the newest of the oldest CUDA if
// the driver is compatible with that, else the newest of all, which the findings then judge.
func (s *survey) pickRelease() vllm.Release {
	oldest := vllm.Releases()[0].Wheel
	for _, suits := range []func(vllm.Release) bool{
		func(r vllm.Release) bool { return s.suits(r, r.Wheel.Driver()) },
		func(r vllm.Release) bool { return r.Wheel == oldest && s.suits(r, r.Wheel.CompatibleDriver()) },
		func(vllm.Release) bool { return true },
	} {
		if release, ok := vllm.NewestRelease(suits); ok {
			return release
		}
	}
	return vllm.Release{}
}

// suits reports whether the GPUs have a driver of that branch or newer, and the release has kernels for them, as far as known.
func (s *survey) suits(release vllm.Release, branch int) bool {
	for _, gpu := range s.gpus {
		if has := branchOf(gpu); (has > 0 && has < branch) || !release.RunsOn(capabilityOf(gpu)) {
			return false
		}
	}
	return true
}

// branchOf is the branch of a GPU's driver, such as 580; 0 if unknown.
func branchOf(gpu deploy.GPU) int {
	major, _, _ := strings.Cut(gpu.DriverVersion, ".")
	branch, _ := strconv.Atoi(major)
	return branch
}

// capabilityOf is a GPU's compute capability; 0 if unknown.
func capabilityOf(gpu deploy.GPU) float64 {
	capability, _ := strconv.ParseFloat(gpu.ComputeCapability, 64)
	return capability
}

// build is the build of vLLM that the server will run.
type build struct {
	vllm.Release
	what string // its name in messages
	cuda vllm.CUDA
	// older says how to choose another release, with %s for its version.
	older     string
	container bool
}

// build is not ok if the release is unknown.
func (s *survey) build() (build, bool) {
	if r, ok := s.runtime.(*process.Host); ok {
		release, ok := vllm.FindRelease(r.Program.Release)
		return build{release, "vLLM " + r.Program.Release, release.Wheel, "set process.version = \"%s\"", false}, ok
	}
	image := s.request.Container.Image
	release, ok := vllm.FindImageRelease(image)
	return build{release, "image " + image, release.Image, "choose the image of v%s", true}, ok
}

// otherRelease is a clause with the newest release that suits the machine; "" if there is none.
func (s *survey) otherRelease(b build) string {
	other, ok := vllm.NewestRelease(func(r vllm.Release) bool {
		cuda := r.Wheel
		if b.container {
			cuda = r.Image
		}
		return s.suits(r, cuda.Driver())
	})
	if !ok {
		return ""
	}
	return fmt.Sprintf(", or "+b.older, other.Version)
}

// judgeRelease judges the build of vLLM by the machine's driver and GPUs.
func (s *survey) judgeRelease() []deploy.Finding {
	b, ok := s.build()
	if !ok || !s.wantsGPUs() || s.driverErr != nil {
		return nil
	}
	var findings []deploy.Finding
	for _, gpu := range s.gpus {
		if len(findings) == 0 { // GPUs share a driver
			findings = s.judgeDriverVersion(b, gpu)
		}
	}
	for _, gpu := range s.gpus {
		findings = append(findings, s.judgeKernels(b, gpu)...)
	}
	if s.picked && len(findings) == 0 && len(s.gpus) > 0 {
		findings = judgePicked(b, s.gpus[0])
	}
	return findings
}

// judgePicked warns of an older release that was picked for an old driver or GPU.
func judgePicked(b build, gpu deploy.GPU) []deploy.Finding {
	newest, _ := vllm.NewestRelease(func(vllm.Release) bool { return true })
	if b.Version == newest.Version {
		return nil
	}
	return one(deploy.Warning, codeVLLMVersion,
		fmt.Sprintf("vLLM %[3]s of %[4]s was chosen: it is the newest release that the machine (%[1]s, driver %[2]s) supports. Release"+
			" %[5]s needs driver %[6]d and compute capability %.1[7]f.",
			gpu.Name, gpu.DriverVersion, b.Version, b.Published, newest.Version, newest.Wheel.Driver(), newest.OldestGPU),
		"For a newer one "+driverWayOut(newest.Wheel)+". To keep this one, set process.version.")
}

// judgeDriverVersion compares a driver with the build's CUDA. An older driver than CUDA's still runs it with limits if it is
// compatible, but not in a container on GeForce, which then doesn't start.
func (s *survey) judgeDriverVersion(b build, gpu deploy.GPU) []deploy.Finding {
	needed, has := b.cuda.Driver(), branchOf(gpu)
	if has == 0 || has >= needed {
		return nil
	}
	fact := fmt.Sprintf("The machine's NVIDIA driver is %s, and %s (CUDA %s) needs %d or newer.", gpu.DriverVersion, b.what, b.cuda, needed)
	geForce := strings.Contains(gpu.Name, "GeForce")
	helped := !geForce && s.request.Spec.Env["VLLM_ENABLE_CUDA_COMPATIBILITY"] == "1"
	refused := b.container && geForce && !b.GeForce
	way := driverWayOut(b.cuda) + s.otherRelease(b)
	if b.container && !geForce && !helped {
		way += ", or set VLLM_ENABLE_CUDA_COMPATIBILITY = \"1\" in env (datacenter GPUs only)"
	}
	if way += ", or install a newer driver on the machine."; !refused && (helped || has >= b.cuda.CompatibleDriver()) {
		return one(deploy.Warning, codeDriverVersion, fact, "It may start and then fail with \"PTX was compiled with an unsupported"+
			" toolchain\". If so: "+way)
	}
	return one(deploy.Blocking, codeDriverVersion, fact, strings.ToUpper(way[:1])+way[1:])
}

// driverWayOut says which requirement of a session leads to a suitable driver.
func driverWayOut(cuda vllm.CUDA) string {
	return fmt.Sprintf("require min_cuda_version = %s of the session (only Vast.ai reports it; on another cloud, exclude this offer"+
		" with exclude_offers)", cuda)
}

// judgeKernels judges whether the release has kernels for a GPU.
func (s *survey) judgeKernels(b build, gpu deploy.GPU) []deploy.Finding {
	if b.RunsOn(capabilityOf(gpu)) {
		return nil
	}
	age := "a newer"
	if capabilityOf(gpu) > b.NewestGPU {
		age = "an older"
	}
	return one(deploy.Blocking, codeCapability,
		fmt.Sprintf("%s; %s has kernels for %.1f to %.1f.", capabilityFact(gpu), b.what, b.OldestGPU, b.NewestGPU),
		fmt.Sprintf("Rent %s GPU%s.", age, s.otherRelease(b)))
}

// bfloat16Capability is the compute capability that bfloat16 needs (vllm/platforms/cuda.py, check_if_supports_dtype).
const bfloat16Capability = 8.0

// judgeDType judges whether a GPU supports the dtype.
func (s *survey) judgeDType(gpu deploy.GPU) []deploy.Finding {
	capability, dtype := capabilityOf(gpu), s.request.Spec.DType
	switch {
	case capability == 0 || capability >= bfloat16Capability:
	case dtype == "bfloat16":
		return one(deploy.Blocking, codeCapability, capabilityFact(gpu)+"; bfloat16 needs 8.0 or newer.", "Set dtype = \"half\", or rent an Ampere GPU or later.")
	case dtype == "" || dtype == "auto":
		return one(deploy.Warning, codeCapability, capabilityFact(gpu)+"; a checkpoint in bfloat16 needs 8.0 or newer.",
			"If the start fails on it, set dtype = \"half\".")
	}
	return nil
}

func capabilityFact(gpu deploy.GPU) string {
	return fmt.Sprintf("GPU %d (%s) has compute capability %s", gpu.Index, gpu.Name, gpu.ComputeCapability)
}

// usable are the GPUs that the server will see: the container's, and of them those in CUDA_VISIBLE_DEVICES.
func (s *survey) usable(gpus []deploy.GPU) []deploy.GPU {
	if s.request.Runtime != deploy.Process {
		gpus = s.request.Container.Given(gpus)
	}
	if list, set := s.request.Spec.Env[visibleDevices]; set {
		return visible(gpus, list)
	}
	return gpus
}

// visibleDevices is the environment variable that hides GPUs from a program.
const visibleDevices = "CUDA_VISIBLE_DEVICES"

// visible are the GPUs that CUDA shows a program with that list (CUDA's programming guide). The list has indices into gpus, and UUIDs
// or beginnings of them; the first invalid entry ends it. With parts of a GPU (MIG) all GPUs are visible.
func visible(gpus []deploy.GPU, list string) []deploy.GPU {
	if strings.Contains(list, "MIG-") {
		return gpus
	}
	var chosen []deploy.GPU
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		at, err := strconv.Atoi(name)
		if err != nil {
			at = slices.IndexFunc(gpus, func(gpu deploy.GPU) bool {
				return strings.HasPrefix(name, "GPU-") && strings.HasPrefix(gpu.UUID, name)
			})
		}
		if at < 0 || at >= len(gpus) {
			break
		}
		chosen = append(chosen, gpus[at])
	}
	return chosen
}

// useAllGPUs spreads the model over as many GPUs as vLLM can, unless the request says over how many.
func (s *survey) useAllGPUs() {
	spec := &s.request.Spec
	if spec.TensorParallelSize != 0 || len(s.gpus) < 2 || s.replicates() {
		return
	}
	shape, _ := vllm.Lookup(spec.Model)
	if size := vllm.LargestTensorParallel(shape, len(s.gpus)/max(1, spec.PipelineParallelSize)); size > 1 {
		spec.TensorParallelSize = size
	}
}

// replicates reports whether the user's flags spread replicas of the model over GPUs.
func (s *survey) replicates() bool { return s.hasFlag("--data-parallel-size", "-dp") }

// judgeIdle warns of GPUs that are paid for and not used.
func (s *survey) judgeIdle() []deploy.Finding {
	used, all := s.gpusNeeded(), len(s.gpus)
	if !s.wantsGPUs() || used >= all || s.replicates() {
		return nil
	}
	spec := s.request.Spec
	shape, _ := vllm.Lookup(spec.Model)
	size := vllm.LargestTensorParallel(shape, all)
	for all%size != 0 {
		size /= 2
	}
	way := fmt.Sprintf("Rent a machine with %d, or use all: tensor_parallel_size = %d with pipeline_parallel_size = %d, or, if the"+
		" model fits into %d, %d replicas (args = [\"--data-parallel-size\", \"%d\"] with tensor_parallel_size = %d).",
		used, size, all/size, size, all/size, all/size, size)
	if size == all {
		way = fmt.Sprintf("Rent a machine with %d, or set tensor_parallel_size = %d.", used, size)
	}
	return one(deploy.Warning, codeGPUsIdle, fmt.Sprintf("%d of %d GPUs would be idle: tensor_parallel_size times pipeline_parallel_size is %d.",
		all-used, all, used), way+" Hide them with "+visibleDevices+" in env if other programs use them.")
}

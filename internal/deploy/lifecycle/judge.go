package lifecycle

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

const (
	gib = 1 << 30
	// imageBytes is the approximate size of an unpacked image of vLLM, and installedBytes the measured size of an installation of
	// 0.33.0 (199 packages).
	imageBytes     = 25e9
	installedBytes = 8.9e9
	// Weights estimated at more than certainly times a GPU's memory don't fit, whatever the estimate's error.
	certainly = 1.15
)

// judge returns the survey's findings, blocking ones first. It sends nothing to the machine.
func (s *survey) judge() []deploy.Finding {
	var findings []deploy.Finding
	for _, rule := range []func() []deploy.Finding{
		s.judgeRuntime, s.judgeTools, s.judgeDriver, s.judgeRelease, s.judgeGPUs, s.judgeIdle, s.judgeModel, s.judgeHeldMemory,
		s.judgePort, s.judgeDisk, s.judgeHub,
	} {
		findings = append(findings, rule()...)
	}
	s.request.overrule(findings)
	slices.SortStableFunc(findings, func(a, b deploy.Finding) int {
		return strings.Compare(string(a.Severity), string(b.Severity)) // "error", then "warning"
	})
	return findings
}

// blocks reports whether one of the findings stops the launch.
func blocks(findings []deploy.Finding) bool {
	return slices.ContainsFunc(findings, func(f deploy.Finding) bool { return f.Severity == deploy.Blocking })
}

func one(severity deploy.Severity, code, fact, wayOut string) []deploy.Finding {
	return []deploy.Finding{{Severity: severity, Code: code, Fact: fact, WayOut: wayOut}}
}

// gpuCount is a number of GPUs in words.
func gpuCount(n int) string {
	if n == 1 {
		return "1 GPU"
	}
	return fmt.Sprintf("%d GPUs", n)
}

func (s *survey) judgeRuntime() []deploy.Finding {
	if s.runtime == nil {
		if s.engineErr == nil || s.lacksEngine {
			return nil // there was no look, or the engine will be installed
		}
		e := explained(&deploy.Error{Err: s.engineErr})
		if errors.Is(e, container.ErrNoEngine) {
			e.WayOut = s.wayToEngine(e.WayOut)
		}
		return one(deploy.Blocking, codeDocker, e.Cause, e.WayOut)
	}
	r, ok := s.runtime.(*container.Engine)
	if !ok {
		return nil
	}
	var findings []deploy.Finding
	facts := r.Facts
	if s.noNetwork {
		findings = one(deploy.Blocking, codeDocker, "The container engine's bridge network is turned off, so that nothing reaches a container.",
			"Start dockerd without `--bridge none` (in /etc/docker/daemon.json: without \"bridge\": \"none\"), or use runtime = \"process\".")
	}
	if s.wantsGPUs() && facts.GPUs == container.NoGPUs && !s.lacksEngine {
		findings = append(findings, one(deploy.Blocking, codeDockerGPU, "The container engine ("+facts.Name+") has neither NVIDIA's runtime nor CDI devices for GPUs.",
			s.wayToEngine("Install NVIDIA's container toolkit on the machine and restart the engine (for Podman: `nvidia-ctk cdi generate"+
				" --output=/etc/cdi/nvidia.yaml`), or use runtime = \"process\"."))...)
	}
	if facts.NotAtBoot {
		findings = append(findings, one(deploy.Warning, codeBoot, facts.Name+" is not set up to start containers when the machine boots.",
			"Enable its service podman-restart (`systemctl enable podman-restart.service`, with --user for a user's own Podman, which"+
				" needs `loginctl enable-linger` too); otherwise the next apply after a reboot starts the server.")...)
	}
	if text := s.request.Container.CacheWarning(); text != "" {
		findings = append(findings, one(deploy.Warning, codeUser, text, "Use a user of group 0, such as 2000:0.")...)
	}
	return findings
}

// wayToEngine says how to get an engine for GPUs: by having it installed, if that is possible.
func (s *survey) wayToEngine(otherwise string) string {
	switch {
	case s.installable && !s.request.Container.InstallEngine:
		return "Set container.install_engine = true to have Docker and NVIDIA's container toolkit installed, or use runtime = \"process\"."
	case !s.installable && s.request.Container.InstallEngine:
		return "None can be installed: the machine is a container itself, as Vast.ai's are, or has no systemd. Use runtime = \"process\"."
	}
	return otherwise
}

func (s *survey) judgeDriver() []deploy.Finding {
	if !s.wantsGPUs() || s.driverErr == nil {
		return nil
	}
	fact := "The machine's NVIDIA driver doesn't work: " + s.driverErr.Error() + "."
	if s.waited > 0 {
		fact += fmt.Sprintf(" It did not come up in the %s that preflight waited for it.", s.waited.Round(time.Second))
	}
	return one(deploy.Blocking, codeDriver, fact,
		"If the driver is still being built (some clouds do that for up to 25 minutes after boot), raise the timeout; "+
			"otherwise install it, or rent a machine whose image has it.")
}

func (s *survey) judgeGPUs() []deploy.Finding {
	if !s.wantsGPUs() || s.driverErr != nil {
		return nil
	}
	if len(s.gpus) == 0 {
		if len(s.allGPUs) > 0 {
			return one(deploy.Blocking, codeGPU, fmt.Sprintf("The machine has %s, but container.gpus and %s in env leave none for the server.",
				gpuCount(len(s.allGPUs)), visibleDevices), "Check container.gpus and "+visibleDevices+".")
		}
		return one(deploy.Blocking, codeGPU, "nvidia-smi works and lists no GPU.", "Rent another machine; this one has lost its GPU.")
	}
	if need := s.gpusNeeded(); need > len(s.gpus) {
		return one(deploy.Blocking, codeGPUCount,
			fmt.Sprintf("tensor_parallel_size times pipeline_parallel_size is %d, and the server gets %s.", need, gpuCount(len(s.gpus))),
			"Lower tensor_parallel_size, or rent a machine with more GPUs.")
	}
	var findings []deploy.Finding
	for _, gpu := range s.gpus {
		findings = append(findings, s.judgeDType(gpu)...)
	}
	return findings
}

func (s *survey) gpusNeeded() int {
	return max(1, s.request.Spec.TensorParallelSize) * max(1, s.request.Spec.PipelineParallelSize)
}

// judgeModel judges whether the model's estimated memory, or the user's own figure, fits into the smallest GPU.
func (s *survey) judgeModel() []deploy.Finding {
	smallest := s.smallestGPU()
	if own := s.request.MinVRAMGiB; own != nil {
		if *own <= math.Ceil(smallest) { // a GPU of 24 GB has a little less than 24 GiB
			return nil
		}
		return one(deploy.Blocking, codeMemory, fmt.Sprintf("min_vram_gib asks for GPUs of %v GiB, and the smallest has %.1f GiB.", *own, smallest),
			"Rent larger GPUs, or lower min_vram_gib.")
	}
	need, ok := s.estimate()
	if !ok || need.Fits(smallest) {
		return nil
	}
	where, has := "of GPU memory", "the GPU has"
	if need.GPUs > 1 {
		where, has = fmt.Sprintf("on each of %d GPUs", need.GPUs), "the smallest has"
	}
	fact := fmt.Sprintf("%s needs about %.1f GiB %s (weights %.1f, one sequence of %d tokens %.1f), and %s %.1f GiB.",
		s.request.Spec.Model, need.TotalGiB, where, need.WeightsGiB, need.ContextLength, need.KVCacheGiB, has, smallest)
	if need.WeightsGiB > smallest*certainly && !s.offloads() {
		return one(deploy.Blocking, codeMemory, fact, "Rent larger or more GPUs, or choose a quantized model. Where the estimate is wrong,"+
			" set min_vram_gib to your own figure, or to 0 for none.")
	}
	return one(deploy.Warning, codeMemory, fact, "If the start fails, lower max_model_len, rent larger or more GPUs, or choose a quantized model.")
}

// smallestGPU is the memory of the smallest usable GPU in GiB, infinite if unknown.
func (s *survey) smallestGPU() float64 {
	smallest := math.Inf(1)
	for _, gpu := range s.gpus {
		if gpu.MemoryMiB > 0 {
			smallest = min(smallest, float64(gpu.MemoryMiB)/1024)
		}
	}
	return smallest
}

// estimate is the memory that the model needs. It is not ok for an unknown model.
func (s *survey) estimate() (vllm.MemoryNeed, bool) {
	spec := s.request.Spec
	shape, ok := vllm.Lookup(spec.Model)
	if !ok {
		return vllm.MemoryNeed{}, false
	}
	b, _ := s.build() // an unknown release is taken for a new one
	need, err := vllm.Estimate(shape, vllm.MemoryOptions{
		Quantization: spec.Quantization, ContextLength: spec.MaxModelLen, TensorParallelSize: spec.TensorParallelSize,
		PipelineParallelSize: spec.PipelineParallelSize, GPUMemoryUtilization: spec.GPUMemoryUtilization,
		KVCacheDType: spec.KVCacheDType, BatchedTokens: s.batchedTokens(),
		NoGraphs: s.hasFlag("--enforce-eager") || !vllm.CountsGraphs(b.Version),
	})
	return need, err == nil && need.WeightsGiB > 0
}

// batchedTokens is the server's limit of tokens in a batch.
func (s *survey) batchedTokens() int {
	flag, _ := s.request.Spec.Extra("--max-num-batched-tokens")
	if given, err := strconv.Atoi(flag); err == nil && given > 0 {
		return given
	}
	smallest := s.smallestGPU()
	if math.IsInf(smallest, 1) || strings.Contains(s.gpus[0].Name, "A100") {
		smallest = 0
	}
	return vllm.DefaultBatchedTokens(smallest)
}

// offloads reports whether the user's flags put weights elsewhere: into the machine's memory, or experts on other GPUs.
func (s *survey) offloads() bool {
	return s.hasFlag("--enable-expert-parallel") ||
		slices.ContainsFunc(s.request.Spec.ExtraArgs, func(arg string) bool { return strings.Contains(arg, "offload") })
}

// utilization is the share of a GPU that vLLM takes.
func (s *survey) utilization() float64 {
	return cmp.Or(s.request.Spec.GPUMemoryUtilization, vllm.DefaultGPUMemoryUtilization)
}

// memoryHeld reports whether a usable GPU lacks free memory.
func (s *survey) memoryHeld() bool { return slices.ContainsFunc(s.gpus, s.lacks) }

// lacks reports whether a GPU has less free memory than vLLM takes at its start.
func (s *survey) lacks(gpu deploy.GPU) bool {
	return gpu.MemoryMiB > 0 && float64(gpu.MemoryMiB-gpu.UsedMiB) < s.utilization()*float64(gpu.MemoryMiB)
}

// judgeHeldMemory judges memory that something else holds. The deployment's own server is replaced or adopted.
func (s *survey) judgeHeldMemory() []deploy.Finding {
	if slices.ContainsFunc(s.own, func(own deploy.Status) bool { return own.State.Alive() }) {
		return nil
	}
	var findings []deploy.Finding
	lacking := 0
	for _, gpu := range s.gpus {
		if !s.lacks(gpu) {
			continue
		}
		lacking++
		fact := fmt.Sprintf("Of GPU %d's %d MiB only %d are free, and vLLM takes %.0f %% at its start.",
			gpu.Index, gpu.MemoryMiB, gpu.MemoryMiB-gpu.UsedMiB, s.utilization()*100)
		if holders := s.holders(gpu); holders != "" {
			fact += " Held by " + holders + "."
		}
		share := math.Floor(float64(gpu.MemoryMiB-gpu.UsedMiB)/float64(gpu.MemoryMiB)*100-1) / 100
		findings = append(findings, deploy.Finding{
			Severity: deploy.Blocking, Code: codeMemoryHeld, Fact: fact,
			WayOut: fmt.Sprintf("End what holds it, choose another GPU, or set gpu_memory_utilization to at most %.2f.", max(share, 0)),
		})
	}
	// With enough other GPUs free, vLLM may take those.
	if len(s.gpus)-lacking >= s.gpusNeeded() {
		for i := range findings {
			findings[i].Severity = deploy.Warning
		}
	}
	return findings
}

func (s *survey) holders(gpu deploy.GPU) string {
	var names []string
	for _, user := range s.users {
		if user.GPU == gpu.UUID && len(names) < 5 {
			names = append(names, user.String())
		}
	}
	return strings.Join(names, ", ")
}

func (s *survey) judgePort() []deploy.Finding {
	port := s.request.Spec.ListenPort()
	if !s.portBusy || slices.ContainsFunc(s.own, func(own deploy.Status) bool { return own.State.Alive() && own.Port == port }) {
		return nil
	}
	holder := cmp.Or(s.portHolder, "another program, which only root can identify")
	return one(deploy.Blocking, codePort, fmt.Sprintf("Port %d of the machine is taken by %s.", port, holder),
		"Choose another port, or end that program.")
}

func (s *survey) judgeDisk() []deploy.Finding {
	if s.runtime == nil {
		return nil
	}
	image, least := s.installation()
	weights := 0.0
	if need, ok := s.estimate(); ok {
		weights = need.WeightsGiB * float64(max(need.GPUs, 1)) * gib
	}
	if s.imageDisk.mount == s.weightsDisk.mount {
		return s.judgeRoom(s.imageDisk, image, least, weights)
	}
	return append(s.judgeRoom(s.imageDisk, image, least, 0), s.judgeRoom(s.weightsDisk, 0, 0, weights)...)
}

// installation is how much of the disk vLLM takes, about and at least, in bytes; 0 if it is installed already.
func (s *survey) installation() (about, least float64) {
	r, isProcess := s.runtime.(*process.Host)
	switch {
	case isProcess && r.Program.Path == "":
		return installedBytes, installedBytes
	case isProcess || s.hasImage:
		return 0, 0
	}
	return imageBytes, imageBytes / 5
}

// judgeRoom judges whether image and weights, in bytes, fit on a disk.
func (s *survey) judgeRoom(on disk, image, least, weights float64) []deploy.Finding {
	if on.free < 0 || float64(on.free) >= image+weights {
		return nil
	}
	fact := fmt.Sprintf("The machine's disk at %s has %.1f GB free;", cmp.Or(on.mount, "/"), float64(on.free)/1e9)
	switch {
	case weights == 0:
		fact += fmt.Sprintf(" vLLM takes about %.1f GB.", image/1e9)
	case image == 0:
		fact += fmt.Sprintf(" the model's weights take about %.1f GB.", weights/1e9)
	default:
		fact += fmt.Sprintf(" vLLM takes about %.1f GB and the model's weights about %.1f GB.", image/1e9, weights/1e9)
	}
	// Weights of an earlier start need no more room, and may be on the disk already.
	severity := deploy.Warning
	if len(s.own) == 0 && image > 0 && float64(on.free) < max(weights, least) {
		severity = deploy.Blocking
	}
	return one(severity, codeDisk, fact, "Rent a machine with a larger disk (disk_gb), or make room.")
}

func (s *survey) judgeHub() []deploy.Finding {
	if s.hubErr == nil {
		return nil
	}
	return one(deploy.Warning, codeHub, fmt.Sprintf("The machine can't reach the model hub (%v).", s.hubErr),
		"If the model isn't in the machine's cache, the start will fail: check the machine's network, or set HF_ENDPOINT or HTTPS_PROXY in env.")
}

// judgeTools judges whether tools are missing that can't be installed.
func (s *survey) judgeTools() []deploy.Finding {
	r, ok := s.runtime.(*process.Host)
	if !ok {
		return nil
	}
	packages := r.Tools.Missing(r.Program.Path == "")
	if len(packages) == 0 || (r.Tools.Apt && r.Options.Install != process.InstallNever) {
		return nil
	}
	var lacks []string
	if r.Tools.Compiler == "" {
		lacks = append(lacks, "a C compiler, which vLLM's start uses (Triton)")
	}
	if r.Program.Path == "" && !r.Tools.Pip {
		lacks = append(lacks, "pip, which installs uv")
	}
	because := "packages can't be installed: there is no apt-get, or no root and no sudo without a password"
	if r.Tools.Apt {
		because = "process.install is \"never\""
	}
	return one(deploy.Blocking, codeTools, fmt.Sprintf("The machine lacks %s, and %s.", strings.Join(lacks, " and "), because),
		fmt.Sprintf("Install what is missing, in the image or, on Vast.ai, with on_start_cmd = \"apt-get update && "+
			"DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends %s\".", strings.Join(packages, " ")))
}

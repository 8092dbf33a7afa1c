package vllmserver

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	recorded "github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// plan is what a start has found out about the model and the GPUs.
type plan struct {
	folder      *folder // nil for a model of the hub
	shape       recorded.Model
	model       string
	quant       string
	maxLen      int
	utilization float64
	tp, pp      int
	gpus        []int // indices on the machine, one for each worker
	weightsGiB  float64
	cacheGiB    float64 // per GPU, for the KV cache
	perTokenKiB float64 // per GPU
}

const gib = 1024.0 // in MiB

// findModel reads the model's configuration.
func (r *run) findModel() error {
	p := &r.plan
	p.model = r.opts.model()
	p.utilization = r.opts.fraction("gpu-memory-utilization", 0.92)
	p.tp, p.pp = r.opts.number("tensor-parallel-size", 1), r.opts.number("pipeline-parallel-size", 1)
	if err := r.checkBounds(); err != nil {
		return err
	}
	if folder := r.folder(); folder != nil {
		if err := folder.check(r); err != nil {
			return err
		}
		p.shape, p.folder, p.quant = folder.shape(), folder, folder.config.Quantization.Method
		return nil
	}
	if err := r.checkModel(r.place.latest().VLLM.AnyModel); err != nil {
		return err
	}
	p.shape, p.quant = shapeOf(p.model), quantMethod(p.model)
	return nil
}

// configure makes the checks that need no GPU, in vLLM's order.
func (r *run) configure() error {
	p := &r.plan
	if err := r.checkQuantization(r.place.latest()); err != nil {
		return err
	}
	if err := r.checkLength(); err != nil {
		return err
	}
	if p.shape.Heads%p.tp != 0 {
		return r.fail("heads_not_divisible", "heads", fmt.Sprintf("heads (%d)", p.shape.Heads), "tp", fmt.Sprintf("size (%d)", p.tp))
	}
	if err := r.checkScheduler(); err != nil {
		return err
	}
	if world := p.tp * p.pp; world > len(r.place.visible) {
		return r.fail("world_size", "world", strconv.Itoa(world), "gpus", strconv.Itoa(len(r.place.visible)))
	}
	p.gpus = r.place.visible[:p.tp*p.pp]
	return nil
}

// checkBounds makes the checks that pydantic makes from the fields' types.
func (r *run) checkBounds() error {
	p := r.plan
	value := strconv.FormatFloat(p.utilization, 'g', -1, 64)
	switch {
	case p.utilization <= 0:
		return r.fail("utilization", "problem", "greater than 0", "type", "greater_than", "value", value, "input", "float")
	case p.utilization > 1:
		return r.fail("utilization", "problem", "less than or equal to 1", "type", "less_than_equal", "value", value, "input", "float")
	}
	for field, n := range map[string]int{"tensor_parallel_size": p.tp, "pipeline_parallel_size": p.pp} {
		if n < 1 {
			return r.fail("parallel_size", "field", field, "problem", "greater than or equal to 1", "type", "greater_than_equal", "value", strconv.Itoa(n), "input", "int")
		}
	}
	return nil
}

// checkModel makes the checks of the hub.
func (r *run) checkModel(anyModel bool) error {
	model, token := r.plan.model, cmp.Or(r.place.env["HF_TOKEN"], r.opts.text("hf-token"))
	switch {
	case anyModel:
	case !exists(model):
		return r.fail("model_unknown", "model", model)
	case isGated(model) && (token == "" || strings.Contains(token, "bad") || strings.Contains(token, "noaccess")):
		return r.gated(model, token)
	}
	if revision := r.opts.text("revision"); strings.Contains(revision, "nosuch") {
		return r.fail("revision", "revision", revision, "model", model)
	}
	s := shapeOf(model)
	if s.RemoteCode && !r.opts.on("trust-remote-code") {
		return r.fail("trust_remote_code", "model", model)
	}
	if s.Since != "" && !r.place.atLeast(s.Since) {
		return r.fail("architecture", "arch", s.Architecture)
	}
	return nil
}

func (r *run) checkQuantization(facts machinefs.Facts) error {
	p := &r.plan
	asked := r.opts.text("quantization")
	if asked != "" && asked != "None" {
		_, known := recorded.FindQuantization(asked)
		switch {
		case !known:
			return r.fail("quantization_unknown", "asked", asked)
		case p.quant != "" && strings.TrimSuffix(asked, "_marlin") != p.quant:
			return r.fail("quantization_mismatch", "checkpoint", p.quant, "asked", asked)
		}
		if needsFile[strings.TrimSuffix(asked, "_marlin")] && p.quant == "" {
			return r.fail("bad-quantization", "asked", "file for "+asked)
		}
		p.quant = asked
	}
	perParam := 2.0
	if p.quant != "" {
		method, _ := recorded.FindQuantization(p.quant)
		perParam = method.Bytes
		if have := capability(facts.GPUs[r.place.visible[0]]); have < method.Capability {
			return r.fail("quantization_capability", "method", p.quant, "minimum", strconv.Itoa(method.Capability), "have", strconv.Itoa(have))
		}
	}
	p.weightsGiB = p.shape.Billions * 1e9 * perParam / (1 << 30) / float64(p.tp*p.pp)
	return nil
}

func (r *run) checkLength() error {
	p := &r.plan
	p.maxLen = r.opts.number("max-model-len", p.shape.Context)
	if p.maxLen <= 0 {
		p.maxLen = p.shape.Context
	}
	if p.maxLen > p.shape.Context && r.place.env["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] != "1" {
		return r.fail("max_model_len", "asked", strconv.Itoa(p.maxLen), "derived", strconv.Itoa(p.shape.Context))
	}
	cacheBytes := 2.0
	if strings.HasPrefix(r.opts.text("kv-cache-dtype"), "fp8") {
		cacheBytes = 1
	}
	if p.shape.KVKiB > 0 {
		p.perTokenKiB = p.shape.KVKiB * cacheBytes / 2 / float64(p.pp)
		return nil
	}
	heads := max(1, float64(p.shape.KVHeads)/float64(p.tp))
	p.perTokenKiB = 2 * float64(p.shape.Layers) * heads * float64(p.shape.HeadDim) * cacheBytes / 1024 / float64(p.pp)
	return nil
}

// openDevices checks the driver and the GPUs.
func (r *run) openDevices() error {
	facts := r.place.latest()
	if err := r.checkDriver(facts); err != nil {
		return err
	}
	for worker, index := range r.plan.gpus {
		gpu := facts.GPUs[index]
		if dtype := r.opts.text("dtype"); dtype == "bfloat16" && capability(gpu) < 80 {
			return r.fail("bfloat16", "gpu", gpu.Name, "have", gpu.ComputeCapability)
		}
		total, free := r.memory(facts, index)
		if free < r.plan.utilization*total {
			return r.fail("gpu_memory_held", "gpu", strconv.Itoa(worker), "free", twoDigits(free), "total", twoDigits(total),
				"utilization", strconv.FormatFloat(r.plan.utilization, 'g', -1, 64), "desired", twoDigits(r.plan.utilization*total))
		}
	}
	return nil
}

// checkDriver refuses a driver that is too old for the release's CUDA: releases since
// 0.20.0 are built for CUDA 13, and need R580.
func (r *run) checkDriver(facts machinefs.Facts) error {
	major := recorded.Numbers(facts.DriverVersion)[0] // 0 = unknown
	if major == 0 || major >= 580 || !r.place.atLeast("0.20.0") {
		return nil
	}
	if r.place.env["VLLM_ENABLE_CUDA_COMPATIBILITY"] == "1" && major >= 535 {
		if strings.Contains(facts.GPUs[r.plan.gpus[0]].Name, "GeForce") {
			return r.fail("forward_compatibility")
		}
		return nil
	}
	return r.fail("driver_too_old", "found", strconv.Itoa(cudaNumber(facts.CUDAVersion)))
}

// loadWeights checks that the weights exist and fit the GPUs.
func (r *run) loadWeights() error {
	if folder := r.plan.folder; folder != nil {
		if err := folder.checkWeights(r); err != nil {
			return err
		}
	}
	facts := r.place.latest()
	for worker, index := range r.plan.gpus {
		total, free := r.memory(facts, index)
		if r.plan.weightsGiB > free-0.5 {
			return r.fail("out_of_memory", "gpu", strconv.Itoa(worker), "total", twoDigits(total), "used", twoDigits(total-0.31))
		}
	}
	return r.claim(facts, func(float64) float64 { return r.plan.weightsGiB })
}

// sizeCache computes the size of the KV cache.
func (r *run) sizeCache() error {
	facts := r.place.latest()
	p := &r.plan
	p.cacheGiB = 1e9
	for _, index := range p.gpus {
		total := float64(facts.GPUs[index].MemoryMiB) / gib
		activations := 1.2 + 0.02*p.weightsGiB
		p.cacheGiB = min(p.cacheGiB, total*p.utilization-p.weightsGiB-activations)
	}
	if p.cacheGiB <= 0 {
		return r.fail("no_cache_memory")
	}
	need := p.perTokenKiB * float64(p.maxLen) / (1 << 20)
	if r.opts.text("max-model-len") == "auto" || r.opts.text("max-model-len") == "-1" {
		p.maxLen = min(p.maxLen, r.cacheTokens())
	} else if need > p.cacheGiB {
		return r.fail("cache_too_small", "asked", strconv.Itoa(p.maxLen), "need", twoDigits(need),
			"have", twoDigits(p.cacheGiB)+" GiB", "maximum", strconv.Itoa(r.cacheTokens()))
	}
	return r.claim(facts, func(total float64) float64 { return total * p.utilization })
}

// cacheTokens is how many tokens the KV cache holds, in blocks of 16.
func (r *run) cacheTokens() int {
	return int(r.plan.cacheGiB*(1<<20)/r.plan.perTokenKiB) / 16 * 16
}

// memory returns a GPU's memory in GiB, and what of it no other process holds.
func (r *run) memory(facts machinefs.Facts, index int) (total, free float64) {
	held := facts.GPUs[index].HeldMiB
	var claims []machinefs.Claim
	if r.place.root != "" {
		claims, _ = r.place.root.Claims() // none once the machine is gone
	}
	for _, claim := range claims {
		if claim.PID != os.Getpid() {
			held += claim.MiB[index]
		}
	}
	total = float64(facts.GPUs[index].MemoryMiB) / gib
	return total, total - float64(held)/gib
}

// claim records the memory that the run holds on each of its GPUs.
func (r *run) claim(facts machinefs.Facts, perGPU func(totalGiB float64) float64) error {
	if r.place.root == "" {
		return nil
	}
	c := machinefs.Claim{PID: os.Getpid(), Name: "VLLM::EngineCore", MiB: map[int]int{}}
	for _, index := range r.plan.gpus {
		c.MiB[index] = int(perGPU(float64(facts.GPUs[index].MemoryMiB)/gib) * gib)
	}
	r.claimed = c
	return r.place.root.SetClaim(c)
}

// servesNow records that the run begins to serve.
func (r *run) servesNow() {
	if r.claimed.PID != 0 {
		r.claimed.Ready = time.Now()
		_ = r.place.root.SetClaim(r.claimed) // the machine may be ending
	}
}

// needsFile are the quantization methods whose parameters are in a file of the checkpoint.
var needsFile = map[string]bool{"awq": true, "gptq": true}

// gated is the hub's refusal, by the token: none, an unknown one, or one whose owner has not
// accepted the model's terms.
func (r *run) gated(model, token string) error {
	switch {
	case strings.Contains(token, "noaccess"):
		return r.fail("gated_model", "model", model, "code", "403", "why",
			fmt.Sprintf("Access to model %s is restricted and you are not in the authorized list. Visit https://huggingface.co/%s to ask for access.", model, model))
	case token != "":
		return r.fail("gated_model", "model", model, "why", "Invalid credentials in Authorization header")
	}
	return r.fail("gated_model", "model", model, "why",
		fmt.Sprintf("Access to model %s is restricted. You must have access to it and be authenticated to access it. Please log in.", model))
}

func twoDigits(gib float64) string { return strconv.FormatFloat(gib, 'f', 2, 64) }

// capability is a GPU's compute capability times ten, such as 86 for 8.6; 90 if it is
// unknown.
func capability(gpu machinefs.GPU) int {
	f, err := strconv.ParseFloat(gpu.ComputeCapability, 64)
	if err != nil {
		return 90
	}
	return int(f*10 + 0.5)
}

// cudaNumber writes a CUDA version as CUDA's own functions do: 12.4 is 12040.
func cudaNumber(version string) int {
	major, minor, _ := strings.Cut(version, ".")
	a, _ := strconv.Atoi(major)
	b, _ := strconv.Atoi(minor)
	return a*1000 + b*10
}
